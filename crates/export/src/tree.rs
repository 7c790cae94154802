//! The files below a folder: regular ones, in one order, on every system.

use crate::error::{ErrorKind, ExportError, Result};
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};

/// Files of a folder that are listed; an export of the largest models has some hundred.
const MOST_FILES: usize = 100_000;
/// How deep folders may nest; those of models have four levels.
const MOST_FOLDERS: usize = 16;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    File { bytes: u64 },
    Link,
    Other,
}

/// Something below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Path in the folder, with forward slashes.
    pub(crate) path: String,
    pub(crate) node: Node,
}

/// Everything below a folder but the folders themselves, sorted by path. Links are not followed.
/// Names that `skipped` picks out are left out, with all that is below them.
pub(crate) fn list(folder: &Path, skipped: &dyn Fn(&str) -> bool) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    walk(folder, "", 0, skipped, &mut entries)?;
    entries.sort_by(|first, second| first.path.cmp(&second.path));
    Ok(entries)
}

/// The regular files below a folder, sorted by path.
///
/// # Errors
/// [`ErrorKind::Unfinished`] for anything that is neither file nor folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<(String, u64)>> {
    let entries = list(folder, &|name| name.ends_with(".DS_Store"))?;
    entries
        .into_iter()
        .map(|entry| match entry.node {
            Node::File { bytes } => Ok((entry.path, bytes)),
            Node::Link => Err(ExportError::new(
                ErrorKind::Unfinished,
                &folder.join(&entry.path),
                "this is a symbolic link; only regular files are exported",
            )
            .with_hint("put the file itself there, for instance with `cp -RL`")),
            Node::Other => Err(ExportError::new(
                ErrorKind::Unfinished,
                &folder.join(&entry.path),
                "this is neither a file nor a folder",
            )),
        })
        .collect()
}

fn walk(
    folder: &Path,
    before: &str,
    depth: usize,
    skipped: &dyn Fn(&str) -> bool,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let failed = |error: std::io::Error| ExportError::read(folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path: PathBuf = entry.path();
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            return Err(ExportError::new(ErrorKind::Read, &path, "its name is not UTF-8"));
        };
        let inner = format!("{before}{name}");
        if skipped(&inner) {
            continue;
        }
        // Of the entry itself, not of what a link points to.
        let metadata = fs::symlink_metadata(&path).map_err(|e| ExportError::read(&path, &e))?;
        let kind: FileType = metadata.file_type();
        if kind.is_dir() {
            if depth == MOST_FOLDERS {
                return Err(ExportError::new(ErrorKind::Read, &path, "folders nest too deeply"));
            }
            walk(&path, &format!("{inner}/"), depth + 1, skipped, entries)?;
            continue;
        }
        let node = match kind {
            kind if kind.is_symlink() => Node::Link,
            kind if kind.is_file() => Node::File { bytes: metadata.len() },
            _ => Node::Other,
        };
        if entries.len() == MOST_FILES {
            return Err(ExportError::new(ErrorKind::Read, folder, "too many files"));
        }
        entries.push(Entry { path: inner, node });
    }
    Ok(())
}
