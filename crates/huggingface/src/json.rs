//! Small files read whole, and JSON as Python reads it.

use crate::contents::Instead;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use anemll_files::{Limit, plain_json};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::Path;

/// Reads a file whole, up to `limit`; a larger one is an error of kind `kind`.
pub(crate) fn read(path: &Path, limit: Limit, kind: ErrorKind) -> Result<Vec<u8>> {
    anemll_files::read(path, limit).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => HuggingFaceError::new(kind, path, error.to_string())
            .with_hint("this is not the file that its name says: download it again"),
        _ => HuggingFaceError::io(path, "cannot read", &error),
    })
}

/// The error for a file that is something else instead.
pub(crate) fn instead(kind: ErrorKind, path: &Path, instead: Instead) -> HuggingFaceError {
    HuggingFaceError::new(kind, path, instead.reason()).with_hint(instead.hint())
}

/// Bytes as a text, unless they are something else instead.
pub(crate) fn text<'a>(path: &Path, bytes: &'a [u8], kind: ErrorKind) -> Result<&'a str> {
    Instead::text(bytes).map_err(|found| instead(kind, path, found))
}

/// Bytes of a text that are shown of what is no JSON.
const SHOWN: usize = 40;

/// The error for a text that is no JSON; one that does not even begin like JSON is shown.
pub(crate) fn invalid(
    kind: ErrorKind,
    path: &Path,
    text: &str,
    error: &serde_json::Error,
) -> HuggingFaceError {
    let start = text.trim_start().trim_start_matches('\u{feff}');
    let reason = if start.starts_with(['{', '[']) {
        format!("not valid JSON: {error}")
    } else {
        let line = start.lines().next().unwrap_or_default();
        let shown: String = line.chars().take(SHOWN).collect();
        format!("not valid JSON: it begins with {shown:?}")
    };
    HuggingFaceError::new(kind, path, reason).with_hint("download the file again")
}

/// A JSON text as Python reads it.
#[derive(Debug)]
pub(crate) struct PythonJson<'a> {
    /// The text in JSON's own terms: numbers that JSON lacks are texts of that name, so that no
    /// reader takes them for anything else.
    pub(crate) text: Cow<'a, str>,
    /// What it holds; of a key that stands twice the last value, as Python has it.
    pub(crate) value: Value,
    /// What JSON does not have, for the report.
    pub(crate) notes: Vec<String>,
}

/// Reads JSON as Python does: a byte order mark, `NaN`, `Infinity`, `-Infinity`, and keys that
/// stand twice are no errors, but remarked on. `name` stands in the remarks.
pub(crate) fn python<'a>(
    name: &str,
    text: &'a str,
) -> std::result::Result<PythonJson<'a>, serde_json::Error> {
    let mut notes = Vec::new();
    if text.starts_with('\u{feff}') {
        notes.push(format!("{name} begins with a byte order mark, which was left out"));
    }
    let mut numbers = BTreeSet::new();
    let plain = plain_json(text, |number| {
        numbers.insert(number.to_owned());
        format!("{number:?}")
    });
    let value = serde_json::from_str(&plain)?;
    if !numbers.is_empty() {
        let mut places = Vec::new();
        places_of(&value, &numbers, "", &mut places);
        let more = places.len().saturating_sub(SHOWN_PLACES);
        places.truncate(SHOWN_PLACES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!("{name}: {}{more}, which JSON does not have", places.join(", ")));
    }
    let twice = keys_that_stand_twice(&plain);
    if !twice.is_empty() {
        let plural = if twice.len() == 1 { "stands" } else { "stand" };
        notes.push(format!("{name}: `{}` {plural} twice; the last counts", twice.join("`, `")));
    }
    Ok(PythonJson { text: plain, value, notes })
}

/// Places of numbers that one remark names.
const SHOWN_PLACES: usize = 3;

/// Where the texts that stand for `numbers` are: `a.b` is NaN.
fn places_of(value: &Value, numbers: &BTreeSet<String>, path: &str, places: &mut Vec<String>) {
    match value {
        Value::String(text) if numbers.contains(text) => {
            places.push(format!("`{path}` is {text}"));
        }
        Value::Array(items) => {
            let before = places.len();
            for item in items {
                // One of a list is enough.
                if places.len() == before {
                    places_of(item, numbers, path, places);
                }
            }
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                places_of(value, numbers, &path, places);
            }
        }
        _ => {}
    }
}

/// For other readers of the file: the text as JSON has it, where it is not; numbers that JSON lacks
/// are null.
pub(crate) fn for_strict_readers(text: &str) -> Cow<'_, str> {
    plain_json(text, |_| "null".to_owned())
}

/// Paths of keys that stand twice in their object.
fn keys_that_stand_twice(text: &str) -> Vec<String> {
    let mut twice = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    // What is no JSON has been refused before.
    let _ = Walk { path: String::new(), twice: &mut twice }.deserialize(&mut reader);
    twice
}

/// Goes through a value and notes the keys that stand twice.
struct Walk<'a> {
    path: String,
    twice: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, value: D) -> std::result::Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let path =
                if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            if !seen.insert(key) && !self.twice.contains(&path) {
                self.twice.push(path.clone());
            }
            map.next_value_seed(Walk { path, twice: &mut *self.twice })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        while list
            .next_element_seed(Walk { path: self.path.clone(), twice: &mut *self.twice })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }
}

/// A JSON object: of a key that stands twice the last value, and the keys that do.
#[derive(Debug)]
pub(crate) struct Entries<T> {
    pub(crate) map: BTreeMap<String, T>,
    pub(crate) twice: Vec<String>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: de::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
    type Value = Entries<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut access: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut entries = Entries { map: BTreeMap::new(), twice: Vec::new() };
        while let Some(key) = access.next_key::<String>()? {
            if entries.map.insert(key.clone(), access.next_value()?).is_some() {
                entries.twice.push(key);
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_read_as_python_reads_it() {
        let text = "\u{feff}{\"a\": 1, \"b\": [NaN, {\"c\": 1, \"c\": -Infinity}], \"a\": 2}";
        let read = python("config.json", text).unwrap();
        assert_eq!(read.value, json!({"a": 2, "b": ["NaN", {"c": "-Infinity"}]}));
        assert_eq!(
            read.notes,
            [
                "config.json begins with a byte order mark, which was left out",
                "config.json: `b` is NaN, which JSON does not have",
                "config.json: `b.c`, `a` stand twice; the last counts",
            ]
        );
        assert!(python("x", r#"{"a": "NaN", "b": null}"#).unwrap().notes.is_empty());
        assert!(python("x", "{\"a\": NaNa}").is_err());
        assert_eq!(for_strict_readers("\u{feff}[NaN, \"NaN\"]"), "[null, \"NaN\"]");
    }

    #[test]
    fn what_is_no_json_is_shown() {
        let message = |text: &str| {
            let error = serde_json::from_str::<Value>(text).unwrap_err();
            invalid(ErrorKind::Config, Path::new("f"), text, &error).to_string()
        };
        assert_eq!(
            message("Entry not found\n"),
            "f: not valid JSON: it begins with \"Entry not found\""
        );
        assert!(message("{\"a\": ").contains("not valid JSON: EOF"), "{}", message("{\"a\": "));
    }
}
