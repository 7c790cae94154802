//! One error type for what cannot be compiled, and for compiled models that cannot be read.

use anemll_mlpackage::PackageError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Result of the functions of this crate.
pub type Result<T> = std::result::Result<T, CompileError>;

/// What kind of thing is wrong. The names are stable; callers map them to their error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The package or one of its files, or what the system says about files that are written.
    Package(anemll_mlpackage::ErrorKind),
    /// The model is of another type than ML Program.
    ModelType,
    /// The model has a specification version that is not written.
    Version,
    /// The program or the description cannot be written as a compiled model.
    Program,
    /// A file of a compiled model is damaged or missing.
    Compiled,
}

/// Which file, what is wrong with it, and what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CompileError {
    kind: ErrorKind,
    path: PathBuf,
    reason: String,
    hint: Option<String>,
}

impl fmt::Display for CompileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.reason)
    }
}

impl From<PackageError> for CompileError {
    fn from(error: PackageError) -> Self {
        Self {
            kind: ErrorKind::Package(error.kind()),
            path: error.path().to_owned(),
            reason: error.reason().to_owned(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

impl CompileError {
    pub(crate) fn new(
        kind: ErrorKind,
        path: impl Into<PathBuf>,
        reason: impl Into<String>,
    ) -> Self {
        Self { kind, path: path.into(), reason: reason.into(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Describes a failed system call: `action` is a verb phrase such as "cannot read".
    pub(crate) fn io(path: &Path, action: &str, error: &std::io::Error) -> Self {
        PackageError::io(path, action, error).into()
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file or folder that the error is about.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong, without the path.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What the user can do, where we know it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
