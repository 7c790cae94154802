//! A text or its tokens.

use crate::failure::Failure;
use serde_json::Value;

/// A text or its tokens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// A text.
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<u32>),
}

impl Prompt {
    /// The value of the key `key`.
    ///
    /// # Errors
    /// It is neither a text nor a list of tokens.
    pub(crate) fn read(key: &str, value: &Value) -> Result<Self, Failure> {
        let token = |value: &Value| u32::try_from(value.as_u64()?).ok();
        match value {
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Array(list) => {
                let tokens = list.iter().map(token).collect::<Option<Vec<u32>>>();
                tokens
                    .map(Self::Tokens)
                    .ok_or_else(|| Failure::invalid(key, "has something that is not a token"))
            }
            _ => Err(Failure::invalid(key, "must be a text or a list of tokens")),
        }
    }
}
