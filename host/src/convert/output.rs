//! The output directory: nothing appears under a final name before all of it is complete.

use crate::error::io;
use anemll_plugin_api::{Error, Result, codes};
use fs_err as fs;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The folder of our own files inside an output directory.
pub(super) const OWN: &str = ".anemll";

/// An output directory with a staging folder, which goes away on error and on Ctrl-C.
pub(super) struct Output {
    directory: PathBuf,
    staging: Option<tempfile::TempDir>,
    made: Vec<PathBuf>,
    _lock: File,
}

impl Output {
    /// Makes the directory where it is missing, locks it, and makes a staging folder inside, so
    /// that the last step is a rename on one file system.
    pub(super) fn create(directory: &Path) -> Result<Self> {
        let mut made = Vec::new();
        let mut ancestor = Some(directory);
        while let Some(path) = ancestor {
            if path.as_os_str().is_empty() || path.exists() {
                break;
            }
            made.push(path.to_owned());
            ancestor = path.parent();
        }
        let own = directory.join(OWN);
        if !own.exists() {
            made.insert(0, own.clone());
        }
        if directory.exists() && !directory.is_dir() {
            return Err(Error::new(codes::OUTPUT_UNWRITABLE, "the output is not a directory")
                .with_at(directory.display().to_string())
                .with_hint("name a directory with --output"));
        }
        fs::create_dir_all(&own).map_err(|source| {
            io(codes::OUTPUT_UNWRITABLE, "cannot make the output directory", directory, &source)
        })?;
        let lock_path = own.join("lock");
        let lock = File::create(&lock_path).map_err(|source| {
            io(codes::OUTPUT_UNWRITABLE, "cannot write to the output directory", directory, &source)
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    codes::OUTPUT_EXISTS,
                    "another conversion is writing to this output directory",
                )
                .with_at(directory.display().to_string())
                .with_hint("wait for it, or choose another --output"));
            }
            // A file system without locks: two conversions at once are then the user's affair.
            Err(TryLockError::Error(_)) => {}
        }
        let staging =
            tempfile::Builder::new().prefix("staging-").tempdir_in(&own).map_err(|source| {
                io(
                    codes::OUTPUT_UNWRITABLE,
                    "cannot write to the output directory",
                    directory,
                    &source,
                )
            })?;
        Ok(Self { directory: directory.to_owned(), staging: Some(staging), made, _lock: lock })
    }

    /// Where files are made.
    pub(super) fn staging(&self) -> &Path {
        self.staging.as_ref().map_or(&self.directory, tempfile::TempDir::path)
    }

    /// The final directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Moves what stands at `relative` in the staging folder to its final name; what was there
    /// goes to the staging folder, and with it at the end.
    pub(super) fn publish(&self, relative: &Path) -> Result<PathBuf> {
        let from = self.staging().join(relative);
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
                .tempdir_in(self.staging())
                .map_err(failed)?
                .keep();
            fs::rename(&to, aside.join("old")).map_err(failed)?;
        }
        fs::rename(&from, &to).map_err(failed)?;
        Ok(to)
    }

    /// The conversion is complete: what was made stays.
    pub(super) fn finish(mut self) {
        self.made.clear();
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.staging = None;
        let _ = fs::remove_file(self.directory.join(OWN).join("lock"));
        // Directories that this run made, if nothing came to be in them.
        for path in &self.made {
            let _ = std::fs::remove_dir(path);
        }
    }
}
