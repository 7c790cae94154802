//! Reading `config.json`: typed access to keys, rules for keys, and the rotary parameters.
//!
//! Frontends share this so that every key is either used, ignored for a reason that stands in a
//! table, or refused by name.

mod rope;
mod rules;
mod windows;

use anemll_plugin_api::{Result, Value};
use serde_json::Map;

use crate::error::{key_invalid, key_missing, shown};

pub use rope::{Rope, RopeRules, read_local_base, read_rope};
pub use rules::{Allowed, GENERIC_KEYS, Key, OTHER_ARCHITECTURES, Rule, check_keys};
pub use windows::{
    WindowRules, Windows, check_length, layer_count, layer_kinds, window_everywhere,
    windows_by_pattern, windows_of_layers, windows_of_these_layers,
};

/// The largest number that a size in a configuration may have: shapes are int32 in a program.
pub const LARGEST_SIZE: u64 = i32::MAX as u64;

/// Most layers that are accepted: thirty times those of the deepest models.
pub const LARGEST_LAYERS: u32 = 1 << 12;

/// Typed access to the keys of one JSON object. A key whose value is `null` counts as absent.
#[derive(Debug, Clone)]
pub struct Config<'a> {
    map: &'a Map<String, Value>,
    /// What stands before key names in errors: empty, or `rope_scaling.`
    prefix: String,
}

impl<'a> Config<'a> {
    /// The keys of a whole configuration.
    ///
    /// # Errors
    /// A value that is no JSON object.
    pub fn new(value: &'a Value) -> Result<Self> {
        let Some(map) = value.as_object() else {
            return Err(anemll_plugin_api::Error::new(
                anemll_plugin_api::codes::CONFIG_UNREADABLE,
                format!("the configuration is {}, not a JSON object", kind(value)),
            )
            .with_at("config.json"));
        };
        Ok(Self { map, prefix: String::new() })
    }

    /// The object under `key`, if it is there.
    ///
    /// # Errors
    /// A value that is no JSON object.
    pub fn section(&self, key: &str) -> Result<Option<Self>> {
        self.get(key)
            .map(|value| match value.as_object() {
                Some(map) => Ok(Self { map, prefix: format!("{}{key}.", self.prefix) }),
                None => Err(self.wrong(key, value, "an object")),
            })
            .transpose()
    }

    /// The value of a key that is there and not `null`.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key is there with the value `null`, which for some keys is not the same as absent.
    pub fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// All keys with values other than `null`, in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The key's name as errors show it.
    pub fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A size: a whole number from 1 to [`LARGEST_SIZE`].
    ///
    /// # Errors
    /// Anything else.
    pub fn size(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(Some(size)),
            _ if value.is_i64() || value.is_u64() => Err(key_invalid(
                &self.path(key),
                format!("is {value}, not a number from 1 to {LARGEST_SIZE}"),
            )),
            _ => Err(self.wrong(key, value, "a whole number")),
        }
    }

    /// A size that must be there.
    ///
    /// # Errors
    /// An absent key, and those of [`Self::size`].
    pub fn required_size(&self, key: &str) -> Result<u64> {
        self.size(key)?.ok_or_else(|| key_missing(&self.path(key)))
    }

    /// A finite number.
    ///
    /// # Errors
    /// Anything else.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            Some(number) => Err(key_invalid(&self.path(key), format!("is {number}, not finite"))),
            None => Err(self.wrong(key, value, "a number")),
        }
    }

    /// A number that must be there.
    ///
    /// # Errors
    /// An absent key, and those of [`Self::number`].
    pub fn required_number(&self, key: &str) -> Result<f64> {
        self.number(key)?.ok_or_else(|| key_missing(&self.path(key)))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// Anything else.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    /// A text.
    ///
    /// # Errors
    /// Anything else.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(key, value, "a text"))
    }

    /// A list of texts; empty when the key is absent.
    ///
    /// # Errors
    /// Anything else.
    pub fn texts(&self, key: &str) -> Result<Vec<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        value
            .as_array()
            .and_then(|items| items.iter().map(Value::as_str).collect())
            .ok_or_else(|| self.wrong_list(key, value, Value::is_string, "texts"))
    }

    /// A list of finite numbers, if it is there.
    ///
    /// # Errors
    /// Anything else.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
        value
            .as_array()
            .and_then(|items| items.iter().map(number).collect())
            .map(Some)
            .ok_or_else(|| self.wrong_list(key, value, |value| number(value).is_some(), "numbers"))
    }

    /// A positive number, if it is there.
    ///
    /// # Errors
    /// Anything else.
    pub fn positive(&self, key: &str) -> Result<Option<f64>> {
        match self.number(key)? {
            Some(value) if value <= 0.0 => {
                let reason = format!("is {}, not a positive number", shown(value));
                Err(key_invalid(&self.path(key), reason))
            }
            value => Ok(value),
        }
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> anemll_plugin_api::Error {
        // Numbers that Python writes and JSON does not have come as texts of that name.
        if let Some(number @ ("NaN" | "Infinity" | "-Infinity")) = value.as_str() {
            return key_invalid(&self.path(key), format!("is {number}, not {wanted}"));
        }
        let given = match value {
            Value::Bool(_) | Value::Number(_) => brief(value),
            _ => kind(value).to_owned(),
        };
        key_invalid(&self.path(key), format!("is {given}, not {wanted}"))
    }

    /// A list in which not all are what `suits` says, or no list.
    fn wrong_list(
        &self,
        key: &str,
        value: &Value,
        suits: impl Fn(&Value) -> bool,
        wanted: &str,
    ) -> anemll_plugin_api::Error {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        match items.iter().position(|item| !suits(item)) {
            Some(place) => {
                // Numbers that JSON does not have come as texts.
                let item = match items[place].as_str() {
                    Some(number @ ("NaN" | "Infinity" | "-Infinity")) => number.to_owned(),
                    _ => brief(&items[place]),
                };
                let reason = format!("has {item} in place {place}, where only {wanted} can be");
                key_invalid(&self.path(key), reason)
            }
            None => self.wrong(key, value, &format!("a list of {wanted}")),
        }
    }
}

/// What a JSON value is, for a sentence.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A JSON value as one short line.
pub(crate) fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    let start: String = text.chars().take(57).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::codes;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_told_with_its_value_and_place() {
        let value = json!({
            "window": 1.5, "switch": true, "kinds": ["full", 3], "factors": [1, "NaN"], "huge": -1e300,
            "list": "full",
        });
        let config = Config::new(&value).unwrap();
        for (message, wanted) in [
            (config.size("window").unwrap_err(), "`window` is 1.5, not a whole number"),
            (config.size("switch").unwrap_err(), "`switch` is true, not a whole number"),
            (
                config.texts("kinds").unwrap_err(),
                "`kinds` has 3 in place 1, where only texts can be",
            ),
            (config.texts("list").unwrap_err(), "`list` is a text, not a list of texts"),
            (
                config.numbers("factors").unwrap_err(),
                "`factors` has NaN in place 1, where only numbers can be",
            ),
            (config.positive("huge").unwrap_err(), "`huge` is -1e300, not a positive number"),
        ] {
            assert_eq!(message.message, wanted);
            assert!(message.hint.unwrap().contains("config.json"));
        }
    }

    #[test]
    fn null_is_absent_and_wrong_types_name_the_key() {
        let value = json!({"a": null, "b": "x", "c": -1, "d": 2.5, "e": true, "f": {"g": []}});
        let config = Config::new(&value).unwrap();
        assert_eq!(config.size("a").unwrap(), None);
        assert_eq!(config.required_size("a").unwrap_err().code, codes::CONFIG_KEY_MISSING);
        for key in ["b", "c", "d", "e"] {
            let error = config.size(key).unwrap_err();
            assert_eq!(error.code, codes::CONFIG_KEY_INVALID);
            assert_eq!(error.at.unwrap(), format!("config.json: {key}"));
        }
        assert_eq!(config.number("d").unwrap(), Some(2.5));
        assert!(
            config.boolean("b").is_err() && config.text("e").is_err() && config.texts("b").is_err()
        );
        let error = config.section("f").unwrap().unwrap().number("g").unwrap_err();
        assert_eq!(error.at.unwrap(), "config.json: f.g");
        assert!(config.section("b").is_err());
        let value = json!({"rope_theta": "-Infinity"});
        let error = Config::new(&value).unwrap().number("rope_theta").unwrap_err();
        assert_eq!(error.message, "`rope_theta` is -Infinity, not a number");
        assert_eq!(Config::new(&json!([])).unwrap_err().code, codes::CONFIG_UNREADABLE);
    }

    #[test]
    fn sizes_end_where_int32_ends() {
        let value = json!({"a": 2147483647_u64, "b": 2147483648_u64, "c": 0, "d": 1e300});
        let config = Config::new(&value).unwrap();
        assert_eq!(config.size("a").unwrap(), Some(LARGEST_SIZE));
        assert!(
            config.size("b").is_err() && config.size("c").is_err() && config.size("d").is_err()
        );
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(brief(&json!(1)), "1");
        assert_eq!(brief(&json!("é".repeat(100))).chars().count(), 58);
    }
}
