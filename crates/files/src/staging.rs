//! A folder that is filled under a hidden name and then takes its final name at once.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A hidden folder beside its destination; it is removed when dropped before it is published.
#[derive(Debug)]
pub struct Staging {
    destination: PathBuf,
    parent: PathBuf,
    path: PathBuf,
    published: bool,
}

/// Why a folder was not made, or not given its final name.
#[derive(Debug)]
#[non_exhaustive]
pub enum StagingError {
    /// Something has the final name already, and may not be replaced.
    Exists,
    /// The destination has no name, as `..` has none.
    Nameless,
    /// A system call failed.
    System {
        /// What it was about.
        path: PathBuf,
        /// What was tried: a verb phrase such as "cannot rename into place".
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl fmt::Display for StagingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => formatter.write_str("exists already"),
            Self::Nameless => formatter.write_str("this has no name"),
            Self::System { action, source, .. } => write!(formatter, "{action}: {source}"),
        }
    }
}

impl std::error::Error for StagingError {}

impl Staging {
    /// Creates the hidden folder. The destination's parent must exist; the destination itself
    /// must not, unless it may be replaced.
    ///
    /// # Errors
    /// Any [`StagingError`].
    pub fn create(destination: &Path, replace: bool) -> Result<Self, StagingError> {
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        refuse_existing(destination, replace)?;
        let path = create_hidden(destination, &parent, "partial")?;
        Ok(Self { destination: destination.to_owned(), parent, path, published: false })
    }

    /// The folder to fill.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its final name. With `replace`, what stands there is moved aside first and
    /// removed afterwards; the result is where it is, if it could not be removed.
    ///
    /// # Errors
    /// [`StagingError::Exists`] and what the system says; the folder is removed then, and what stood
    /// under the final name is still there.
    pub fn publish(mut self, replace: bool) -> Result<Option<PathBuf>, StagingError> {
        let leftover = self.give_name(&self.path.clone(), replace);
        self.published = leftover.is_ok();
        leftover
    }

    /// As [`Self::publish`], for something in the folder: it takes the final name, the rest goes.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn publish_inner(
        self,
        name: &OsStr,
        replace: bool,
    ) -> Result<Option<PathBuf>, StagingError> {
        self.give_name(&self.path.join(name), replace)
    }

    fn give_name(&self, made: &Path, replace: bool) -> Result<Option<PathBuf>, StagingError> {
        refuse_existing(&self.destination, replace)?;
        sync(made)?;
        let aside = match std::fs::symlink_metadata(&self.destination) {
            Ok(_) => Some(self.move_aside()?),
            Err(_) => None,
        };
        if let Err(error) = std::fs::rename(made, &self.destination) {
            if let Some(aside) = &aside {
                // Puts the old one back; if this fails too, it is still there under `aside`.
                let _ = std::fs::rename(aside.join("old"), &self.destination);
                let _ = std::fs::remove_dir(aside);
            }
            return Err(system(&self.destination, "cannot rename into place", error));
        }
        sync(&self.parent)?;
        Ok(aside.filter(|aside| std::fs::remove_dir_all(aside).is_err()))
    }

    /// Moves what stands at the destination into a hidden folder beside it.
    fn move_aside(&self) -> Result<PathBuf, StagingError> {
        let aside = create_hidden(&self.destination, &self.parent, "old")?;
        std::fs::rename(&self.destination, aside.join("old")).map_err(|error| {
            let _ = std::fs::remove_dir(&aside);
            system(&self.destination, "cannot move the old one aside", error)
        })?;
        Ok(aside)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // Nothing can be done about a failure here; the name shows what the folder is.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Waits until the entries of a folder are on disk, where the system can do that.
///
/// # Errors
/// What the system says.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all())?;
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), StagingError> {
    sync_folder(path).map_err(|error| system(path, "cannot write", error))
}

fn system(path: &Path, action: &'static str, source: io::Error) -> StagingError {
    StagingError::System { path: path.to_owned(), action, source }
}

fn refuse_existing(destination: &Path, replace: bool) -> Result<(), StagingError> {
    if !replace && std::fs::symlink_metadata(destination).is_ok() {
        return Err(StagingError::Exists);
    }
    Ok(())
}

/// A new folder `.NAME.PROCESS-NUMBER.ending` in `parent`.
fn create_hidden(destination: &Path, parent: &Path, ending: &str) -> Result<PathBuf, StagingError> {
    let name = destination.file_name().ok_or(StagingError::Nameless)?;
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{number}.{ending}", std::process::id()));
        let path = parent.join(hidden);
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            // Left behind by a process of the same number that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(system(parent, "cannot create a folder in it", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn something_in_the_folder_takes_the_name_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("made");
        std::fs::create_dir(&destination).unwrap();
        std::fs::write(destination.join("old"), "old").unwrap();
        let staging = Staging::create(&destination, true).unwrap();
        std::fs::create_dir(staging.path().join("inner")).unwrap();
        std::fs::write(staging.path().join("inner/new"), "new").unwrap();
        std::fs::write(staging.path().join("log"), "log").unwrap();
        assert_eq!(staging.publish_inner(OsStr::new("inner"), true).unwrap(), None);
        assert_eq!(names(folder.path()), ["made"]);
        assert_eq!(names(&destination), ["new"]);
    }

    #[test]
    fn what_is_not_there_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("made");
        std::fs::create_dir(&destination).unwrap();
        std::fs::write(destination.join("old"), "old").unwrap();
        let staging = Staging::create(&destination, true).unwrap();
        assert!(staging.publish_inner(OsStr::new("inner"), true).is_err());
        assert_eq!(names(folder.path()), ["made"]);
        assert_eq!(names(&destination), ["old"]);
        assert!(matches!(Staging::create(&destination, false), Err(StagingError::Exists)));
        assert!(matches!(Staging::create(Path::new("/"), true), Err(StagingError::Nameless)));
    }
}
