//! `--dry-run`: what a conversion would make and take, and what of it is there, without touching
//! anything.

use super::finish::SmallFiles;
use super::packages::relative_path;
use super::steps::Selection;
use crate::event::Event;
use crate::job::Job;
use crate::model_files::hash_source;
use crate::model_source::Source;
use crate::sizes;
use anemll_codes as codes;
use anemll_conversion::shipped;
use anemll_huggingface::ModelDirectory;
use anemll_mil::{Checked, Referenced};
use anemll_plugin_api::data::PackageKind;
use anemll_plugin_api::{Error, Result};
use anemll_store::{Identity, Request, View};
use anemll_terminal as terminal;
use anemll_terminal::{Column, Table, size};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// Bytes that one element of a weight takes on its way: its source, as 16-bit float, and what a
/// quantizer keeps beside it.
const BYTES_PER_ELEMENT: u64 = 12;
/// The program itself, its plugins and graphs.
const PROGRAM_BYTES: u64 = 64 << 20;

/// What a conversion would make and take. The JSON form is described in docs/reference/dry-run.md.
#[derive(Debug, Serialize)]
pub struct DryRun {
    model: String,
    architecture: String,
    arch: String,
    parameters: u64,
    combiner: String,
    notes: Vec<String>,
    steps: Vec<String>,
    /// Numbers of the steps that are finished already, and would not be done again.
    finished: Vec<u32>,
    packages: Vec<PlannedPackage>,
    /// Size of each weight file; packages of one file share it.
    weight_files: BTreeMap<String, u64>,
    disk_bytes: u64,
    memory_bytes: u64,
    output: String,
}

#[derive(Debug, Serialize)]
struct PlannedPackage {
    path: String,
    functions: Vec<String>,
    weight_file: String,
    /// Whether an app loads it; the others are parts on the way, or for evaluation.
    ships: bool,
}

/// Functions by id.
type Functions = BTreeMap<String, Checked<Referenced>>;

/// What a conversion would make. Of a model whose weights are not on this machine, the
/// configuration is enough.
pub(super) fn look(
    job: &Job<'_>,
    weights: Option<&ModelDirectory>,
    source: &Source,
    show: &dyn Fn(&Event<'_>),
) -> Result<DryRun> {
    let functions = job.lower()?;
    let mut plan = plan(job, &functions)?;
    match weights {
        Some(directory) => plan.finished = finished(job, directory, show)?,
        None => {
            job.steps().selection(job.arguments)?;
            let later = if source.is_whole() { "" } else { "; the conversion downloads them" };
            plan.notes.push(format!(
                "the weights are not here{later}; only the configuration was looked at"
            ));
            if anemll_store::is_begun(&job.arguments.output) {
                let unknown = "which steps are finished in the output directory depends on the \
                               weights";
                plan.notes.push(unknown.to_owned());
            }
        }
    }
    Ok(plan)
}

/// The steps that a conversion would find finished.
fn finished(
    job: &Job<'_>,
    directory: &ModelDirectory,
    show: &dyn Fn(&Event<'_>),
) -> Result<Vec<u32>> {
    let arguments = job.arguments;
    let small_files = SmallFiles::read(directory, !arguments.no_tokenizer)?;
    // Only what was begun is compared with the weights, which takes a while.
    let begun = anemll_store::is_begun(&arguments.output);
    let source_sha256 = if begun { hash_source(directory, show)? } else { String::new() };
    let identity = Identity::new(source_sha256, job.options.clone(), job.plugin_list()?);
    let request = Request {
        directory: &arguments.output,
        identity: &identity,
        force: arguments.force,
        model: Some(directory.path()),
    };
    let mut view = View::look(&request)?;
    let steps = job.steps();
    let selection = steps.selection(arguments)?;
    let to_run = steps.to_run(selection, &view, job.workers(&small_files))?;
    let outputs =
        job.outputs(&steps, &to_run, &small_files, |step, made| view.adopt(step, made))?;
    view.refuse_foreign(&request, &outputs)?;
    let finished = steps.iter().map(|step| step.number).filter(|number| !to_run.contains(number));
    Ok(if selection == Selection::Unfinished { finished.collect() } else { Vec::new() })
}

/// Refuses a conversion that the disk has no room for.
pub(super) fn check_disk(job: &Job<'_>, functions: &Functions) -> Result<()> {
    let needed = plan(job, functions)?.disk_bytes;
    let output = std::path::absolute(&job.arguments.output);
    let output = output.as_deref().unwrap_or(&job.arguments.output);
    let there = output.ancestors().find(|path| path.exists());
    // What cannot be asked is found out by writing.
    let Some(free) = there.and_then(|path| fs4::available_space(path).ok()) else { return Ok(()) };
    if needed <= free {
        return Ok(());
    }
    Err(Error::new(
        codes::OUTPUT_UNWRITABLE,
        format!(
            "the packages take {}, and {} are free on the disk of the output directory",
            size(needed),
            size(free)
        ),
    )
    .with_at(job.arguments.output.display().to_string())
    .with_hint("free some space, choose another --output, or try all the same: --skip-check"))
}

fn plan(job: &Job<'_>, functions: &Functions) -> Result<DryRun> {
    let mut weight_files = BTreeMap::new();
    for file in &job.layout.weight_files {
        let members: Vec<_> = file
            .functions
            .iter()
            .filter_map(|id| Some((id.as_str(), functions.get(id)?.model())))
            .collect();
        let (stage, outline) = (job.quantization.as_ref(), &job.settings.outline);
        let bytes = sizes::weight_file(&members, stage, outline, job.host)?;
        weight_files.insert(file.id.clone(), bytes);
    }
    let ships: Vec<_> = shipped(&job.layout).map(relative_path).collect();
    let programs: u64 = job
        .layout
        .packages
        .iter()
        .flat_map(|package| &package.functions)
        .filter_map(|function| functions.get(&function.id))
        .map(|checked| coreml_proto::write(checked.model()).len() as u64)
        .sum();
    let mut notes = job.notes();
    notes.extend(job.description.warnings.iter().cloned());
    Ok(DryRun {
        model: job.model_name.clone(),
        architecture: job.description.architecture.clone(),
        arch: job.arch.clone(),
        parameters: job.description.parameters,
        combiner: job.settings.combiner.clone(),
        notes,
        steps: job.steps().iter().map(|step| format!("{} {}", step.number, step.title)).collect(),
        finished: Vec::new(),
        packages: job
            .layout
            .packages
            .iter()
            .map(|package| PlannedPackage {
                path: relative_path(package).to_string_lossy().replace('\\', "/"),
                functions: package.functions.iter().map(|function| function.name.clone()).collect(),
                weight_file: package.weight_file.clone(),
                ships: package.kind != PackageKind::Evaluate
                    && ships.contains(&relative_path(package)),
            })
            .collect(),
        disk_bytes: weight_files.values().sum::<u64>() + programs,
        memory_bytes: memory(functions)?,
        weight_files,
        output: job.arguments.output.display().to_string(),
    })
}

/// The largest weights, one for each thread, on their way at once.
fn memory(functions: &Functions) -> Result<u64> {
    let mut elements: HashMap<String, u64> = HashMap::new();
    for (id, checked) in functions {
        for (key, item) in crate::references::collect(&[(id.as_str(), checked.model())])? {
            if let crate::references::Item::Weight(weight) = item {
                elements.insert(key, weight.shape.iter().product());
            }
        }
    }
    let mut sizes: Vec<u64> = elements.into_values().collect();
    sizes.sort_unstable_by(|first, second| second.cmp(first));
    let at_once: u64 = sizes.iter().take(rayon::current_num_threads().max(1)).sum();
    Ok(PROGRAM_BYTES + at_once * BYTES_PER_ELEMENT)
}

impl DryRun {
    /// For people, as wide as the terminal.
    pub fn to_text(&self) -> String {
        let width = terminal::width();
        let mut text = format!(
            "{}: {} ({}), {:.1} M parameters, combiner {}\n",
            self.model,
            self.architecture,
            self.arch,
            self.parameters as f64 / 1e6,
            self.combiner
        );
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        let _ = writeln!(text, "steps: {}", self.steps.join(", "));
        for step in &self.steps {
            let (number, title) = step.split_once(' ').unwrap_or((step, ""));
            if self.finished.iter().any(|finished| finished.to_string() == number) {
                let _ = writeln!(text, "step {number}: {title}: is finished");
            }
        }
        let _ = writeln!(text, "\npackages in {}:", self.output);
        text = terminal::wrapped_lines(&terminal::plain_lines(&text), width);
        let columns = [Column::Flexible, Column::Right, Column::Left, Column::Left];
        let mut table = Table::new(&columns).leaving_out(&[2]);
        for package in &self.packages {
            let bytes = self.weight_files.get(&package.weight_file).copied().unwrap_or(0);
            table.row([
                package.path.clone(),
                size(bytes),
                package.functions.join(", "),
                if package.ships { "apps load this" } else { "" }.to_owned(),
            ]);
        }
        text += &table.render(width);
        let needed = format!(
            "\nPackages of one weight file share it on disk. Disk needed: {}; memory: about {}.\n\
             Nothing was written.\n",
            size(self.disk_bytes),
            size(self.memory_bytes)
        );
        text += &terminal::wrapped_lines(&needed, width);
        text
    }
}
