//! What can go wrong below the session: a reason without its place, which the plan adds.

/// Why an operation could not be prepared or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Failure {
    /// The program is legal, but this runtime does not do it.
    #[error("{0}")]
    Unsupported(String),
    /// The program or a value in it breaks a rule of the operation.
    #[error("{0}")]
    Invalid(String),
    /// The host ended the work, a service of the host failed, or a weight file cannot be read.
    #[error("{0}")]
    Host(anemll_plugin_api::Error),
}

/// Result of everything below the session.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// A [`Failure::Unsupported`] with this reason.
pub(crate) fn unsupported<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Failure::Unsupported(reason.into()))
}

/// A [`Failure::Invalid`] with this reason.
pub(crate) fn invalid<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Failure::Invalid(reason.into()))
}

impl From<anemll_plugin_api::Error> for Failure {
    fn from(error: anemll_plugin_api::Error) -> Self {
        Self::Host(error)
    }
}

impl From<anemll_mlpackage::PackageError> for Failure {
    fn from(error: anemll_mlpackage::PackageError) -> Self {
        Self::Host(error.into())
    }
}

impl From<anemll_weights::DecodeError> for Failure {
    fn from(error: anemll_weights::DecodeError) -> Self {
        match error.file() {
            Some(file) => file.clone().into(),
            None => Self::Invalid(error.to_string()),
        }
    }
}

impl From<anemll_matrix::MatrixError> for Failure {
    fn from(error: anemll_matrix::MatrixError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Without a place: where one operation is the obvious one.
impl From<Failure> for anemll_plugin_api::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Host(error) => error,
            other => Self::new(anemll_plugin_api::codes::RUN_FAILED, other.to_string()),
        }
    }
}
