//! What goes wrong with an export.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible call.
pub type Result<T> = std::result::Result<T, ExportError>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The conversion lacks something that a finished one has, or a file of it cannot be used.
    Unfinished,
    /// A model that apps load is not compiled, or not from the package beside it.
    NotCompiled,
    /// The target directory cannot take the export.
    Target,
    /// Something is in the target directory already.
    Exists,
    /// release.json cannot be used.
    Release,
    /// A file cannot be read.
    Read,
    /// A file cannot be written.
    Write,
    /// The caller wanted to stop.
    Cancelled,
}

/// What went wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportError {
    kind: ErrorKind,
    path: PathBuf,
    reason: String,
    hint: Option<String>,
}

impl ExportError {
    pub(crate) fn new(kind: ErrorKind, path: &Path, reason: impl Into<String>) -> Self {
        Self { kind, path: path.to_owned(), reason: reason.into(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn read(path: &Path, source: &io::Error) -> Self {
        Self::new(ErrorKind::Read, path, format!("cannot be read: {source}"))
    }

    pub(crate) fn write(path: &Path, source: &io::Error) -> Self {
        let error = Self::new(ErrorKind::Write, path, format!("cannot be written: {source}"));
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                error.with_hint("free some space, or choose another --to")
            }
            io::ErrorKind::PermissionDenied => error.with_hint("check the permissions of the path"),
            _ => error,
        }
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, Path::new(""), "cancelled")
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file or folder that it is about.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong, in one line.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What to do.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for ExportError {}
