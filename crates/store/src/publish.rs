//! Giving outputs their final names: all of them, or none.
//!
//! The journal lists every move before the first is made. What stands under a final name is moved
//! into the staging folder, not removed. When everything has its place, the new record of the
//! conversion takes the place of the old one: that one rename decides. Before it, all moves can be
//! taken back, by this run or, if it was killed, by the next; after it, what is left is rubbish.

use crate::disk::{exists, is_folder, make_folders, write_whole};
use crate::error::{PathError, invalid_record, io_error};
use crate::fingerprint::sha256_of;
use crate::record::{self, Conversion};
use crate::view::{CONVERSION, STAGING, refuse_no_folder};
use crate::{FileRecord, OutputName, Store};
use anemll_codes as codes;
use anemll_files::Limit;
use anemll_plugin_api::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The journal, in the output directory, while outputs are moved.
const JOURNAL: &str = ".anemll/journal.json";
/// What had a final name before, in the staging folder, by the number of its move.
const REPLACED: &str = ".replaced";
/// Version of the journal's form.
const SCHEMA: u32 = 1;

/// Outputs with their files.
type Outputs = BTreeMap<OutputName, Vec<FileRecord>>;

/// All moves of one run.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    schema: u32,
    /// Name of the staging folder.
    staging: String,
    /// SHA-256 of the new record of the conversion: while the record is another one, the moves are
    /// to be taken back.
    record_sha256: String,
    moves: Vec<Move>,
}

/// What happens to one name.
#[derive(Debug, Serialize, Deserialize)]
struct Move {
    name: OutputName,
    /// The files that come from staging; none where the old output only goes.
    new: Option<Vec<FileRecord>>,
    /// Whether something has the name already.
    old: bool,
}

impl Store {
    /// Refuses outputs whose names are taken by files that no conversion of this program made, or
    /// that belong to the model.
    ///
    /// # Errors
    /// [`codes::OUTPUT_NOT_OURS`] unless forced; [`codes::OUTPUT_IS_MODEL`].
    pub fn refuse_foreign(&self, outputs: &[PathBuf]) -> Result<()> {
        self.view.refuse_taken(&self.source, self.force, outputs)
    }

    /// Takes what `step` makes for ours where the record says that the step was done, also if it
    /// does not list each output: then the record was changed, and the step is done again.
    ///
    /// # Errors
    /// [`codes::OUTPUT_RECORD_INVALID`] for a name that no output can have.
    pub fn adopt(&mut self, step: u32, outputs: &[PathBuf]) -> Result<()> {
        self.view.adopt(step, outputs)
    }

    /// Gives every finished output, and `report` (a file in staging), its final name, and removes
    /// those of the conversion before which this one does not have: all of it, or nothing.
    ///
    /// # Errors
    /// [`codes::OUTPUT_UNWRITABLE`], with everything as it was; where it could not be taken back,
    /// the error says so, and the next run does it. Those of [`Self::refuse_foreign`].
    pub fn publish(&mut self, report: &Path) -> Result<()> {
        self.keep();
        let path = self.view.staging.join(report);
        let files = self.view.fingerprints.take(&path);
        let files = files.map_err(|source| PathError { path, source })?;
        let report = BTreeMap::from([(OutputName::of_path(report)?, files)]);
        let moves = self.moves(&report)?;
        let conversion = Conversion {
            identity: self.identity.clone(),
            steps: self.view.finished.clone(),
            report,
            replaced: BTreeSet::new(),
        };
        let text = record::to_text(&conversion)?;
        for step in &moves {
            let folder = step.name.to_path();
            let folder = folder.parent().unwrap_or(Path::new(""));
            make_folders(self.disk.as_ref(), &self.view.directory, folder)?;
        }
        let staging = self.view.staging.file_name().unwrap_or_default().to_string_lossy();
        make_folders(self.disk.as_ref(), &self.view.staging, Path::new(REPLACED))?;
        let journal = Journal {
            schema: SCHEMA,
            staging: staging.into_owned(),
            record_sha256: sha256_of(&text),
            moves,
        };
        self.journal = true;
        let result = self.carry_out(&journal, &text);
        match result {
            Err(failure) if !self.is_decided(&journal) => {
                return Err(self.take_back(&journal, failure));
            }
            Err(_) | Ok(()) => {}
        }
        self.forget_journal();
        self.made.clear();
        self.keep = false;
        // What is kept of the journal is known to be done with: the staging folder may go.
        self.journal = false;
        Ok(())
    }

    /// What has to move, looked at before anything does.
    fn moves(&mut self, report: &Outputs) -> Result<Vec<Move>> {
        let mut new = report.clone();
        let steps = self.view.finished.values();
        new.extend(steps.flat_map(|record| record.outputs.clone()));
        let staged = |name: &OutputName| exists(&self.view.staging.join(name.to_path()));
        let final_path = |name: &OutputName| self.view.directory.join(name.to_path());
        let mut moves: Vec<Move> = new
            .iter()
            .filter(|(name, _)| staged(name))
            .map(|(name, files)| Move {
                name: name.clone(),
                new: Some(files.clone()),
                old: exists(&final_path(name)),
            })
            .collect();
        let paths: Vec<PathBuf> = moves.iter().map(|step| step.name.to_path()).collect();
        self.refuse_foreign(&paths)?;
        for (name, files) in &self.view.owned {
            let path = final_path(name);
            if new.contains_key(name) || !exists(&path) {
                continue;
            }
            // Not by force either: it is in nobody's way, and whoever wrote the record may have
            // listed what is not ours.
            if self.view.fingerprints.matches(&path, files) {
                moves.push(Move { name: name.clone(), new: None, old: true });
            } else {
                self.warnings.push(format!(
                    "{} belongs to an earlier conversion, but was changed since: it is left alone",
                    path.display()
                ));
            }
        }
        Ok(moves)
    }

    fn carry_out(&self, journal: &Journal, record: &[u8]) -> Result<()> {
        let disk = self.disk.as_ref();
        let journal_path = self.view.directory.join(JOURNAL);
        record::write(disk, &journal_path, journal)?;
        let places = self.places(&journal.staging);
        for (number, step) in journal.moves.iter().enumerate() {
            let [staged, place, aside] = places.of(number, &step.name);
            let named = |source: std::io::Error| {
                io_error(
                    codes::OUTPUT_UNWRITABLE,
                    "cannot move a file to its final name",
                    &place,
                    &source,
                )
            };
            if step.old {
                disk.rename(&place, &aside).map_err(named)?;
            }
            if step.new.is_some() {
                disk.rename(&staged, &place).map_err(named)?;
            }
        }
        self.sync_folders(journal)?;
        let path = self.view.directory.join(CONVERSION);
        Ok(write_whole(disk, &path, record)?)
    }

    /// Brings the names in all folders that moves changed to disk.
    fn sync_folders(&self, journal: &Journal) -> Result<()> {
        let folder = |name: &OutputName| {
            let path = self.view.directory.join(name.to_path());
            path.parent().map(Path::to_owned)
        };
        let folders: BTreeSet<PathBuf> =
            journal.moves.iter().filter_map(|step| folder(&step.name)).collect();
        for path in folders {
            self.disk.sync(&path).map_err(|source| PathError { path, source })?;
        }
        Ok(())
    }

    /// Whether the record of the conversion is the one that a journal leads to.
    fn is_decided(&self, journal: &Journal) -> bool {
        anemll_files::read_no_follow(&self.view.directory.join(CONVERSION), Limit::RECORD)
            .is_ok_and(|text| sha256_of(&text) == journal.record_sha256)
    }

    /// Takes back what was moved; gives the error that the run ends with.
    fn take_back(&mut self, journal: &Journal, failure: Error) -> Error {
        match self.undo(journal).and_then(|()| self.sync_folders(journal)) {
            Ok(()) => {
                self.forget_journal();
                failure.with_cause("nothing in the output directory was changed")
            }
            Err(second) => failure
                .with_cause(format!("what was moved could not be taken back: {second}"))
                .with_cause(
                    "the output directory is mixed now: run the same command again, which sets it \
                     right first",
                ),
        }
    }

    /// Takes the moves of a journal back, the last first, as far as they were made.
    fn undo(&self, journal: &Journal) -> Result<()> {
        let places = self.places(&journal.staging);
        for (number, step) in journal.moves.iter().enumerate().rev() {
            let [staged, place, aside] = places.of(number, &step.name);
            let moved = |from: &Path, to: &Path| {
                let failed = |source| PathError { path: to.to_owned(), source };
                self.disk.rename(from, to).map_err(failed)
            };
            let new_is_there = step.new.is_some() && !exists(&staged) && exists(&place);
            if new_is_there {
                moved(&place, &staged)?;
            }
            if step.old && exists(&aside) && !exists(&place) {
                moved(&aside, &place)?;
            }
        }
        Ok(())
    }

    fn forget_journal(&mut self) {
        let path = self.view.directory.join(JOURNAL);
        self.try_to_remove(&path);
        self.journal = exists(&path);
    }

    fn places(&self, staging: &str) -> Places {
        let staging = self.own().join(staging);
        Places { directory: self.view.directory.clone(), staging }
    }

    /// Takes back what a killed run moved, or forgets its journal where it was done.
    pub(crate) fn recover(&mut self) -> Result<()> {
        let path = self.view.directory.join(JOURNAL);
        if !exists(&path) {
            return Ok(());
        }
        // A run that is refused now must leave both for the next one.
        self.journal = true;
        match self.read_journal(&path) {
            Ok(journal) => {
                let decided = self.is_decided(&journal);
                if !decided && is_folder(&self.own().join(&journal.staging)) {
                    self.undo(&journal)?;
                    self.sync_folders(&journal)?;
                } else if !decided {
                    self.warnings.push(
                        "a run that was stopped left files of two conversions here, and what would \
                         set that right is gone: convert again with --force"
                            .to_owned(),
                    );
                }
            }
            Err(_) if self.force => {}
            Err(error) => return Err(error),
        }
        self.forget_journal();
        if self.journal {
            return Err(Error::new(
                codes::OUTPUT_UNWRITABLE,
                "the journal of a run that was stopped cannot be removed",
            )
            .with_at(path.display().to_string())
            .with_hint("check the permissions of the path"));
        }
        Ok(())
    }

    /// A journal that may be followed: it names our own folders, no links, and what has final names
    /// because of it is what it says.
    fn read_journal(&self, path: &Path) -> Result<Journal> {
        let journal: Journal = match record::read(path)? {
            Some(journal) => journal,
            None => return Err(invalid_record(path, &"it is gone")),
        };
        let key = journal.staging.strip_prefix(STAGING).unwrap_or_default();
        if journal.schema != SCHEMA
            || key.is_empty()
            || !key.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(invalid_record(path, &"it comes from another version, or was changed"));
        }
        let places = self.places(&journal.staging);
        for folder in [&places.staging, &places.staging.join(REPLACED), &self.own()] {
            refuse_no_folder(folder)?;
        }
        for (number, step) in journal.moves.iter().enumerate() {
            let [staged, place, _] = places.of(number, &step.name);
            for path in [&staged, &place] {
                refuse_no_folder(path.parent().unwrap_or(path))?;
            }
            let Some(files) = &step.new else { continue };
            let moved = !exists(&staged) && exists(&place);
            if moved && !self.view.fingerprints.matches(&place, files) {
                let why = format!("{} is not what it says", place.display());
                return Err(invalid_record(path, &why));
            }
        }
        Ok(journal)
    }
}

/// Where the files of a move are.
struct Places {
    directory: PathBuf,
    staging: PathBuf,
}

impl Places {
    /// In staging, under the final name, and where what had that name before is put.
    fn of(&self, number: usize, name: &OutputName) -> [PathBuf; 3] {
        let path = name.to_path();
        let aside = self.staging.join(REPLACED).join(number.to_string());
        [self.staging.join(&path), self.directory.join(&path), aside]
    }
}
