//! Errors of reading and writing text.

use crate::error::Error;

/// Why a text was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, or what was expected and what stands there.
    pub message: String,
}

/// Why a text could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The model cannot be spelled as text.
    #[error(transparent)]
    Model(#[from] Error),
    /// The output refused the bytes.
    #[error("the text cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl ParseError {
    pub(super) fn new(line: usize, column: usize, message: impl Into<String>) -> Self {
        Self { line, column, message: message.into() }
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::new(error.to_string())
    }
}

impl WriteError {
    /// The same error with what it is in before the message.
    pub(super) fn within(self, what: &str) -> Self {
        match self {
            Self::Model(mut error) => {
                error.message = format!("`{what}`: {}", error.message);
                Self::Model(error)
            }
            output @ Self::Output(_) => output,
        }
    }
}
