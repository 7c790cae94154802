//! What can go wrong with a model of the hub.

use std::fmt;

/// Result of everything here.
pub type Result<T> = std::result::Result<T, HubError>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It was stopped by [`Watch::goes_on`](crate::Watch::goes_on).
    Cancelled,
    /// The hub has no model, or no revision, of this name.
    NotFound,
    /// The folder of a cache cannot be used as a model.
    Folder,
    /// The hub cannot be reached.
    Unreachable,
    /// The hub does not give the model to this account, or to nobody.
    Refused,
    /// The hub's answer is not one of a hub, or goes beyond what is accepted of one.
    Answer,
    /// A file is not what the hub's listing says.
    Damaged,
    /// The cache cannot be written.
    Cache,
    /// The model has not what is needed, or the connection failed too often.
    Failed,
}

/// An error with all that a user needs: what, where, why and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubError {
    kind: ErrorKind,
    message: String,
    at: Option<String>,
    causes: Vec<String>,
    hint: Option<String>,
}

impl HubError {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), at: None, causes: Vec::new(), hint: None }
    }

    /// With the address or path that it is about.
    #[must_use]
    pub fn with_at(mut self, at: impl Into<String>) -> Self {
        self.at = Some(at.into());
        self
    }

    /// With one more cause.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// With what the user can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with all texts changed.
    #[cfg(feature = "download")]
    pub(crate) fn map_texts(self, change: impl Fn(&str) -> String) -> Self {
        Self {
            kind: self.kind,
            message: change(&self.message),
            at: self.at.as_deref().map(&change),
            causes: self.causes.iter().map(|cause| change(cause)).collect(),
            hint: self.hint.as_deref().map(&change),
        }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The address or path that it is about.
    pub fn at(&self) -> Option<&str> {
        self.at.as_deref()
    }

    /// Why, from the outside in.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match &self.at {
            Some(at) => write!(formatter, " ({at})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for HubError {}
