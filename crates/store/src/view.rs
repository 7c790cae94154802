//! What is in an output directory, without touching it.

use crate::disk::{exists, is_folder};
use crate::name::{TEMPLATES, TOKENIZER};
use crate::record::{self, StepRecord};
use crate::source::Source;
use crate::{FileRecord, Fingerprints, Identity, OWN, OutputName};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::TryLockError;
use std::path::{Path, PathBuf};

/// The lock of a run, below the folder of our own files.
pub(crate) const LOCK: &str = "lock";
/// The record of a conversion, in the output directory.
pub(crate) const CONVERSION: &str = ".anemll/conversion.json";
/// Records of finished steps, in a staging folder.
pub(crate) const STEPS: &str = ".steps";
/// Most names that one error shows.
const MOST_NAMES: usize = 5;
/// First part of the names of staging folders.
pub(crate) const STAGING: &str = "staging-";

/// What a run wants of an output directory.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The output directory; it need not exist.
    pub directory: &'a Path,
    /// The conversion.
    pub identity: &'a Identity,
    /// Whether to do everything again, and to replace what is not of this conversion.
    pub force: bool,
    /// The model's directory, which is not touched even by force.
    pub model: Option<&'a Path>,
}

/// What an output directory holds for one conversion: its finished steps and their outputs, in the
/// staging folder or under their final names.
#[derive(Debug, Default)]
pub struct View {
    pub(crate) directory: PathBuf,
    pub(crate) staging: PathBuf,
    /// Records of steps that are finished, those in staging before those in the directory.
    pub(crate) finished: BTreeMap<u32, StepRecord>,
    /// What the record of the conversion in the directory lists: this one or an earlier one.
    pub(crate) owned: BTreeMap<OutputName, Vec<FileRecord>>,
    /// Steps that the record says were done.
    pub(crate) recorded: BTreeSet<u32>,
    pub(crate) fingerprints: Fingerprints,
}

impl View {
    /// Looks what is there, and writes nothing.
    ///
    /// # Errors
    /// [`codes::OUTPUT_EXISTS`] for another conversion, and [`codes::OUTPUT_RECORD_INVALID`] for a
    /// record that is none, both unless forced; [`codes::OUTPUT_LINK`] where a link or a file stands
    /// in place of a folder of ours; [`codes::OUTPUT_IS_MODEL`].
    pub fn look(request: &Request<'_>) -> Result<Self> {
        if let Some(model) = request.model {
            Source::new(model, request.directory)?;
        }
        refuse_file(request.directory)?;
        refuse_no_folder(&request.directory.join(OWN))?;
        refuse_busy(request.directory)?;
        Self::load(request)
    }

    /// As [`Store::refuse_foreign`](crate::Store::refuse_foreign), for what `request` asks.
    ///
    /// # Errors
    /// As there.
    pub fn refuse_foreign(&self, request: &Request<'_>, outputs: &[PathBuf]) -> Result<()> {
        let source = match request.model {
            Some(model) => Source::new(model, request.directory)?,
            None => Source::default(),
        };
        self.refuse_taken(&source, request.force, outputs)
    }

    /// As [`Store::adopt`](crate::Store::adopt).
    ///
    /// # Errors
    /// As there.
    pub fn adopt(&mut self, step: u32, outputs: &[PathBuf]) -> Result<()> {
        if self.recorded.contains(&step) {
            for output in outputs {
                self.owned.entry(OutputName::of_path(output)?).or_default();
            }
        }
        Ok(())
    }

    /// Refuses outputs whose names are taken by what is not ours.
    pub(crate) fn refuse_taken(
        &self,
        source: &Source,
        force: bool,
        outputs: &[PathBuf],
    ) -> Result<()> {
        let mut foreign = Vec::new();
        for output in outputs {
            let name = OutputName::of_path(output)?;
            let ours = self.owned.contains_key(&name);
            if source.holds(output, ours) {
                return Err(Error::new(
                    codes::OUTPUT_IS_MODEL,
                    format!("{name} in the output directory belongs to the model"),
                )
                .with_at(self.directory.display().to_string())
                .with_hint("choose another --output; --force does not help here"));
            }
            if !ours && !force && exists(&self.directory.join(output)) {
                foreign.push(name.to_string());
            }
        }
        if foreign.is_empty() {
            return Ok(());
        }
        let more = foreign.len().saturating_sub(MOST_NAMES);
        foreign.truncate(MOST_NAMES);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        Err(Error::new(
            codes::OUTPUT_NOT_OURS,
            format!(
                "the output directory has files that no conversion made, and that this one would \
                 replace: {}{more}",
                foreign.join(", ")
            ),
        )
        .with_at(self.directory.display().to_string())
        .with_hint("choose another --output, move them away, or replace them with --force"))
    }

    pub(crate) fn load(request: &Request<'_>) -> Result<Self> {
        let Request { directory, identity, force, .. } = *request;
        let staging = directory.join(OWN).join(format!("{STAGING}{}", identity.key()));
        let mut view = Self { directory: directory.to_owned(), staging, ..Self::default() };
        let steps = view.staging.join(STEPS);
        // One inside the other: below a link, nothing is looked at.
        for folder in [OWN, ".anemll/evaluate", ".anemll/weights", TEMPLATES, TOKENIZER] {
            refuse_no_folder(&directory.join(folder))?;
        }
        refuse_no_folder(&view.staging)?;
        refuse_no_folder(&steps)?;
        let earlier = match record::read_conversion(&directory.join(CONVERSION)) {
            // What it lists is then not ours.
            Err(_) if force => None,
            earlier => earlier?,
        };
        if let Some(earlier) = earlier {
            view.owned.extend(earlier.replaced.into_iter().map(|name| (name, Vec::new())));
            view.owned.extend(earlier.report);
            let done = earlier.steps.iter().filter(|(_, step)| step.done);
            view.recorded.extend(done.map(|(number, _)| *number));
            view.owned.extend(earlier.steps.values().flat_map(|step| step.outputs.clone()));
            if earlier.identity == *identity && !force {
                view.finished = earlier.steps;
                view.finished.retain(|number, step| *number == step.number);
            } else if let (false, Some(conflict)) = (force, identity.conflict(&earlier.identity)) {
                return Err(in_the_way(directory, conflict));
            }
        }
        if !force {
            for entry in std::fs::read_dir(&steps).into_iter().flatten().flatten() {
                // What cannot be read counts as not there: its step is done again.
                let Ok(Some(record)) = record::read::<StepRecord>(&entry.path()) else { continue };
                if entry.file_name().to_str() == Some(&step_file(record.number)) {
                    view.finished.insert(record.number, record);
                }
            }
        }
        Ok(view)
    }

    /// The final directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where files are made.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    /// Where an output of this conversion is now: in staging, or under its final name.
    pub fn locate(&self, relative: &Path) -> PathBuf {
        let staged = self.staging.join(relative);
        if exists(&staged) { staged } else { self.directory.join(relative) }
    }

    /// The record of a step that is finished, its outputs unchanged. What they should be is not
    /// known here.
    pub fn finished(&self, step: u32) -> Option<&StepRecord> {
        let record = self.finished.get(&step)?;
        let whole = |(name, files): (&OutputName, &Vec<FileRecord>)| {
            self.fingerprints.matches(&self.locate(&name.to_path()), files)
        };
        record.outputs.iter().all(whole).then_some(record)
    }

    /// Whether an output of a step is there as the step left it.
    pub fn is_whole(&self, step: u32, output: &str) -> bool {
        let Ok(name) = OutputName::new(output) else { return false };
        let files = self.finished.get(&step).and_then(|record| record.outputs.get(&name));
        let path = self.locate(&name.to_path());
        files.is_some_and(|files| self.fingerprints.matches(&path, files))
    }

    /// The records of all finished steps, in their order.
    pub fn records(&self) -> impl Iterator<Item = &StepRecord> {
        self.finished.values()
    }
}

/// Refuses an output directory that cannot become that of a conversion with these options, whatever
/// the model's weights are. Writes nothing.
///
/// # Errors
/// Those of [`View::look`], but for what only the weights tell.
pub fn refuse_conflict(directory: &Path, options: &Value, force: bool, model: &Path) -> Result<()> {
    Source::new(model, directory)?;
    refuse_file(directory)?;
    refuse_no_folder(&directory.join(OWN))?;
    refuse_busy(directory)?;
    if force {
        return Ok(());
    }
    let earlier = record::read_conversion(&directory.join(CONVERSION))?;
    match earlier.and_then(|earlier| earlier.identity.other_options(options)) {
        Some(conflict) => Err(in_the_way(directory, conflict)),
        None => Ok(()),
    }
}

/// Whether an earlier run left something in an output directory.
pub fn is_begun(directory: &Path) -> bool {
    is_folder(&directory.join(OWN))
}

/// Refuses an output that is a file.
pub(crate) fn refuse_file(directory: &Path) -> Result<()> {
    if directory.symlink_metadata().is_err() || directory.is_dir() {
        return Ok(());
    }
    Err(Error::new(codes::OUTPUT_UNWRITABLE, "the output is not a directory")
        .with_at(directory.display().to_string())
        .with_hint("name a directory with --output"))
}

/// Refuses a directory that another run has locked.
fn refuse_busy(directory: &Path) -> Result<()> {
    match anemll_files::open_no_follow(&directory.join(OWN).join(LOCK)) {
        Ok(lock) if matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) => {
            Err(busy(directory))
        }
        _ => Ok(()),
    }
}

pub(crate) fn busy(directory: &Path) -> Error {
    Error::new(codes::OUTPUT_EXISTS, "another conversion is writing to this output directory")
        .with_at(directory.display().to_string())
        .with_hint("wait for it, or choose another --output")
}

fn in_the_way(directory: &Path, conflict: String) -> Error {
    Error::new(codes::OUTPUT_EXISTS, conflict)
        .with_at(directory.display().to_string())
        .with_hint("choose another --output, or replace it with --force")
}

/// The file name of a step's record.
pub(crate) fn step_file(step: u32) -> String {
    format!("{step:02}.json")
}

/// Where a folder of ours should be, there is one or nothing.
pub(crate) fn refuse_no_folder(path: &Path) -> Result<()> {
    if !exists(path) || is_folder(path) {
        return Ok(());
    }
    let is = if path.is_symlink() { "a symbolic link" } else { "a file" };
    Err(Error::new(
        codes::OUTPUT_LINK,
        format!("the output directory has {is} where a folder of this program should be"),
    )
    .with_at(path.display().to_string())
    .with_hint("remove it, or choose another --output; it is neither followed nor replaced"))
}
