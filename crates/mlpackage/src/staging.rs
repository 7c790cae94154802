//! A folder that is filled under a hidden name and then takes its final name at once.

use crate::error::{ErrorKind, PackageError, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A hidden folder beside `destination`; it is removed when dropped before `publish`.
#[derive(Debug)]
pub struct Staging {
    destination: PathBuf,
    parent: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Staging {
    /// Creates the hidden folder. The destination's parent must exist; the destination itself
    /// must not, unless it may be replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`], [`ErrorKind::Usage`] for a destination without a name, and what the
    /// system says.
    pub fn create(destination: &Path, replace: bool) -> Result<Self> {
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

    /// Writes one new file of the folder and waits until it is on disk. `inner` is its path below
    /// the folder; folders on the way must be there.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_file(&self, inner: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(inner);
        File::create_new(&path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(|error| PackageError::writing(&path, "cannot write", &error))
    }

    /// Gives the folder its final name. With `replace`, what stands there is moved aside first and
    /// removed afterwards; the result is where it is, if it could not be removed.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] and what the system says; the folder is removed then, and what stood
    /// under the final name is still there.
    pub fn publish(mut self, replace: bool) -> Result<Option<PathBuf>> {
        refuse_existing(&self.destination, replace)?;
        sync_folder(&self.path)?;
        let aside = match std::fs::symlink_metadata(&self.destination) {
            Ok(_) => Some(self.move_aside()?),
            Err(_) => None,
        };
        if let Err(error) = std::fs::rename(&self.path, &self.destination) {
            if let Some(aside) = &aside {
                // Puts the old one back; if this fails too, it is still there under `aside`.
                let _ = std::fs::rename(aside.join("old"), &self.destination);
                let _ = std::fs::remove_dir(aside);
            }
            return Err(PackageError::writing(
                &self.destination,
                "cannot rename into place",
                &error,
            ));
        }
        self.published = true;
        sync_folder(&self.parent)?;
        Ok(aside.filter(|aside| std::fs::remove_dir_all(aside).is_err()))
    }

    /// Moves what stands at the destination into a hidden folder beside it.
    fn move_aside(&self) -> Result<PathBuf> {
        let aside = create_hidden(&self.destination, &self.parent, "old")?;
        std::fs::rename(&self.destination, aside.join("old")).map_err(|error| {
            let _ = std::fs::remove_dir(&aside);
            PackageError::writing(&self.destination, "cannot move the old one aside", &error)
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
pub fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| PackageError::writing(path, "cannot write", &error))?;
    }
    Ok(())
}

fn refuse_existing(destination: &Path, replace: bool) -> Result<()> {
    if !replace && std::fs::symlink_metadata(destination).is_ok() {
        return Err(PackageError::new(ErrorKind::Exists, destination, "exists already")
            .with_hint("remove it, or choose another name"));
    }
    Ok(())
}

/// A new folder `.NAME.PROCESS-NUMBER.ending` in `parent`.
fn create_hidden(destination: &Path, parent: &Path, ending: &str) -> Result<PathBuf> {
    let Some(name) = destination.file_name() else {
        return Err(PackageError::new(ErrorKind::Usage, destination, "this has no name"));
    };
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{number}.{ending}", std::process::id()));
        let path = parent.join(hidden);
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            // Left behind by a process of the same number that was killed.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(PackageError::writing(parent, "cannot create a folder in it", &error));
            }
        }
    }
}
