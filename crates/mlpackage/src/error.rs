//! One error type for everything that can be wrong with a package on disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of the functions of this crate.
pub type Result<T> = std::result::Result<T, PackageError>;

/// What kind of thing is wrong. The names are stable; callers map them to their error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The path, or a file that a package needs, does not exist.
    NotFound,
    /// The path exists but is neither a package nor a model file.
    NotAPackage,
    /// `Manifest.json` is malformed, incomplete or of a newer version.
    Manifest,
    /// A path named by a package leads out of it.
    PathEscape,
    /// The model file is too large, malformed, or holds fields that we do not know.
    Model,
    /// A weight file breaks the rules of blob storage version 2.
    Weights,
    /// A value names a weight record that the package does not have.
    Reference,
    /// The destination exists and may not be replaced.
    Exists,
    /// A function of this crate was called with arguments that contradict each other.
    Usage,
    /// The file system is full, or a quota is used up.
    DiskFull,
    /// No permission to read or write.
    Permission,
    /// Any other failure of the operating system.
    Io,
}

impl ErrorKind {
    /// The stable name, such as `path-escape`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::NotAPackage => "not-a-package",
            Self::Manifest => "manifest",
            Self::PathEscape => "path-escape",
            Self::Model => "model",
            Self::Weights => "weights",
            Self::Reference => "reference",
            Self::Exists => "exists",
            Self::Usage => "usage",
            Self::DiskFull => "disk-full",
            Self::Permission => "permission",
            Self::Io => "io",
        }
    }
}

/// Which file, what is wrong with it, and what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PackageError {
    kind: ErrorKind,
    path: PathBuf,
    reason: String,
    hint: Option<String>,
}

impl fmt::Display for PackageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.reason)
    }
}

impl PackageError {
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
    pub fn io(path: &Path, action: &str, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::Permission
            }
            _ => ErrorKind::Io,
        };
        let made = Self::new(kind, path, format!("{action}: {error}"));
        match kind {
            ErrorKind::DiskFull => made.with_hint("free some space, or choose another folder"),
            ErrorKind::Permission => {
                made.with_hint("check the permissions of the file and of its folder")
            }
            _ => made,
        }
    }

    /// The error of a file or folder that cannot be written, for callers which make files that go
    /// into packages.
    pub fn cannot_write(path: &Path, error: &io::Error) -> Self {
        Self::io(path, "cannot write", error)
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
