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
            // A run that was killed could not clean up; nobody else is here now.
            Ok(()) => remove_stale_staging(&own),
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
            tempfile::Builder::new().prefix(STAGING).tempdir_in(&own).map_err(|source| {
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

const STAGING: &str = "staging-";

fn remove_stale_staging(own: &Path) {
    let Ok(listing) = std::fs::read_dir(own) else { return };
    for entry in listing.flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGING) {
            // What cannot be removed takes space, but does no harm.
            let _ = std::fs::remove_dir_all(entry.path());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_run_leaves_nothing_for_ever_and_two_runs_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let stale = folder.path().join(OWN).join("staging-killed");
        fs::create_dir_all(&stale).unwrap();
        fs::write(stale.join("weights.bin"), b"half").unwrap();
        let first = Output::create(folder.path()).unwrap();
        assert!(!stale.exists());
        let Err(error) = Output::create(folder.path()) else { panic!("it is locked") };
        assert_eq!(error.code, codes::OUTPUT_EXISTS);
        assert!(first.staging().is_dir(), "the refused run touched nothing");
        drop(first);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the old {OWN}");
    }

    #[test]
    fn publishing_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"old").unwrap();
        let output = Output::create(folder.path()).unwrap();
        fs::write(output.staging().join("file"), b"new").unwrap();
        output.publish(Path::new("file")).unwrap();
        output.finish();
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"new");
    }
}
