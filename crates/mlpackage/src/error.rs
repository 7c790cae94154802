//! One error type for everything that can be wrong with a package or a compiled model on disk, and
//! the codes under which users see it.

use anemll_plugin_api::{Error, codes};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of the functions of this crate.
pub type Result<T> = std::result::Result<T, PackageError>;

/// What kind of thing is wrong. The names are stable; [`Self::code`] gives the error code.
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
    /// No permission to read.
    ReadDenied,
    /// No permission to write, or a file system that cannot be written.
    WriteDenied,
    /// What is to be compiled is of another type than ML Program.
    ModelType,
    /// What is to be compiled has a specification version that is not written.
    Version,
    /// The program or the description cannot be written as a compiled model.
    Program,
    /// A file of a compiled model is damaged or missing.
    Compiled,
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
            Self::ReadDenied => "read-denied",
            Self::WriteDenied => "write-denied",
            Self::ModelType => "model-type",
            Self::Version => "version",
            Self::Program => "program",
            Self::Compiled => "compiled",
            Self::Io => "io",
        }
    }

    /// The error code that users see.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound | Self::NotAPackage | Self::ReadDenied | Self::Io => {
                codes::PACKAGE_UNREADABLE
            }
            Self::Manifest | Self::PathEscape | Self::Model | Self::Reference => {
                codes::PACKAGE_INVALID
            }
            Self::Weights => codes::BLOB_INVALID,
            Self::Exists => codes::OUTPUT_EXISTS,
            Self::DiskFull | Self::WriteDenied => codes::OUTPUT_UNWRITABLE,
            Self::Usage => codes::INTERNAL,
            Self::ModelType => codes::COMPILE_NOT_A_PROGRAM,
            Self::Version | Self::Program => codes::COMPILE_FAILED,
            Self::Compiled => codes::COMPILED_INVALID,
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

impl From<PackageError> for Error {
    fn from(source: PackageError) -> Self {
        let error =
            Self::new(source.kind.code(), source.reason).with_at(source.path.display().to_string());
        match source.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl PackageError {
    /// An error about a file or folder; `reason` does not repeat the path.
    pub fn new(kind: ErrorKind, path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self { kind, path: path.into(), reason: reason.into(), hint: None }
    }

    /// The same error with what the user can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Describes a failed system call that reads: `action` is a verb phrase such as "cannot read".
    pub fn reading(path: &Path, action: &str, error: &io::Error) -> Self {
        Self::system(path, action, error, ErrorKind::ReadDenied)
    }

    /// Describes a failed system call that writes: `action` is a verb phrase such as "cannot
    /// write".
    pub fn writing(path: &Path, action: &str, error: &io::Error) -> Self {
        Self::system(path, action, error, ErrorKind::WriteDenied)
    }

    fn system(path: &Path, action: &str, error: &io::Error, denied: ErrorKind) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::WriteDenied,
            io::ErrorKind::PermissionDenied => denied,
            _ => ErrorKind::Io,
        };
        let made = Self::new(kind, path, format!("{action}: {error}"));
        match kind {
            ErrorKind::DiskFull => made.with_hint("free some space, or choose another folder"),
            ErrorKind::ReadDenied | ErrorKind::WriteDenied => {
                made.with_hint("check the permissions of the file and of its folder")
            }
            _ => made,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_read_is_no_output_that_may_not_be_written() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let path = Path::new("P.mlpackage");
        let code = |error: PackageError| Error::from(error).code;
        assert_eq!(
            code(PackageError::reading(path, "cannot open", &denied)),
            codes::PACKAGE_UNREADABLE
        );
        assert_eq!(
            code(PackageError::writing(path, "cannot write", &denied)),
            codes::OUTPUT_UNWRITABLE
        );
    }

    #[test]
    fn users_see_reason_place_and_advice() {
        let error = PackageError::new(ErrorKind::Weights, "w.bin", "it is short").with_hint("copy");
        let error = Error::from(error);
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            (codes::BLOB_INVALID, "it is short")
        );
        assert_eq!((error.at.as_deref(), error.hint.as_deref()), (Some("w.bin"), Some("copy")));
    }
}
