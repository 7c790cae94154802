//! What a component is made with.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result, codes};

/// The options of a component by name.
///
/// A constructor is given those that the manifest lists: each one that the user gave, checked against
/// its schema, and the default of each other one that has a default. An option without a default is
/// absent when it was not given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ComponentOptions(Map<String, Value>);

impl ComponentOptions {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same options and one more, or another value for one of them.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.insert(name, value);
        self
    }

    /// Gives an option a value.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The options with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// An option that is `true` or `false`.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] for another value.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// An option that is a whole number from 0.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] for another value.
    pub fn integer(&self, name: &str) -> Result<Option<u64>> {
        self.read(name, "a whole number", Value::as_u64)
    }

    /// An option that is a number.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] for another value.
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.read(name, "a number", Value::as_f64)
    }

    /// An option that is a text.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] for another value.
    pub fn string(&self, name: &str) -> Result<Option<&str>> {
        self.read(name, "a text", Value::as_str)
    }

    /// The error of an option whose value does not suit, which must be `expected`.
    pub fn refuse(&self, name: &str, expected: &str) -> Error {
        let value = self.get(name).unwrap_or(&Value::Null);
        Error::new(
            codes::PLUGIN_OPTION_INVALID,
            format!("option {name:?} must be {expected}, not {value}"),
        )
        .with_at(name)
    }

    fn read<'a, R>(
        &'a self,
        name: &str,
        expected: &str,
        reading: impl FnOnce(&'a Value) -> Option<R>,
    ) -> Result<Option<R>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => reading(value).map(Some).ok_or_else(|| self.refuse(name, expected)),
        }
    }
}

impl From<Map<String, Value>> for ComponentOptions {
    fn from(options: Map<String, Value>) -> Self {
        Self(options)
    }
}

impl TryFrom<Value> for ComponentOptions {
    type Error = Error;

    fn try_from(value: Value) -> Result<Self> {
        match value {
            Value::Object(options) => Ok(Self(options)),
            other => Err(Error::new(
                codes::PLUGIN_OPTION_INVALID,
                format!("options must be an object, not {other}"),
            )),
        }
    }
}

impl From<ComponentOptions> for Value {
    fn from(options: ComponentOptions) -> Self {
        Self::Object(options.0)
    }
}

impl fmt::Display for ComponentOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_string(&self.0) {
            Ok(text) => formatter.write_str(&text),
            Err(_) => Err(fmt::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_read_by_type_and_refused_by_name() {
        let options =
            ComponentOptions::new().with("bits", 4).with("mode", "plain").with("on", true);
        assert_eq!(options.integer("bits").unwrap(), Some(4));
        assert_eq!(options.number("bits").unwrap(), Some(4.0));
        assert_eq!(options.string("mode").unwrap(), Some("plain"));
        assert_eq!(options.boolean("on").unwrap(), Some(true));
        assert_eq!(options.boolean("off").unwrap(), None);
        let error = options.boolean("bits").unwrap_err();
        assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
        assert_eq!(error.at.as_deref(), Some("bits"));
        assert_eq!(error.message, "option \"bits\" must be true or false, not 4");
        assert_eq!(options.to_string(), r#"{"bits":4,"mode":"plain","on":true}"#);
    }

    #[test]
    fn only_an_object_is_options() {
        assert!(ComponentOptions::try_from(json!({})).unwrap().is_empty());
        for other in [json!(null), json!([]), json!("x"), json!(3)] {
            assert!(serde_json::from_value::<ComponentOptions>(other.clone()).is_err(), "{other}");
            let error = ComponentOptions::try_from(other).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
        }
    }
}
