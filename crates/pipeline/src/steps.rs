//! The steps of a conversion: which there are, which of them a run does, and what each needs.

use super::finish::SmallFiles;
use super::packages::{of_record, relative_path};
use super::report::PackageReport;
use super::weight_record;
use crate::request::{ConvertRequest, NONE};
use anemll_codes as codes;
use anemll_conversion::{META, shipped};
use anemll_layout::CheckedLayout;
use anemll_plugin_api::data::{Layout, PackageKind, PackageSpec, Step};
use anemll_plugin_api::{Error, Result};
use anemll_store::{OutputName, StepRecord, View};
use std::path::PathBuf;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Makes the packages that the layout puts into it.
    Packages,
    /// Compiles the packages that ship.
    Compile,
    /// Writes meta.yaml, and copies the tokenizer and its kin.
    Files,
    /// Makes the packages for evaluation, and runs a few tokens.
    Test,
}

/// Steps that a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// Those that are not finished.
    Unfinished,
    /// All from this one on.
    From(u32),
    /// This one.
    Only(u32),
}

/// The plugins whose work a finished step must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workers<'a> {
    pub(super) compiler: &'a str,
    pub(super) runtime: &'a str,
    /// What the step of the small files reads.
    pub(super) small_files: &'a SmallFiles,
}

/// The host's own steps, which follow those of the combiner.
const OWN: [(&str, Task); 3] =
    [("compile", Task::Compile), ("tokenizer and meta.yaml", Task::Files), ("test", Task::Test)];

/// The steps of a conversion: the combiner's, which make packages, and then the host's.
pub(super) struct Steps<'a> {
    layout: &'a Layout,
    /// The names of what the compiler makes.
    compiled: Vec<String>,
    all: Vec<Step>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(layout: &'a CheckedLayout, compiled: Vec<String>) -> Self {
        let own = OWN.iter().map(|(title, _)| (*title).to_owned());
        let titles = layout.steps.iter().map(|step| step.title.clone()).chain(own);
        let all = (1..).zip(titles).map(|(number, title)| Step::new(number, title)).collect();
        Self { layout, compiled, all }
    }

    fn count(&self) -> u32 {
        self.all.len() as u32
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Step> {
        self.all.iter()
    }

    pub(super) fn task(&self, number: u32) -> Task {
        let before = self.layout.steps.len();
        let own = (number as usize).checked_sub(before + 1).and_then(|place| OWN.get(place));
        own.map_or(Task::Packages, |(_, task)| *task)
    }

    fn title(&self, number: u32) -> &str {
        let step = self.all.iter().find(|step| step.number == number);
        step.map_or("", |step| step.title.as_str())
    }

    /// What `--restart` and `--only` mean.
    pub(super) fn selection(&self, request: &ConvertRequest) -> Result<Selection> {
        let (flag, number, selection) = match (request.restart, request.only) {
            (Some(number), _) => ("--restart", number, Selection::From(number)),
            (None, Some(number)) => ("--only", number, Selection::Only(number)),
            (None, None) => return Ok(Selection::Unfinished),
        };
        if (1..=self.count()).contains(&number) {
            return Ok(selection);
        }
        let list: Vec<String> =
            self.iter().map(|step| format!("{} {}", step.number, step.title)).collect();
        Err(Error::new(
            codes::USAGE,
            format!(
                "{flag} {number}: the combiner `{}` has the steps 1 to {}",
                self.layout.combiner,
                self.count()
            ),
        )
        .with_hint(format!("the steps are: {}", list.join(", "))))
    }

    /// Whether a step need not be done again: its record says just what the step makes, and that is
    /// there as it was made.
    pub(super) fn is_finished(&self, number: u32, view: &View, workers: Workers<'_>) -> bool {
        view.records().any(|record| record.number == number && self.is_right(record, workers))
            && view.finished(number).is_some()
    }

    fn is_right(&self, record: &StepRecord, workers: Workers<'_>) -> bool {
        let (by, inputs) = match self.task(record.number) {
            Task::Packages => ("", String::new()),
            Task::Compile => (workers.compiler, String::new()),
            Task::Files => ("", workers.small_files.fingerprint()),
            Task::Test => (workers.runtime, String::new()),
        };
        // Whoever compiled before: a run that leaves compiling out has nothing against it.
        let any = self.task(record.number) == Task::Compile && workers.compiler == NONE;
        record.done
            && (record.by == by || any)
            && record.inputs == inputs
            && self.has_outputs(record, workers.small_files)
            && self.has_packages(record)
    }

    fn has_outputs(&self, record: &StepRecord, small_files: &SmallFiles) -> bool {
        let mut expected = self.outputs(record.number, record.done, small_files);
        expected.sort();
        let mut found: Vec<PathBuf> = record.outputs.keys().map(OutputName::to_path).collect();
        found.sort();
        found == expected
    }

    fn has_packages(&self, record: &StepRecord) -> bool {
        let is_of = |(report, package): (&PackageReport, &PackageSpec)| {
            let mut names: Vec<&str> =
                package.functions.iter().map(|function| function.name.as_str()).collect();
            names.sort_unstable();
            report.path == name_of(package)
                && report.weight_file == package.weight_file
                && report.functions.keys().eq(names)
        };
        let mut packages: Vec<&PackageSpec> = match self.task(record.number) {
            Task::Packages | Task::Test => self.packages(record.number).collect(),
            Task::Compile | Task::Files => Vec::new(),
        };
        packages.sort_by_key(|package| name_of(package));
        let mut reports = of_record(record);
        reports.sort_by(|first, second| first.path.cmp(&second.path));
        reports.len() == packages.len() && reports.iter().zip(packages).all(is_of)
    }

    /// What a step makes, in the output directory; `done` is whether it is carried out, not left
    /// out.
    pub(super) fn outputs(
        &self,
        number: u32,
        done: bool,
        small_files: &SmallFiles,
    ) -> Vec<PathBuf> {
        match self.task(number) {
            Task::Packages | Task::Test => {
                let records = self.layout.weight_files.iter().filter(|file| {
                    self.owner(&file.id) == number
                        && self.packages(number).any(|package| package.weight_file == file.id)
                });
                let records = records.map(|file| weight_record::relative_path(&file.id));
                self.packages(number).map(relative_path).chain(records).collect()
            }
            Task::Compile if !done => Vec::new(),
            Task::Compile => self.compiled.iter().map(PathBuf::from).collect(),
            Task::Files => small_files.outputs(),
        }
    }

    /// The steps that a run does.
    ///
    /// # Errors
    /// [`codes::STEP_INPUT_MISSING`] when one needs what an earlier step did not make.
    pub(super) fn to_run(
        &self,
        selection: Selection,
        view: &View,
        workers: Workers<'_>,
    ) -> Result<Vec<u32>> {
        let run: Vec<u32> = match selection {
            Selection::Unfinished => self.unfinished(view, workers),
            Selection::From(first) => (first..=self.count()).collect(),
            Selection::Only(number) => vec![number],
        };
        for number in &run {
            self.refuse_missing(*number, &run, view)?;
        }
        Ok(run)
    }

    /// All steps from the first unfinished one on that makes packages, since those share weights;
    /// where only the last three are left, those of them that are unfinished.
    fn unfinished(&self, view: &View, workers: Workers<'_>) -> Vec<u32> {
        let unfinished: Vec<u32> =
            (1..=self.count()).filter(|number| !self.is_finished(*number, view, workers)).collect();
        match unfinished.first() {
            Some(first) if self.task(*first) == Task::Packages => (*first..=self.count()).collect(),
            _ => unfinished,
        }
    }

    fn refuse_missing(&self, number: u32, run: &[u32], view: &View) -> Result<()> {
        for (maker, output) in self.needs(number) {
            let name = output.to_string_lossy().replace('\\', "/");
            if run.contains(&maker) || view.is_whole(maker, &name) {
                continue;
            }
            return Err(Error::new(
                codes::STEP_INPUT_MISSING,
                format!(
                    "step {number} ({}) needs {name}, which step {maker} ({}) makes and which is \
                     not there as it was made",
                    self.title(number),
                    self.title(maker),
                ),
            )
            .with_at(view.directory().display().to_string())
            .with_hint(format!(
                "use `--restart {maker}`, or leave --restart and --only out: what is finished is \
                 not done again"
            )));
        }
        Ok(())
    }

    /// The step that writes a weight file: the first with a package of it.
    pub(super) fn owner(&self, weight_file: &str) -> u32 {
        let packages = self.layout.packages.iter();
        packages
            .filter(|package| package.weight_file == weight_file)
            .map(|package| self.step_of(package))
            .min()
            .unwrap_or(1)
    }

    fn step_of(&self, package: &PackageSpec) -> u32 {
        if package.kind == PackageKind::Evaluate { self.count() } else { package.step }
    }

    /// The packages of a step.
    pub(super) fn packages(&self, number: u32) -> impl Iterator<Item = &'a PackageSpec> {
        self.layout.packages.iter().filter(move |package| self.step_of(package) == number)
    }

    /// What a step needs of others: the number of the step that makes it, and its name.
    fn needs(&self, number: u32) -> Vec<(u32, PathBuf)> {
        let made = |package: &PackageSpec| (package.step, relative_path(package));
        let mut needs = Vec::new();
        if matches!(self.task(number), Task::Packages | Task::Test) {
            for package in self.packages(number) {
                if package.kind == PackageKind::Combined {
                    needs.extend(self.parts(package).map(made));
                }
                let owner = self.owner(&package.weight_file);
                if owner != number {
                    needs.push((owner, weight_record::relative_path(&package.weight_file)));
                }
            }
        }
        match self.task(number) {
            Task::Packages | Task::Files => {}
            Task::Compile => needs.extend(shipped(self.layout).map(made)),
            Task::Test => {
                needs.extend(shipped(self.layout).map(made));
                needs.push((self.count() - 1, PathBuf::from(META)));
            }
        }
        needs
    }

    /// The packages with the single functions of a combined one.
    fn parts<'b>(
        &'b self,
        combined: &'b PackageSpec,
    ) -> impl Iterator<Item = &'a PackageSpec> + 'b {
        self.layout.packages.iter().filter(|package| {
            package.kind == PackageKind::Part
                && package
                    .functions
                    .iter()
                    .all(|function| combined.functions.iter().any(|other| other.id == function.id))
        })
    }
}

/// A package's path in the output directory, as it stands in reports.
fn name_of(package: &PackageSpec) -> String {
    relative_path(package).to_string_lossy().replace('\\', "/")
}
