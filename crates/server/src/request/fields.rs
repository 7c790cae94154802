//! Reading the keys of a request, each with its bounds.

use crate::failure::Failure;
use anemll_codes as codes;
use hyper::StatusCode;
use serde_json::{Map, Value};

/// Levels of lists and objects in a request.
const DEEPEST: usize = 64;

/// The keys of a request. One whose value is null is as one that is not there.
pub(crate) struct Fields<'a>(pub(crate) &'a Map<String, Value>);

/// Reads a body.
pub(crate) fn parse(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    let invalid =
        |reason: String| Failure::new(StatusCode::BAD_REQUEST, codes::REQUEST_INVALID, reason);
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the request is not valid JSON: {error}")))?;
    if depth(&value) > DEEPEST {
        return Err(invalid(format!("the request is nested more than {DEEPEST} levels deep")));
    }
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(invalid("the request must be a JSON object".to_owned())),
    }
}

/// The reader has a limit of its own, so this cannot run out of stack.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

impl<'a> Fields<'a> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A number within bounds.
    pub(crate) fn number(&self, key: &str, least: f64, most: f64) -> Result<Option<f32>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64().filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number as f32)),
            None => Err(Failure::invalid(
                key,
                format!("must be a number from {least} to {most}, not {}", short(value)),
            )),
        }
    }

    /// A whole number from 0 to `most`.
    pub(crate) fn count(&self, key: &str, most: u64) -> Result<Option<u64>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().filter(|number| *number <= most) {
            Some(number) => Ok(Some(number)),
            None => {
                let bound = if most == u64::MAX { String::new() } else { format!(" to {most}") };
                Err(Failure::invalid(
                    key,
                    format!("must be a whole number from 0{bound}, not {}", short(value)),
                ))
            }
        }
    }

    /// true or false; false where nothing is said.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Failure> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => {
                Err(Failure::invalid(key, format!("must be true or false, not {}", short(value))))
            }
        }
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => {
                Err(Failure::invalid(key, format!("must be a text, not {}", short(value))))
            }
        }
    }

    /// An object.
    pub(crate) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(value) => {
                Err(Failure::invalid(key, format!("must be an object, not {}", short(value))))
            }
        }
    }

    /// Refuses a key that cannot be honoured, unless its value changes nothing.
    pub(crate) fn only(&self, key: &str, neutral: &[Value]) -> Result<(), Failure> {
        match self.get(key) {
            Some(value) if !neutral.contains(value) => {
                let failure = Failure::invalid(key, format!("cannot be {} here", short(value)));
                Err(match neutral.is_empty() {
                    true => failure.with_hint("leave it out"),
                    false => failure.with_hint(format!("leave it out, or take {}", neutral[0])),
                })
            }
            _ => Ok(()),
        }
    }
}

/// A value in an error, cut where it is long.
pub(crate) fn short(value: &Value) -> String {
    const LONG: usize = 60;
    let text = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        value => value.to_string(),
    };
    if text.chars().count() <= LONG {
        return text;
    }
    text.chars().take(LONG).chain(['…']).collect()
}
