//! A plugin library whose bytes cannot change between being looked at and being loaded.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anemll_plugin_api::{Error, LoadedPlugin, Result};

use crate::identity::{Identity, copy_summed};
use crate::library_file::{RawManifest, manifest_in, open_file, unreadable};
use crate::loader::{LoadOptions, at_file, checked_manifest, load};

/// A plugin library as it was at one moment.
///
/// On Linux it is a copy in memory, sealed against every change, on other Unix systems a copy in a
/// folder that only the user can enter, removed when it is loaded or dropped; on Windows the file
/// itself, held open such that nobody can write to it.
pub struct Snapshot {
    /// The library that was named.
    source: PathBuf,
    identity: Identity,
    raw: RawManifest,
    place: Place,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Snapshot({}, {})", self.source.display(), self.identity.sha256)
    }
}

impl Snapshot {
    /// Reads a library, its manifest and its SHA-256. None of it is run.
    ///
    /// # Errors
    /// Those of [`manifest_of_file`](crate::manifest_of_file).
    pub fn of(path: &Path) -> Result<Self> {
        Self::read(path).map_err(|error| at_file(error, path))
    }

    fn read(path: &Path) -> Result<Self> {
        let (place, sha256, bytes) = Place::of(path)?;
        let raw = manifest_in(place.file().map_err(|error| unreadable(&error.to_string()))?)?;
        let manifest = checked_manifest(&raw)?;
        let identity = Identity { manifest, sha256, bytes };
        Ok(Self { source: path.to_owned(), identity, raw, place })
    }

    /// Which library it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Writes the library somewhere else.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn copy_to(&self, mut target: impl Write) -> std::io::Result<()> {
        let mut file = self.place.file()?;
        std::io::Seek::rewind(&mut file)?;
        std::io::copy(&mut file, &mut target).map(drop)
    }

    /// Loads the plugin, with the very bytes that the sum is of.
    ///
    /// # Errors
    /// Those of [`open`](crate::open) from the opening on.
    pub fn open(self) -> Result<LoadedPlugin> {
        let Self { source, raw, identity, place } = self;
        let plugin = load(&place.path(), &raw, &identity.manifest, &LoadOptions::default());
        place.settle();
        plugin.map_err(|error| at_file(error, &source))
    }
}

/// Where the bytes are.
#[cfg(target_os = "linux")]
enum Place {
    /// In memory.
    Memory(File),
    /// In a folder of our own, where the system gives no memory for that.
    Folder(private::Folder),
}

#[cfg(target_os = "linux")]
impl Place {
    fn of(path: &Path) -> Result<(Self, String, u64)> {
        let mut source = open_file(path)?;
        let Ok(memory) = memory_file() else {
            let (folder, sha256, bytes) = private::Folder::of(&mut source)?;
            return Ok((Self::Folder(folder), sha256, bytes));
        };
        let (sha256, bytes) = copy_summed(&mut source, &memory)?;
        use rustix::fs::{SealFlags, fcntl_add_seals};
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&memory, seals).map_err(|error| unreadable(&error.to_string()))?;
        Ok((Self::Memory(memory), sha256, bytes))
    }

    fn file(&self) -> std::io::Result<File> {
        match self {
            Self::Memory(file) => file.try_clone(),
            Self::Folder(folder) => folder.file(),
        }
    }

    fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        match self {
            Self::Memory(file) => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            Self::Folder(folder) => folder.path(),
        }
    }

    /// What was opened keeps its name for good: the system's loader takes a library of the same name
    /// for the same library, and another file could get the number of one that was closed.
    fn settle(self) {
        if let Self::Memory(file) = self {
            std::mem::forget(file);
        }
    }
}

/// A file in memory that can be sealed, and be opened by a path.
#[cfg(target_os = "linux")]
fn memory_file() -> std::io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    if !Path::new("/proc/self/fd").is_dir() {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Systems that would make it unfit to be loaded must be told; older ones do not know the flag.
    let made = memfd_create("anemll-plugin", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("anemll-plugin", flags))?;
    Ok(File::from(made))
}

#[cfg(all(unix, not(target_os = "linux")))]
struct Place(private::Folder);

#[cfg(all(unix, not(target_os = "linux")))]
impl Place {
    fn of(path: &Path) -> Result<(Self, String, u64)> {
        let (folder, sha256, bytes) = private::Folder::of(&mut open_file(path)?)?;
        Ok((Self(folder), sha256, bytes))
    }

    fn file(&self) -> std::io::Result<File> {
        self.0.file()
    }

    fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// The system keeps what it has loaded, also without its name.
    fn settle(self) {}
}

/// A copy in a folder that only the user can enter.
#[cfg(unix)]
mod private {
    use super::{Error, File, PathBuf, Result, copy_summed};
    use anemll_codes as codes;

    pub(super) struct Folder(tempfile::TempDir);

    impl Folder {
        pub(super) fn of(source: &mut File) -> Result<(Self, String, u64)> {
            let failed = |error: std::io::Error| {
                Error::new(
                    codes::SCRATCH_DIRECTORY,
                    format!("a plugin cannot be copied before it is loaded: {error}"),
                )
            };
            let mut builder = tempfile::Builder::new();
            builder.prefix("anemll-");
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
            let folder = Self(builder.tempdir().map_err(failed)?);
            let mut copy = File::create_new(folder.path()).map_err(failed)?;
            let (sha256, bytes) = copy_summed(source, &mut copy)?;
            Ok((folder, sha256, bytes))
        }

        pub(super) fn file(&self) -> std::io::Result<File> {
            File::open(self.path())
        }

        pub(super) fn path(&self) -> PathBuf {
            self.0.path().join("plugin")
        }
    }
}

#[cfg(windows)]
struct Place {
    file: File,
    path: PathBuf,
}

#[cfg(windows)]
impl Place {
    fn of(path: &Path) -> Result<(Self, String, u64)> {
        let failed = |error: std::io::Error| unreadable(&error.to_string());
        let path = std::fs::canonicalize(path).map_err(failed)?;
        let mut file = open_file(&path)?;
        let (sha256, bytes) = copy_summed(&mut file, std::io::sink())?;
        Ok((Self { file, path }, sha256, bytes))
    }

    fn file(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }

    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The system holds what it has loaded.
    fn settle(self) {}
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_copy_in_a_folder_is_the_users_alone_and_goes_away() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::write(&source, "abc").unwrap();
        let (folder, sha256, bytes) =
            private::Folder::of(&mut File::open(&source).unwrap()).unwrap();
        assert_eq!(bytes, 3);
        assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let path = folder.path();
        let mode = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o77, 0, "{mode:o}");
        drop(folder);
        assert!(!path.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_copy_in_memory_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::write(&source, "abc").unwrap();
        let (place, ..) = Place::of(&source).unwrap();
        std::fs::write(&source, "xyz").unwrap();
        assert!(matches!(place, Place::Memory(_)), "this system has no files in memory");
        let path = place.path();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        assert!(std::fs::write(&path, "xyz").is_err());
        assert!(place.file().unwrap().write_all(b"x").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
    }
}
