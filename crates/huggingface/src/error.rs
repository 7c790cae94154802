//! One error type for everything that can be wrong with a model directory.

use anemll_codes as codes;
use anemll_plugin_api::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of the functions of this crate.
pub type Result<T> = std::result::Result<T, HuggingFaceError>;

/// What kind of thing is wrong. The names are stable; callers map them to their error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The path, or a file that it needs, does not exist.
    NotFound,
    /// The path is not a model directory.
    NotADirectory,
    /// `config.json` is missing, too large or not a JSON object.
    Config,
    /// The directory holds no weights that we can read.
    NoWeights,
    /// `model.safetensors.index.json` is malformed or does not fit the shards.
    Index,
    /// A safetensors file is truncated or malformed.
    Shard,
    /// The weights have no tensor of this name.
    MissingTensor,
    /// A tensor has another shape than the config gives it.
    Shape,
    /// A tensor has an element type that cannot be a weight.
    Type,
    /// A weight is NaN or infinite.
    NotFinite,
    /// A finite weight is beyond the range of float16.
    Overflow,
    /// A function of this crate was called with arguments that contradict each other.
    Usage,
    /// The caller asked to stop.
    Cancelled,
    /// There is an adapter where a model should be.
    Adapter,
    /// An adapter that cannot be merged, or is of another model.
    AdapterUnfit,
    /// A GGUF file is cut short or contradicts itself.
    Gguf,
    /// A GGUF file holds what cannot be honoured.
    GgufUnsupported,
    /// A module of sentence-transformers that cannot be honoured.
    Module,
    /// A weights file changed while it was read.
    Changed,
    /// A file of the tokenizer, or one that says how to use the model, is not what its name says.
    Companion,
    /// No permission to read.
    Permission,
    /// Any other failure of the operating system.
    Io,
}

impl ErrorKind {
    /// The stable name, such as `missing-tensor`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::NotADirectory => "not-a-directory",
            Self::Config => "config",
            Self::NoWeights => "no-weights",
            Self::Index => "index",
            Self::Shard => "shard",
            Self::MissingTensor => "missing-tensor",
            Self::Shape => "shape",
            Self::Type => "type",
            Self::NotFinite => "not-finite",
            Self::Overflow => "overflow",
            Self::Usage => "usage",
            Self::Cancelled => "cancelled",
            Self::Adapter => "adapter",
            Self::AdapterUnfit => "adapter-unfit",
            Self::Gguf => "gguf",
            Self::GgufUnsupported => "gguf-unsupported",
            Self::Module => "module",
            Self::Changed => "changed",
            Self::Companion => "companion",
            Self::Permission => "permission",
            Self::Io => "io",
        }
    }
}

/// Which file, which key or tensor of it, what is wrong, and what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct HuggingFaceError {
    inner: Box<Inner>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    file: PathBuf,
    key: Option<String>,
    reason: String,
    hint: Option<String>,
}

impl fmt::Display for HuggingFaceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.inner.file.display())?;
        if let Some(key) = &self.inner.key {
            write!(formatter, "`{key}`: ")?;
        }
        formatter.write_str(&self.inner.reason)
    }
}

impl HuggingFaceError {
    pub(crate) fn new(
        kind: ErrorKind,
        file: impl Into<PathBuf>,
        reason: impl Into<String>,
    ) -> Self {
        let inner = Inner { kind, file: file.into(), key: None, reason: reason.into(), hint: None };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn with_key(mut self, key: impl Into<String>) -> Self {
        self.inner.key = Some(key.into());
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Describes a failed system call: `action` is a verb phrase such as "cannot read".
    pub(crate) fn io(file: &Path, action: &str, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Io,
        };
        Self::new(kind, file, format!("{action}: {error}"))
    }

    /// An error about a GGUF file.
    pub(crate) fn gguf(file: &Path, error: anemll_gguf::Error) -> Self {
        let kind = match error.kind {
            anemll_gguf::ErrorKind::Unsupported => ErrorKind::GgufUnsupported,
            anemll_gguf::ErrorKind::Io => ErrorKind::Io,
            _ => ErrorKind::Gguf,
        };
        let mut inner = Self::new(kind, file, error.reason);
        inner.inner.key = error.key;
        inner.inner.hint = error.hint;
        inner
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The file or folder that the error is about.
    pub fn file(&self) -> &Path {
        &self.inner.file
    }

    /// The key of a JSON file, or the name of a tensor.
    pub fn key(&self) -> Option<&str> {
        self.inner.key.as_deref()
    }

    /// What is wrong, without file and key.
    pub fn reason(&self) -> &str {
        &self.inner.reason
    }

    /// What the user can do, where we know it.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }
}

/// Every kind has its code here alone.
impl From<HuggingFaceError> for Error {
    fn from(source: HuggingFaceError) -> Self {
        use ErrorKind as Kind;
        let code = match source.kind() {
            Kind::Cancelled => return Self::cancelled(),
            Kind::Config => codes::CONFIG_UNREADABLE,
            Kind::NoWeights => codes::SHARD_UNREADABLE,
            Kind::Index => codes::INDEX_INVALID,
            Kind::Shard => codes::SHARD_INVALID,
            Kind::MissingTensor => codes::WEIGHT_MISSING,
            Kind::Shape => codes::WEIGHT_SHAPE,
            Kind::Type => codes::WEIGHT_DTYPE,
            Kind::Adapter => codes::MODEL_IS_ADAPTER,
            Kind::AdapterUnfit => codes::ADAPTER_UNFIT,
            Kind::Gguf => codes::GGUF_INVALID,
            Kind::GgufUnsupported => codes::GGUF_UNSUPPORTED,
            Kind::Module => codes::CONFIG_KEY_UNSUPPORTED,
            Kind::Changed => codes::WEIGHTS_CHANGED,
            Kind::Companion => codes::TOKENIZER_INVALID,
            Kind::NotFinite => codes::WEIGHT_NOT_FINITE,
            Kind::Overflow => codes::WEIGHT_OVERFLOW,
            Kind::Usage => codes::INTERNAL,
            Kind::NotFound | Kind::Permission | Kind::Io
                if source
                    .file()
                    .extension()
                    .is_some_and(|extension| extension == "safetensors") =>
            {
                codes::SHARD_UNREADABLE
            }
            Kind::NotFound | Kind::Permission | Kind::Io
                if source.file().extension().is_some_and(|extension| extension == "gguf") =>
            {
                codes::SHARD_UNREADABLE
            }
            _ => codes::MODEL_DIRECTORY_UNREADABLE,
        };
        let message = match source.key() {
            Some(key) => format!("`{key}`: {}", source.reason()),
            None => source.reason().to_owned(),
        };
        let error = Self::new(code, message).with_at(source.file().display().to_string());
        match source.hint() {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}
