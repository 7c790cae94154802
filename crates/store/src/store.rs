//! An output directory that a run writes to.

use crate::disk::{
    Disk, NEW, System, is_folder, link_tree, make_folders, remove_tree, sync_tree, write_whole,
};
use crate::error::{PathError, unwritable};
use crate::record::{self, StepRecord};
use crate::source::Source;
use crate::view::{
    LOCK, Request, STAGING, STEPS, View, busy, refuse_file, refuse_no_folder, step_file,
};
use crate::{Identity, OWN, OutputName};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often the lock is tried where runs that end take its file away.
const LOCK_TRIES: u32 = 100;

/// An output directory, locked, with a staging folder.
#[derive(Debug)]
pub struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) view: View,
    pub(crate) identity: Identity,
    pub(crate) force: bool,
    pub(crate) source: Source,
    /// Folders that this run made, the innermost first.
    pub(crate) made: Vec<PathBuf>,
    pub(crate) keep: bool,
    /// Whether a journal stands that the next run needs, with the staging folder.
    pub(crate) journal: bool,
    /// What a user should know.
    pub(crate) warnings: Vec<String>,
    lock: Option<File>,
}

impl Store {
    /// Makes the directory where it is missing, locks it, takes back what a killed run published in
    /// part, and looks what is there.
    ///
    /// # Errors
    /// [`codes::OUTPUT_EXISTS`] for another conversion (unless forced) and while another one runs,
    /// [`codes::OUTPUT_UNWRITABLE`], and those of [`View::look`].
    pub fn open(request: &Request<'_>) -> Result<Self> {
        Self::open_on(Arc::new(System), request)
    }

    /// As [`Self::open`], with changes made through `disk`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(disk: Arc<dyn Disk>, request: &Request<'_>) -> Result<Self> {
        let source = match request.model {
            Some(model) => Source::new(model, request.directory)?,
            None => Source::default(),
        };
        let mut store = Self {
            disk,
            view: View { directory: request.directory.to_owned(), ..View::default() },
            identity: request.identity.clone(),
            force: request.force,
            source,
            made: missing_folders(request.directory)?,
            keep: false,
            journal: false,
            warnings: Vec::new(),
            lock: None,
        };
        // From here on, dropping the store leaves nothing behind.
        for folder in store.made.iter().rev() {
            store.disk.create_folder(folder).map_err(|source| unwritable(folder, &source))?;
        }
        refuse_no_folder(&store.own())?;
        store.lock = Some(lock(request.directory)?);
        store.recover()?;
        store.view = View::load(request)?;
        store.clean_up()?;
        Ok(store)
    }

    /// What is there.
    pub fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn own(&self) -> PathBuf {
        self.view.directory.join(OWN)
    }

    /// Removes what killed runs and other conversions left half-made, and makes the staging folder.
    fn clean_up(&mut self) -> Result<()> {
        let staging = self.view.staging.file_name().unwrap_or_default().to_owned();
        let own = self.own();
        for name in self.disk.list(&own).unwrap_or_default() {
            let text = name.to_string_lossy();
            let other = text.starts_with(STAGING) && (self.force || name != staging);
            if other || text.ends_with(NEW) {
                self.try_to_remove(&own.join(&name));
            }
        }
        let known: BTreeSet<PathBuf> = self
            .view
            .finished
            .values()
            .flat_map(|record| record.outputs.keys().map(OutputName::to_path))
            .collect();
        self.remove_unknown(Path::new(""), &known);
        let steps = Path::new(OWN).join(&staging).join(STEPS);
        make_folders(self.disk.as_ref(), &self.view.directory, &steps)?;
        Ok(())
    }

    /// Removes from the staging folder what no finished step made.
    fn remove_unknown(&mut self, relative: &Path, known: &BTreeSet<PathBuf>) {
        let folder = self.view.staging.join(relative);
        if !is_folder(&folder) {
            return;
        }
        let names = match self.disk.list(&folder) {
            Ok(names) => names,
            Err(error) => return self.warn_of_leftover(&folder, &error),
        };
        for name in names {
            let path = relative.join(name);
            if known.contains(&path) || path == Path::new(STEPS) {
                continue;
            }
            let inner = self.view.staging.join(&path);
            if known.iter().any(|output| output.starts_with(&path)) && is_folder(&inner) {
                self.remove_unknown(&path, known);
            } else {
                self.try_to_remove(&inner);
            }
        }
    }

    pub(crate) fn try_to_remove(&mut self, path: &Path) {
        if let Err(PathError { path, source }) = remove_tree(self.disk.as_ref(), path) {
            self.warn_of_leftover(&path, &source);
        }
    }

    fn warn_of_leftover(&mut self, path: &Path, error: &std::io::Error) {
        self.warnings.push(format!(
            "{} cannot be removed: {error}; it takes space, and the next run into this directory \
             tries again",
            path.display()
        ));
    }

    /// A path in staging for `relative`, its folder made if need be.
    ///
    /// # Errors
    /// [`codes::OUTPUT_UNWRITABLE`].
    pub fn place(&self, relative: &Path) -> Result<PathBuf> {
        let folder = relative.parent().unwrap_or(Path::new(""));
        make_folders(self.disk.as_ref(), &self.view.staging, folder)?;
        Ok(self.view.staging.join(relative))
    }

    /// Writes a file into staging, completely or not at all.
    ///
    /// # Errors
    /// [`codes::OUTPUT_UNWRITABLE`].
    pub fn write(&self, relative: &Path, bytes: &[u8]) -> Result<()> {
        let path = self.place(relative)?;
        Ok(write_whole(self.disk.as_ref(), &path, bytes)?)
    }

    /// Writes a value as JSON into staging, completely or not at all.
    ///
    /// # Errors
    /// [`codes::OUTPUT_UNWRITABLE`].
    pub fn write_json(&self, relative: &Path, value: &impl Serialize) -> Result<()> {
        self.write(relative, &record::to_text(value)?)
    }

    /// Brings what has its final name already into staging too, by links where the file system has
    /// them; nothing where it is in staging, or not there at all.
    ///
    /// # Errors
    /// [`codes::OUTPUT_UNWRITABLE`].
    pub fn gather(&self, relative: &Path) -> Result<()> {
        let (from, to) = (self.view.directory.join(relative), self.place(relative)?);
        if to.exists() || !from.exists() {
            return Ok(());
        }
        Ok(link_tree(self.disk.as_ref(), &from, &to)?)
    }

    /// Forgets that a step was finished, and what it left in staging. What has its final name keeps
    /// it until something else takes its place.
    ///
    /// # Errors
    /// [`codes::OUTPUT_UNWRITABLE`] when the old outputs cannot be removed.
    pub fn begin(&mut self, step: u32) -> Result<()> {
        let Some(record) = self.view.finished.remove(&step) else { return Ok(()) };
        let outputs = record.outputs.keys().map(OutputName::to_path);
        for path in std::iter::once(Path::new(STEPS).join(step_file(step))).chain(outputs) {
            remove_tree(self.disk.as_ref(), &self.view.staging.join(path))?;
        }
        Ok(())
    }

    /// Notes that a step is finished; its outputs are in staging. `record` is all that is known of
    /// it but the files of the outputs.
    ///
    /// # Errors
    /// [`codes::OUTPUT_UNWRITABLE`], also for an output that is not there;
    /// [`codes::OUTPUT_RECORD_INVALID`] for a name that no output can have.
    pub fn finish_step(&mut self, mut record: StepRecord, outputs: &[PathBuf]) -> Result<()> {
        for output in outputs {
            let path = self.view.staging.join(output);
            let name = OutputName::of_path(output)?;
            let files = self.view.fingerprints.take(&path);
            record.outputs.insert(name, files.map_err(|source| unwritable(&path, &source))?);
            sync_tree(self.disk.as_ref(), &path)?;
        }
        let path = self.view.staging.join(STEPS).join(step_file(record.number));
        record::write(self.disk.as_ref(), &path, &record)?;
        self.view.finished.insert(record.number, record);
        Ok(())
    }

    /// From now on, what is finished stays for the next run, whatever becomes of this one.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Nothing of this run is kept for the next one.
    pub fn discard(&mut self) {
        self.keep = false;
    }

    /// Ends the run: removes what is not kept, and gives up the lock. The answer is what the user
    /// should know: what could not be removed, and what was left alone.
    pub fn close(mut self) -> Vec<String> {
        self.leave();
        std::mem::take(&mut self.warnings)
    }

    fn leave(&mut self) {
        if let Some(lock) = self.lock.take() {
            if !self.keep && !self.journal && !self.view.staging.as_os_str().is_empty() {
                let staging = self.view.staging.clone();
                self.try_to_remove(&staging);
            }
            let path = self.own().join(LOCK);
            self.try_to_remove(&path);
            drop(lock);
        }
        // Folders that this run made, if nothing came to be in them.
        for path in std::mem::take(&mut self.made) {
            let _ = self.disk.remove_folder(&path);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The folders that have to be made, the innermost first.
fn missing_folders(directory: &Path) -> Result<Vec<PathBuf>> {
    refuse_file(directory)?;
    let own = directory.join(OWN);
    let missing = |path: &&Path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
    Ok(own.ancestors().take_while(missing).map(Path::to_owned).collect())
}

/// Takes the lock of an output directory.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(OWN).join(LOCK);
    for _ in 0..LOCK_TRIES {
        let lock = anemll_files::open_own(&path).map_err(|source| unwritable(&path, &source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy(directory)),
            // A file system without locks: two conversions at once are then the user's affair.
            Err(TryLockError::Error(_)) => return Ok(lock),
        }
        // A run that ended in between may have removed the file that is locked now.
        if is_at(&lock, &path) {
            return Ok(lock);
        }
    }
    Err(Error::new(codes::OUTPUT_UNWRITABLE, "the lock of the output directory keeps changing")
        .with_at(path.display().to_string())
        .with_hint("wait for the other conversions, or choose another --output"))
}

/// Whether an open file is the one at a path.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        match (file.metadata(), path.symlink_metadata()) {
            (Ok(file), Ok(path)) => (file.dev(), file.ino()) == (path.dev(), path.ino()),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        crate::disk::exists(path)
    }
}
