//! The codes of errors about models, packages and compiled models, which the crates that read and write
//! them do not know.

use anemll_huggingface::HuggingFaceError;
use anemll_mlpackage::PackageError;
use anemll_plugin_api::{Error, codes};

pub use anemll_store::io_error as io;

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
        Kind::Adapter => codes::MODEL_IS_ADAPTER,
        Kind::Changed => codes::WEIGHTS_CHANGED,
        Kind::Companion => codes::TOKENIZER_INVALID,
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

/// An error about a package or a compiled model.
pub fn from_package(source: PackageError) -> Error {
    source.into()
}
