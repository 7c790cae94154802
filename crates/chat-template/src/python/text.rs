//! `str()` and `repr()` of values.

use super::collections::View;
use super::{Outcome, refuse};
use crate::LARGEST_TEXT;
use minijinja::Value;
use minijinja::value::ValueKind;
use std::fmt::Write as _;

/// Values within values, at most; as deep as Python's own limit lets `repr` go, roughly.
pub(crate) const DEEPEST: usize = 300;

/// A text that cannot grow without end.
#[derive(Default)]
pub(crate) struct Text(String);

impl Text {
    /// Adds a text.
    pub(crate) fn push(&mut self, text: &str) -> Outcome<()> {
        if text.len() > LARGEST_TEXT - self.0.len() {
            return Err(endless());
        }
        self.0.push_str(text);
        Ok(())
    }

    /// What was written.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

/// The error of a text that is too long.
pub(crate) fn endless() -> minijinja::Error {
    refuse(ENDLESS)
}

/// How the error of a text that is too long begins.
pub(crate) const ENDLESS: &str = "it makes an endless text";

/// The error of values within values within values.
pub(crate) fn too_deep() -> minijinja::Error {
    refuse(TOO_DEEP)
}

/// How the error of values that are nested too deeply begins.
pub(crate) const TOO_DEEP: &str = "its values are nested too deeply";

/// `str(value)`.
pub(crate) fn str(value: &Value) -> Outcome<String> {
    if value.kind() == ValueKind::String {
        return Ok(value.as_str().unwrap_or_default().to_owned());
    }
    let mut text = Text::default();
    write_str(value, &mut text)?;
    Ok(text.finish())
}

/// Writes `str(value)`.
pub(crate) fn write_str(value: &Value, text: &mut Text) -> Outcome<()> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::String => text.push(value.as_str().unwrap_or_default()),
        _ => write_repr(value, text, 0),
    }
}

/// `repr(value)`.
pub(crate) fn repr(value: &Value) -> Outcome<String> {
    let mut text = Text::default();
    write_repr(value, &mut text, 0)?;
    Ok(text.finish())
}

fn write_repr(value: &Value, text: &mut Text, depth: usize) -> Outcome<()> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::Undefined => text.push("Undefined"),
        ValueKind::None => text.push("None"),
        ValueKind::Bool => text.push(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => text.push(&number(value)),
        ValueKind::String => text.push(&quote(value.as_str().unwrap_or_default())),
        ValueKind::Bytes => text.push(&quote_bytes(value.as_bytes().unwrap_or_default())),
        ValueKind::Seq | ValueKind::Iterable => {
            let view = value.downcast_object_ref::<View>();
            let (open, close) = match view {
                Some(view) => (view.name(), "])"),
                None if value.is_tuple() => ("(", ")"),
                None => ("[", "]"),
            };
            text.push(open)?;
            let mut count = 0_usize;
            for item in value.try_iter()?.checked() {
                if count > 0 {
                    text.push(", ")?;
                }
                write_repr(&item?, text, depth + 1)?;
                count += 1;
            }
            if count == 1 && value.is_tuple() {
                text.push(",")?;
            }
            text.push(close)
        }
        ValueKind::Map => {
            text.push("{")?;
            for (index, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                if index > 0 {
                    text.push(", ")?;
                }
                write_repr(&key, text, depth + 1)?;
                text.push(": ")?;
                write_repr(&value.get_item(&key)?, text, depth + 1)?;
            }
            text.push("}")
        }
        ValueKind::Invalid => Err(invalid(value)),
        _ => text.push(&value.to_string()),
    }
}

fn invalid(value: &Value) -> minijinja::Error {
    match value.try_iter().map(minijinja::value::ValueIter::checked) {
        Err(error) => error,
        Ok(mut items) => items.find_map(Result::err).unwrap_or_else(|| refuse("an invalid value")),
    }
}

/// A number as Python writes it.
pub(crate) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// `repr` of a float: the shortest digits that give it back, with an exponent from 1e16 on and
/// below 1e-4.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// Whether `str.isprintable` says so of one character.
pub(crate) fn is_printable(character: char) -> bool {
    if matches!(character, '\'' | '"' | '\\') {
        return true;
    }
    // After another character, marks that combine with it are not escaped.
    let text = String::from_iter(['a', character]);
    text.escape_debug().count() == 2
}

/// A text in quotes: single ones, unless it has these and no double ones.
fn quote(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for character in text.chars() {
        match character {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            _ if character == quote => quoted.extend(['\\', quote]),
            _ if is_printable(character) => quoted.push(character),
            _ => {
                let code = u32::from(character);
                // Writing to a String cannot fail.
                let _ = match code {
                    0..=0xff => write!(quoted, "\\x{code:02x}"),
                    0x100..=0xffff => write!(quoted, "\\u{code:04x}"),
                    _ => write!(quoted, "\\U{code:08x}"),
                };
            }
        }
    }
    quoted.push(quote);
    quoted
}

fn quote_bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut quoted = format!("b{quote}");
    for byte in bytes {
        match byte {
            b'\'' | b'"' if char::from(*byte) != quote => quoted.push(char::from(*byte)),
            _ => quoted.extend(std::ascii::escape_default(*byte).map(char::from)),
        }
    }
    quoted.push(quote);
    quoted
}
