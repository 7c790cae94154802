//! What goes into an archive.

use crate::Result;
use std::path::{Path, PathBuf};

/// A file of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Path in the archive, with forward slashes.
    pub(crate) name: String,
    content: Content,
    executable: bool,
}

#[derive(Debug, Clone)]
enum Content {
    File(PathBuf),
    Text(String),
}

impl Entry {
    /// A file as it is.
    pub(crate) fn file(name: impl Into<String>, path: &Path) -> Self {
        Self { name: name.into(), content: Content::File(path.to_owned()), executable: false }
    }

    /// A file that can be started, or loaded as a library.
    pub(crate) fn program(name: impl Into<String>, path: &Path) -> Self {
        Self { executable: true, ..Self::file(name, path) }
    }

    /// A text.
    pub(crate) fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), content: Content::Text(text.into()), executable: false }
    }

    /// The same under another name.
    pub(crate) fn renamed(&self, name: String) -> Self {
        Self { name, ..self.clone() }
    }

    /// Its bytes.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        match &self.content {
            Content::File(path) => {
                std::fs::read(path).map_err(|error| super::failed("read", path, &error))
            }
            Content::Text(text) => Ok(text.clone().into_bytes()),
        }
    }

    /// Its mode.
    pub(crate) fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

/// The files of a folder, sorted, below `name`.
pub(crate) fn folder(name: &str, path: &Path) -> Result<Vec<Entry>> {
    let failed = |error: std::io::Error| super::failed("read", path, &error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file = entry.file_name().into_string().map_err(|_| "a file's name is not UTF-8")?;
        entries.push(Entry::file(format!("{name}/{file}"), &entry.path()));
    }
    entries.sort_by(|first, second| first.name.cmp(&second.name));
    Ok(entries)
}
