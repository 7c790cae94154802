//! Errors of the system, with the file that they are about.

use anemll_codes as codes;
use anemll_plugin_api::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Adds the file to an I/O error, which alone does not say which one it was.
pub fn io_error(code: &str, what: &str, path: &Path, source: &std::io::Error) -> Error {
    let error = Error::new(code, format!("{what}: {source}")).with_at(path.display().to_string());
    match source.kind() {
        ErrorKind::PermissionDenied => error.with_hint("check the permissions of the path"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            error.with_hint("free some space, or choose another --output")
        }
        ErrorKind::NotFound => error.with_hint("check the path"),
        ErrorKind::ReadOnlyFilesystem => {
            error.with_hint("choose an --output on a writable file system")
        }
        _ => error,
    }
}

/// An error of the system with the path that it is about.
#[derive(Debug)]
pub(crate) struct PathError {
    pub(crate) path: PathBuf,
    pub(crate) source: std::io::Error,
}

impl From<PathError> for Error {
    fn from(PathError { path, source }: PathError) -> Self {
        unwritable(&path, &source)
    }
}

/// The output directory refuses something.
pub(crate) fn unwritable(path: &Path, source: &std::io::Error) -> Error {
    io_error(codes::OUTPUT_UNWRITABLE, "cannot write to the output directory", path, source)
}

/// A record of the output directory is no record.
pub(crate) fn invalid_record(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(
        codes::OUTPUT_RECORD_INVALID,
        format!("the record of the conversion in the output directory cannot be used: {why}"),
    )
    .with_at(path.display().to_string())
    .with_hint(
        "choose another --output, or convert everything again with --force: what the record lists \
         is then left alone, except for files that get the same name",
    )
}
