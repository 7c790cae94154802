//! The one error type that crosses the plugin boundary.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codes;

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, why, and what to do about it.
///
/// It holds text only, so that it crosses the plugin boundary without loss. The code is one of
/// [`codes`], or a code of the plugin's own in the same form (one letter, four digits).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Error {
    /// One of [`codes`], for example `A0205`.
    pub code: String,
    /// What went wrong: one line, no trailing full stop.
    pub message: String,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where: a file, a configuration key, a tensor, a value of a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What led to it, nearest cause first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

impl Error {
    /// An error with a code of [`codes`] and a one-line message.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            hint: None,
            at: None,
            causes: Vec::new(),
        }
    }

    /// The same error with advice for the user.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with the file, key, tensor or value that it is about.
    #[must_use]
    pub fn with_at(mut self, at: impl Into<String>) -> Self {
        self.at = Some(at.into());
        self
    }

    /// The same error with one more cause behind the ones that it has.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// The same error with `source` and all that `source` names as its own source as causes.
    #[must_use]
    pub fn with_source(mut self, source: &dyn std::error::Error) -> Self {
        let mut next = Some(source);
        while let Some(current) = next {
            if self.causes.len() >= crate::limits::CAUSES {
                break;
            }
            self.causes.push(current.to_string());
            next = current.source();
        }
        self
    }

    /// The error of a call that stopped because the user asked for it.
    pub fn cancelled() -> Self {
        Self::new(codes::CANCELLED, "interrupted")
    }

    /// Whether the call stopped because the user asked for it.
    pub fn is_cancelled(&self) -> bool {
        self.code == codes::CANCELLED
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match &self.at {
            Some(at) => write!(formatter, " (at {at})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_the_message_and_the_place() {
        let error = Error::new(codes::CONFIG_KEY_UNSUPPORTED, "cannot be honoured");
        assert_eq!(error.to_string(), "cannot be honoured");
        assert_eq!(
            error.with_at("rope_scaling").to_string(),
            "cannot be honoured (at rope_scaling)"
        );
    }

    #[test]
    fn an_endless_source_chain_is_cut() {
        #[derive(Debug)]
        struct Loop;
        impl fmt::Display for Loop {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("again")
            }
        }
        impl std::error::Error for Loop {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&Self)
            }
        }
        let error = Error::new(codes::INTERNAL, "x").with_source(&Loop);
        assert_eq!(error.causes.len(), crate::limits::CAUSES);
    }
}
