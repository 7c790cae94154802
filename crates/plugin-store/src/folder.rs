//! A folder with plugins, and what is in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::permissions::anyone_may_write;
use crate::place::Origin;

/// What came of looking into a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderState {
    /// It was looked through, and has this many libraries.
    Searched(usize),
    /// It does not exist.
    Missing,
    /// It is there and cannot be read, in the system's words.
    Unreadable(String),
    /// Anyone may write to it, so nothing of it is used.
    Writable,
}

/// A folder in which plugins are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// What kind of folder it is.
    pub origin: Origin,
    /// Where it is.
    pub path: PathBuf,
    /// What came of it.
    pub state: FolderState,
}

impl Folder {
    /// Looks through a folder: its libraries, in the order of their names.
    pub(crate) fn search(origin: Origin, path: &Path) -> (Self, Vec<PathBuf>) {
        // Without dots, and through links.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = |state| Self { origin, path: path.clone(), state };
        if anyone_may_write(&path) {
            return (folder(FolderState::Writable), Vec::new());
        }
        let listing = match std::fs::read_dir(&path) {
            Ok(listing) => listing,
            Err(source) if source.kind() == ErrorKind::NotFound => {
                return (folder(FolderState::Missing), Vec::new());
            }
            Err(source) => {
                return (folder(FolderState::Unreadable(source.to_string())), Vec::new());
            }
        };
        let mut libraries: Vec<PathBuf> = listing
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_library_name(path))
            .collect();
        // The order of a directory listing is not the same on every file system.
        libraries.sort();
        (folder(FolderState::Searched(libraries.len())), libraries)
    }

    /// What came of it, to complete a sentence that begins with the folder.
    pub fn outcome(&self) -> String {
        match &self.state {
            FolderState::Searched(1) => "which has 1 library".to_owned(),
            FolderState::Searched(count) => format!("which has {count} libraries"),
            FolderState::Missing => "which does not exist".to_owned(),
            FolderState::Unreadable(why) => format!("which cannot be read: {why}"),
            FolderState::Writable => "which was left out, as anyone may write to it".to_owned(),
        }
    }
}

/// Whether a file in a folder with plugins is meant to be one.
fn is_library_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
    matches!(extension, "so" | "dylib" | "dll")
}
