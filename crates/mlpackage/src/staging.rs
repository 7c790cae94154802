//! A folder that is filled under a hidden name and then takes its final name at once, with the
//! errors of packages.

use crate::error::{ErrorKind, PackageError, Result};
use anemll_files::StagingError;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A hidden folder beside `destination`; it is removed when dropped before `publish`.
#[derive(Debug)]
pub struct Staging {
    destination: PathBuf,
    folder: anemll_files::Staging,
}

impl Staging {
    /// Creates the hidden folder. The destination's parent must exist; the destination itself
    /// must not, unless it may be replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`], [`ErrorKind::Usage`] for a destination without a name, and what the
    /// system says.
    pub fn create(destination: &Path, replace: bool) -> Result<Self> {
        let folder = anemll_files::Staging::create(destination, replace)
            .map_err(|error| to_error(destination, error))?;
        Ok(Self { destination: destination.to_owned(), folder })
    }

    /// The folder to fill.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes one new file of the folder and waits until it is on disk. `inner` is its path below
    /// the folder; folders on the way must be there.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_file(&self, inner: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path().join(inner);
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
    pub fn publish(self, replace: bool) -> Result<Option<PathBuf>> {
        self.folder.publish(replace).map_err(|error| to_error(&self.destination, error))
    }
}

/// Waits until the entries of a folder are on disk, where the system can do that.
///
/// # Errors
/// What the system says.
pub fn sync_folder(path: &Path) -> Result<()> {
    anemll_files::sync_folder(path)
        .map_err(|error| PackageError::writing(path, "cannot write", &error))
}

fn to_error(destination: &Path, error: StagingError) -> PackageError {
    match error {
        StagingError::Exists => {
            PackageError::new(ErrorKind::Exists, destination, error.to_string())
                .with_hint("remove it, or choose another name")
        }
        StagingError::System { path, action, source } => {
            PackageError::writing(&path, action, &source)
        }
        other => PackageError::new(ErrorKind::Usage, destination, other.to_string()),
    }
}
