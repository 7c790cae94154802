//! What is in an output directory, without touching it.

use crate::disk::{exists, is_folder};
use crate::record::{self, Conversion, StepRecord};
use crate::store::Request;
use crate::{FileRecord, Fingerprints, OWN, OutputName};
use anemll_plugin_api::{Error, Result, codes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The record of a conversion, in the output directory.
pub(crate) const CONVERSION: &str = ".anemll/conversion.json";
/// Records of finished steps, in a staging folder.
pub(crate) const STEPS: &str = ".steps";
/// First part of the names of staging folders.
pub(crate) const STAGING: &str = "staging-";

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
            crate::source::Source::new(model, request.directory)?;
        }
        Self::load(request)
    }

    pub(crate) fn load(request: &Request<'_>) -> Result<Self> {
        let Request { directory, identity, force, .. } = *request;
        let staging = directory.join(OWN).join(format!("{STAGING}{}", identity.key()));
        let mut view = Self { directory: directory.to_owned(), staging, ..Self::default() };
        let steps = view.staging.join(STEPS);
        // One inside the other: below a link, nothing is looked at.
        for folder in [OWN, ".anemll/evaluate", ".anemll/weights"] {
            refuse_no_folder(&directory.join(folder))?;
        }
        refuse_no_folder(&view.staging)?;
        refuse_no_folder(&steps)?;
        let earlier = match record::read::<Conversion>(&directory.join(CONVERSION)) {
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
                return Err(Error::new(codes::OUTPUT_EXISTS, conflict)
                    .with_at(directory.display().to_string())
                    .with_hint("choose another --output, or replace it with --force"));
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
