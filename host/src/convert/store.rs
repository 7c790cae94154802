//! The output directory: what is finished, where it is made, and how it gets its final name.
//!
//! A run makes its files in a staging folder inside the output directory. Each finished step leaves
//! a record there, so that a run which was killed is picked up where it was; the last act of a run
//! is to rename everything to its final name and to write `.anemll/conversion.json`, the records of
//! all steps of the conversion. A record holds the sizes and SHA-256 sums of what its step made: a
//! step counts as finished only while those files are as they were.

use super::fingerprint::{FileRecord, Fingerprints};
use super::report::PackageReport;
use crate::error::io;
use anemll_plugin_api::{Error, Result, codes};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The folder of our own files inside an output directory.
pub(super) const OWN: &str = ".anemll";
/// The record of a conversion, in the output directory.
const CONVERSION: &str = ".anemll/conversion.json";
/// Records of finished steps, in a staging folder.
const STEPS: &str = ".steps";
const STAGING: &str = "staging-";
/// Version of the records' form; another one counts as no record.
const SCHEMA: u32 = 1;

/// What decides the bytes of a conversion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Version of the records' form.
    schema: u32,
    /// Version of the program.
    anemll: String,
    /// sha256 of config.json and the weights.
    pub(super) source_sha256: String,
    /// The options that decide the output.
    pub(super) options: Value,
    /// The plugins that take part, with their versions and libraries.
    plugins: Value,
}

impl Identity {
    pub(super) fn new(source_sha256: String, options: Value, plugins: Value) -> Self {
        let anemll = env!("CARGO_PKG_VERSION").to_owned();
        Self { schema: SCHEMA, anemll, source_sha256, options, plugins }
    }

    /// A short name for the staging folder, other for other identities.
    fn key(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(&text).into();
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a user has to know before this conversion takes the place of `earlier`; none if that
    /// may happen unasked: equal source and options.
    fn conflict(&self, earlier: &Self) -> Option<String> {
        if self.source_sha256 != earlier.source_sha256 {
            return Some("the output directory holds the conversion of another model".to_owned());
        }
        let (mine, theirs) = (self.options.as_object()?, earlier.options.as_object()?);
        let names: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        let null = Value::Null;
        let changes: Vec<String> = names
            .into_iter()
            .filter_map(|name| {
                let here = mine.get(name).unwrap_or(&null);
                let there = theirs.get(name).unwrap_or(&null);
                (here != there).then(|| format!("{name} {there} there, {here} now"))
            })
            .collect();
        (!changes.is_empty()).then(|| {
            format!(
                "the output directory holds a conversion with other options: {}",
                changes.join("; ")
            )
        })
    }
}

/// What one finished step made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StepRecord {
    /// Its number.
    pub(super) number: u32,
    /// Its outputs (packages, compiled models, files), by path in the output directory, with every
    /// file in them.
    pub(super) outputs: BTreeMap<String, Vec<FileRecord>>,
    /// What the report says of its packages.
    pub(super) packages: Vec<PackageReport>,
    /// The plugin that did it, where another one could have: the compiler or the runtime.
    pub(super) by: String,
    /// Whether it did what its name says, or was left out for the reason in `message`.
    pub(super) done: bool,
    /// What came of it.
    pub(super) message: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Conversion {
    #[serde(flatten)]
    identity: Identity,
    steps: BTreeMap<u32, StepRecord>,
    /// Outputs of the conversion that this one takes the place of, until they are removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    replaced: BTreeSet<String>,
}

/// An output directory, locked, with a staging folder.
pub(super) struct Store {
    directory: PathBuf,
    staging: PathBuf,
    made: Vec<PathBuf>,
    identity: Identity,
    /// Records of steps that are finished, those in staging before those in the directory.
    finished: BTreeMap<u32, StepRecord>,
    /// Outputs of a conversion that this one takes the place of.
    replaced: BTreeSet<String>,
    fingerprints: Fingerprints,
    keep: bool,
    /// None where nothing is to be changed.
    lock: Option<File>,
}

impl Store {
    /// Makes the directory where it is missing, locks it, and looks what is there.
    ///
    /// # Errors
    /// [`codes::OUTPUT_EXISTS`] for another conversion (unless `force`) and while another one runs,
    /// [`codes::OUTPUT_UNWRITABLE`].
    pub(super) fn open(directory: &Path, identity: Identity, force: bool) -> Result<Self> {
        let made = missing_folders(directory)?;
        let lock = lock(directory, &made)?;
        let staging = directory.join(OWN).join(format!("{STAGING}{}", identity.key()));
        let mut store = Self {
            directory: directory.to_owned(),
            staging,
            made,
            identity,
            finished: BTreeMap::new(),
            replaced: BTreeSet::new(),
            fingerprints: Fingerprints::default(),
            keep: false,
            lock: Some(lock),
        };
        store.load(force)?;
        Ok(store)
    }

    /// Looks what is there as [`Store::open`] does, and changes nothing.
    ///
    /// # Errors
    /// [`codes::OUTPUT_EXISTS`] as `open`.
    pub(super) fn look(directory: &Path, identity: Identity, force: bool) -> Result<Self> {
        let staging = directory.join(OWN).join(format!("{STAGING}{}", identity.key()));
        let mut store = Self {
            directory: directory.to_owned(),
            staging,
            made: Vec::new(),
            identity,
            finished: BTreeMap::new(),
            replaced: BTreeSet::new(),
            fingerprints: Fingerprints::default(),
            keep: true,
            lock: None,
        };
        store.read_conversion(force)?;
        if !force {
            store.read_steps();
        }
        Ok(store)
    }

    fn load(&mut self, force: bool) -> Result<()> {
        let staging_name = self.staging.file_name().unwrap_or_default().to_owned();
        remove_where(&self.directory.join(OWN), |name| {
            name.to_string_lossy().starts_with(STAGING) && (force || name != staging_name)
        });
        self.read_conversion(force)?;
        self.read_steps();
        // What a killed step left half-made.
        let known: BTreeSet<PathBuf> = self
            .finished
            .values()
            .flat_map(|record| record.outputs.keys().map(PathBuf::from))
            .collect();
        remove_unknown(&self.staging, Path::new(""), &known);
        let steps = self.staging.join(STEPS);
        fs::create_dir_all(&steps).map_err(|source| self.unwritable(&steps, &source))
    }

    /// Takes what the record of the conversion in the directory says, unless it is another one.
    fn read_conversion(&mut self, force: bool) -> Result<()> {
        let earlier: Option<Conversion> = read_json(&self.directory.join(CONVERSION));
        if let Some(earlier) = earlier {
            if earlier.identity == self.identity && !force {
                self.finished = earlier.steps;
                self.replaced = earlier.replaced;
            } else {
                if let (false, Some(conflict)) = (force, self.identity.conflict(&earlier.identity))
                {
                    return Err(in_the_way(&self.directory, conflict));
                }
                self.replaced =
                    earlier.steps.into_values().flat_map(|step| step.outputs.into_keys()).collect();
                self.replaced.extend(earlier.replaced);
            }
        }
        Ok(())
    }

    /// Takes the records of steps that an earlier run left in staging.
    fn read_steps(&mut self) {
        let steps = self.staging.join(STEPS);
        for entry in std::fs::read_dir(&steps).into_iter().flatten().flatten() {
            if let Some(record) = read_json::<StepRecord>(&entry.path()) {
                self.finished.insert(record.number, record);
            }
        }
    }

    fn unwritable(&self, path: &Path, source: &std::io::Error) -> Error {
        io(codes::OUTPUT_UNWRITABLE, "cannot write to the output directory", path, source)
    }

    /// Where files are made.
    pub(super) fn staging(&self) -> &Path {
        &self.staging
    }

    /// The final directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where an output of this conversion is now: in staging, or under its final name.
    pub(super) fn locate(&self, relative: &Path) -> PathBuf {
        let staged = self.staging.join(relative);
        if staged.symlink_metadata().is_ok() { staged } else { self.directory.join(relative) }
    }

    /// A folder in staging for `relative`, made if need be.
    pub(super) fn place(&self, relative: &Path) -> Result<PathBuf> {
        let path = self.staging.join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| self.unwritable(parent, &source))?;
        }
        Ok(path)
    }

    /// The record of a step that is finished, its outputs unchanged.
    pub(super) fn finished(&self, step: u32) -> Option<&StepRecord> {
        let record = self.finished.get(&step)?;
        record.outputs.keys().all(|output| self.is_whole(step, output)).then_some(record)
    }

    /// Whether an output of a step is there as the step left it.
    pub(super) fn is_whole(&self, step: u32, output: &str) -> bool {
        let path = self.locate(Path::new(output));
        self.finished
            .get(&step)
            .and_then(|record| record.outputs.get(output))
            .is_some_and(|files| self.fingerprints.matches(&path, files))
    }

    /// Forgets that a step was finished, and what it left in staging.
    pub(super) fn begin(&mut self, step: u32) {
        let Some(record) = self.finished.remove(&step) else { return };
        let _ = std::fs::remove_file(self.step_file(step));
        for output in record.outputs.keys() {
            remove(&self.staging.join(output));
        }
        // They stay under their final names until others take their place.
        self.replaced.extend(record.outputs.into_keys());
    }

    fn step_file(&self, step: u32) -> PathBuf {
        self.staging.join(STEPS).join(format!("{step:02}.json"))
    }

    /// Notes that a step is finished; its outputs are in staging.
    pub(super) fn finish_step(
        &mut self,
        number: u32,
        outputs: &[PathBuf],
        packages: Vec<PackageReport>,
        by: &str,
        outcome: super::report::StepReport,
    ) -> Result<()> {
        let mut record = StepRecord {
            number,
            outputs: BTreeMap::new(),
            packages,
            by: by.to_owned(),
            done: outcome.done,
            message: outcome.message,
        };
        for output in outputs {
            let path = self.staging.join(output);
            let files =
                self.fingerprints.take(&path).map_err(|source| self.unwritable(&path, &source))?;
            record.outputs.insert(name_of(output)?, files);
        }
        write_json(&self.step_file(number), &record)?;
        self.finished.insert(number, record);
        Ok(())
    }

    /// The records of all finished steps, in their order.
    pub(super) fn records(&self) -> impl Iterator<Item = &StepRecord> {
        self.finished.values()
    }

    /// From now on, what is finished stays for the next run, whatever becomes of this one.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    /// Nothing of this run is kept for the next one.
    pub(super) fn discard(&mut self) {
        self.keep = false;
    }

    /// Gives every finished output, and `report` (a file in staging), its final name.
    ///
    /// The record is written first: a run that is killed here is completed by the next one.
    pub(super) fn publish(&mut self, report: &Path) -> Result<()> {
        self.keep();
        let outputs: BTreeSet<String> =
            self.finished.values().flat_map(|record| record.outputs.keys().cloned()).collect();
        self.replaced.retain(|output| !outputs.contains(output));
        let mut conversion = Conversion {
            identity: self.identity.clone(),
            steps: self.finished.clone(),
            replaced: self.replaced.clone(),
        };
        let record = self.directory.join(CONVERSION);
        write_json(&record, &conversion)?;
        for output in outputs.iter().map(Path::new).chain([report]) {
            if self.staging.join(output).symlink_metadata().is_ok() {
                self.publish_one(output)?;
            }
        }
        if !self.replaced.is_empty() {
            for output in std::mem::take(&mut self.replaced) {
                remove(&self.directory.join(output));
            }
            conversion.replaced.clear();
            write_json(&record, &conversion)?;
        }
        self.made.clear();
        self.keep = false;
        Ok(())
    }

    /// Moves one output to its final name; what was there goes to the staging folder, and with it
    /// at the end.
    fn publish_one(&self, relative: &Path) -> Result<()> {
        let from = self.staging.join(relative);
        let to = self.directory.join(relative);
        let failed = |source: std::io::Error| {
            io(codes::OUTPUT_UNWRITABLE, "cannot move a file to its final name", &to, &source)
        };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        if to.symlink_metadata().is_ok() {
            let aside = tempfile::Builder::new()
                .prefix("replaced-")
                .tempdir_in(&self.staging)
                .map_err(failed)?
                .keep();
            fs::rename(&to, aside.join("old")).map_err(failed)?;
        }
        fs::rename(&from, &to).map_err(failed)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.staging);
        }
        let _ = std::fs::remove_file(self.directory.join(OWN).join("lock"));
        // Directories that this run made, if nothing came to be in them.
        for path in &self.made {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Refuses an output directory that cannot become that of a conversion with these options, whatever
/// the weights are. Changes nothing.
///
/// # Errors
/// As [`Store::open`].
pub(super) fn refuse_conflict(directory: &Path, options: &Value, force: bool) -> Result<()> {
    refuse_file(directory)?;
    if let Ok(lock) = anemll_files::open_no_follow(&directory.join(OWN).join("lock"))
        && matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    {
        return Err(busy(directory));
    }
    let earlier: Option<Conversion> = read_json(&directory.join(CONVERSION));
    let Some(earlier) = earlier.filter(|_| !force) else { return Ok(()) };
    let mine = Identity { options: options.clone(), ..earlier.identity.clone() };
    match mine.conflict(&earlier.identity) {
        Some(conflict) => Err(in_the_way(directory, conflict)),
        None => Ok(()),
    }
}

/// Refuses an output directory that cannot be made or written, and leaves nothing there.
///
/// # Errors
/// [`codes::OUTPUT_UNWRITABLE`].
pub(super) fn refuse_unwritable(directory: &Path) -> Result<()> {
    let failed = |source: std::io::Error| {
        io(codes::OUTPUT_UNWRITABLE, "cannot write to the output directory", directory, &source)
    };
    let absolute = std::path::absolute(directory).map_err(failed)?;
    let there = absolute.ancestors().find(|path| path.exists());
    tempfile::tempfile_in(there.unwrap_or(&absolute)).map(drop).map_err(failed)
}

/// Whether an earlier run left something in an output directory.
pub(super) fn is_begun(directory: &Path) -> bool {
    directory.join(OWN).is_dir()
}

fn refuse_file(directory: &Path) -> Result<()> {
    if directory.exists() && !directory.is_dir() {
        return Err(Error::new(codes::OUTPUT_UNWRITABLE, "the output is not a directory")
            .with_at(directory.display().to_string())
            .with_hint("name a directory with --output"));
    }
    Ok(())
}

fn in_the_way(directory: &Path, conflict: String) -> Error {
    Error::new(codes::OUTPUT_EXISTS, conflict)
        .with_at(directory.display().to_string())
        .with_hint("choose another --output, or replace it with --force")
}

fn busy(directory: &Path) -> Error {
    Error::new(codes::OUTPUT_EXISTS, "another conversion is writing to this output directory")
        .with_at(directory.display().to_string())
        .with_hint("wait for it, or choose another --output")
}

/// The folders that have to be made, the innermost first.
fn missing_folders(directory: &Path) -> Result<Vec<PathBuf>> {
    refuse_file(directory)?;
    let own = directory.join(OWN);
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    Ok(own.ancestors().take_while(missing).map(Path::to_owned).collect())
}

fn lock(directory: &Path, made: &[PathBuf]) -> Result<File> {
    let failed = |source: std::io::Error| {
        // Nothing of a refused run stays, the folders of a deep path included.
        for path in made {
            let _ = std::fs::remove_dir(path);
        }
        io(codes::OUTPUT_UNWRITABLE, "cannot write to the output directory", directory, &source)
    };
    let own = directory.join(OWN);
    fs::create_dir_all(&own).map_err(failed)?;
    let lock = File::create(own.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(busy(directory)),
        // A file system without locks: two conversions at once are then the user's affair.
        Err(TryLockError::Error(_)) => Ok(lock),
    }
}

/// A relative path as it stands in records: with slashes, on every system.
fn name_of(path: &Path) -> Result<String> {
    let parts: Option<Vec<&str>> = path.iter().map(std::ffi::OsStr::to_str).collect();
    parts.map(|parts| parts.join("/")).ok_or_else(|| {
        Error::new(codes::OUTPUT_UNWRITABLE, "an output has a name that is no text")
            .with_at(path.display().to_string())
    })
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    // What cannot be read counts as not there: its step is done again.
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Writes a file so that it is there completely or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let failed = |source: std::io::Error| {
        io(codes::OUTPUT_UNWRITABLE, "cannot write to the output directory", path, &source)
    };
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|source| Error::new(codes::INTERNAL, format!("a record has no JSON: {source}")))?;
    text.push(b'\n');
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    std::io::Write::write_all(&mut file, &text).map_err(failed)?;
    file.persist(path).map_err(|source| failed(source.error))?;
    Ok(())
}

/// Removes a file or folder; what cannot be removed takes space, but does no harm.
pub(super) fn remove(path: &Path) {
    let Ok(kind) = path.symlink_metadata() else { return };
    let _ = if kind.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

fn remove_where(folder: &Path, unwanted: impl Fn(&std::ffi::OsStr) -> bool) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if unwanted(&entry.file_name()) {
            remove(&entry.path());
        }
    }
}

/// Removes from a staging folder what no finished step made.
fn remove_unknown(staging: &Path, relative: &Path, known: &BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(staging.join(relative)).into_iter().flatten().flatten() {
        let path = relative.join(entry.file_name());
        if known.contains(&path) || path == Path::new(STEPS) {
            continue;
        }
        if known.iter().any(|output| output.starts_with(&path)) {
            remove_unknown(staging, &path, known);
        } else {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
