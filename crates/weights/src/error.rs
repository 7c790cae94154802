//! Why a weight has no values.

use anemll_mlpackage::PackageError;

/// Result of everything that looks for the values of a weight.
pub(crate) type Outcome<T> = std::result::Result<T, DecodeError>;

/// What is wrong with a weight, in the program or in the file in which it is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DecodeError {
    reason: String,
    file: Option<PackageError>,
}

impl DecodeError {
    /// The same error, found in this argument.
    pub(crate) fn within(self, parameter: &str) -> Self {
        Self { reason: format!("`{parameter}`: {}", self.reason), ..self }
    }

    /// What is wrong with the weight file, where that is the cause.
    pub fn file(&self) -> Option<&PackageError> {
        self.file.as_ref()
    }
}

impl From<String> for DecodeError {
    fn from(reason: String) -> Self {
        Self { reason, file: None }
    }
}

impl From<PackageError> for DecodeError {
    fn from(error: PackageError) -> Self {
        Self { reason: error.reason().to_owned(), file: Some(error) }
    }
}
