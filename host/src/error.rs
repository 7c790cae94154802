//! How an error is shown, and which exit code it gives.

use anemll_huggingface::HuggingFaceError;
use anemll_mlpackage::PackageError;
use anemll_plugin_api::{Error, codes};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

/// Exit code of a command that failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a command line that could not be understood.
pub const EXIT_USAGE: u8 = 2;
/// Exit code after Ctrl-C.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Not a code for users: whoever read standard output has had enough.
const READER_LEFT: &str = "reader-left";

/// The end of a command whose output nobody reads any more.
pub fn reader_left() -> Error {
    Error::new(READER_LEFT, "the reader of standard output went away")
}

/// Whether an error is that of [`reader_left`], which is not shown and is no failure.
pub fn is_reader_left(error: &Error) -> bool {
    error.code == READER_LEFT
}

/// The exit code for an error.
pub fn exit_code(error: &Error) -> u8 {
    if error.is_cancelled() { EXIT_INTERRUPTED } else { EXIT_FAILED }
}

/// The text of an error: what, where, why, and what to do.
///
/// ```text
/// error[A0203]: config.json has no key `hidden_size`
///   --> model/config.json
///   cause: …
/// hint: …
/// ```
pub fn render(error: &Error) -> String {
    let mut text = if error.is_cancelled() {
        "interrupted".to_owned()
    } else {
        format!("error[{}]: {}", error.code, error.message)
    };
    if let Some(at) = &error.at {
        let _ = write!(text, "\n  --> {at}");
    }
    for cause in &error.causes {
        let _ = write!(text, "\n  cause: {}", cause.replace('\n', "\n         "));
    }
    if let Some(hint) = &error.hint {
        let _ = write!(text, "\nhint: {hint}");
    }
    text
}

/// Adds the file to an I/O error, which alone does not say which one it was.
pub fn io(code: &str, what: &str, path: &Path, source: &std::io::Error) -> Error {
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

/// An error about a model directory.
pub fn from_huggingface(source: HuggingFaceError) -> Error {
    use anemll_huggingface::ErrorKind as Kind;
    let code = match source.kind() {
        Kind::Cancelled => return Error::cancelled(),
        Kind::Config => codes::CONFIG_UNREADABLE,
        Kind::NoWeights => codes::SHARD_UNREADABLE,
        Kind::Index => codes::INDEX_INVALID,
        Kind::Shard => codes::SHARD_INVALID,
        Kind::MissingTensor => codes::WEIGHT_MISSING,
        Kind::Shape => codes::WEIGHT_SHAPE,
        Kind::Type => codes::WEIGHT_DTYPE,
        Kind::NotFinite => codes::WEIGHT_NOT_FINITE,
        Kind::Overflow => codes::WEIGHT_OVERFLOW,
        Kind::Usage => codes::INTERNAL,
        Kind::NotFound | Kind::Permission | Kind::Io
            if source.file().extension().is_some_and(|extension| extension == "safetensors") =>
        {
            codes::SHARD_UNREADABLE
        }
        _ => codes::MODEL_DIRECTORY_UNREADABLE,
    };
    let message = match source.key() {
        Some(key) => format!("`{key}`: {}", source.reason()),
        None => source.reason().to_owned(),
    };
    let error = Error::new(code, message).with_at(source.file().display().to_string());
    match source.hint() {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// An error about a package that is being written.
pub fn from_package(source: PackageError) -> Error {
    use anemll_mlpackage::ErrorKind as Kind;
    let code = match source.kind() {
        Kind::Exists => codes::OUTPUT_EXISTS,
        Kind::DiskFull | Kind::Permission => codes::OUTPUT_UNWRITABLE,
        Kind::Usage => codes::INTERNAL,
        Kind::NotFound | Kind::NotAPackage | Kind::Io => codes::PACKAGE_UNREADABLE,
        Kind::Weights => codes::BLOB_INVALID,
        _ => codes::PACKAGE_INVALID,
    };
    let error = Error::new(code, source.reason()).with_at(source.path().display().to_string());
    match source.hint() {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_why_and_what_to_do() {
        let error = Error::new("A0203", "config.json has no key `hidden_size`")
            .with_at("model/config.json")
            .with_cause("it was empty")
            .with_hint("take the config.json of the model's repository");
        assert_eq!(
            render(&error),
            "error[A0203]: config.json has no key `hidden_size`\n  --> model/config.json\n  \
             cause: it was empty\nhint: take the config.json of the model's repository"
        );
        assert_eq!(exit_code(&error), EXIT_FAILED);
        assert_eq!(exit_code(&Error::cancelled()), EXIT_INTERRUPTED);
    }
}
