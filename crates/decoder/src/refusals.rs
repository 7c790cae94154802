//! What of a configuration cannot be honoured, collected while it is read.

use anemll_plugin_api::data::Refusal;
use anemll_plugin_api::{Error, Result};

/// The keys that are refused so far, in the order in which they were read.
///
/// Reading goes on after a refusal, so that all are known in the end.
#[derive(Debug, Default)]
pub struct Refusals {
    found: Vec<Refusal>,
}

impl Refusals {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was read, or nothing where its key is refused.
    ///
    /// # Errors
    /// An error that is about no key of the configuration.
    pub fn take<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.push(error)?;
                Ok(None)
            }
        }
    }

    /// Adds the refusal of a key.
    ///
    /// # Errors
    /// The error itself, where it is about no key of the configuration.
    pub fn push(&mut self, error: Error) -> Result<()> {
        self.found.push(Refusal::of_error(&error).ok_or(error)?);
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The refusals as one error, if there are any.
    pub fn to_error(&self) -> Option<Error> {
        Refusal::to_error(&self.found)
    }

    /// The refusals in the order in which they were found.
    pub fn into_list(self) -> Vec<Refusal> {
        self.found
    }
}
