//! What can be wrong with a GGUF file.

/// Result of the functions of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file is cut short, contradicts itself, or is no GGUF file.
    Invalid,
    /// The file is sound, but holds something that cannot be honoured.
    Unsupported,
    /// The file cannot be read.
    Io,
}

/// What is wrong, with which key or tensor, and what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Error {
    /// What kind of error it is.
    pub kind: ErrorKind,
    /// The key of the metadata, or the name of the tensor.
    pub key: Option<String>,
    /// What is wrong, without the key.
    pub reason: String,
    /// What the user can do.
    pub hint: Option<String>,
}

impl Error {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Invalid,
            key: None,
            reason: reason.into(),
            hint: Some("download the file again".to_owned()),
        }
    }

    pub(crate) fn unsupported(reason: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Unsupported,
            key: None,
            reason: reason.into(),
            hint: Some("convert the original model, in safetensors files".to_owned()),
        }
    }

    pub(crate) fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same error, about something that has no name yet.
    pub(crate) fn of(mut self, what: &str) -> Self {
        self.reason = format!("{what}: {}", self.reason);
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Self::invalid("the file was cut short");
        }
        Self { kind: ErrorKind::Io, key: None, reason: format!("cannot read: {error}"), hint: None }
    }
}
