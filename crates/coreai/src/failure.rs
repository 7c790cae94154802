//! Why a function is not lowered.

use anemll_plugin_api::Error;

/// Why a function was not lowered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the program asks for.
    Program(anemll_mil::Error),
    /// A weight that cannot be read.
    Reading(Error),
}

impl Failure {
    /// The same, with what it is about.
    pub(crate) fn at(self, what: &str) -> Self {
        match self {
            Self::Program(error) => {
                Self::Program(anemll_mil::Error::new(format!("{what}: {error}")))
            }
            other @ Self::Reading(_) => other,
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Program(anemll_mil::Error::new(message))
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<anemll_mil::Error> for Failure {
    fn from(error: anemll_mil::Error) -> Self {
        Self::Program(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Reading(error)
    }
}

/// A value that was lowered, or why it was not.
pub(crate) type Lowered<T = anemll_aicode::Value> = Result<T, Failure>;
