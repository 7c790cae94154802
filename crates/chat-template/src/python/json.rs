//! `tojson` as transformers has it: `json.dumps(value, ensure_ascii=False, …)`.

use super::arguments::Arguments;
use super::collections::View;
use super::text::{DEEPEST, Text, float, number, too_deep};
use super::{More, Outcome, refuse};
use minijinja::Value;
use minijinja::value::ValueKind;
use std::fmt::Write as _;

/// Spaces of one level of indentation, at most.
const LARGEST_INDENT: i64 = 64;

/// The filter `tojson`.
pub(crate) fn to_json(value: &Value, arguments: More) -> Outcome<String> {
    let arguments = arguments.into_values();
    let mut arguments = Arguments::new("tojson", &arguments)?;
    let ascii = arguments.flag("ensure_ascii")?;
    let indent = match arguments.take_some("indent")? {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(width) => {
            let width = width.as_i64().filter(|width| *width <= LARGEST_INDENT);
            let width = width.ok_or_else(|| refuse("`tojson` cannot indent like this"))?;
            Some(" ".repeat(usize::try_from(width).unwrap_or(0)))
        }
    };
    let (mut item, mut key) =
        (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some(separators) = arguments.take_some("separators")? {
        let texts: Vec<Value> = separators.try_iter()?.checked().collect::<Outcome<_>>()?;
        match texts.as_slice() {
            [first, second] if first.as_str().is_some() && second.as_str().is_some() => {
                item = first.as_str().unwrap_or_default().to_owned();
                key = second.as_str().unwrap_or_default().to_owned();
            }
            _ => return Err(refuse("`tojson` needs two separators")),
        }
    }
    let sorted = arguments.flag("sort_keys")?;
    arguments.finish()?;
    let mut writer = Writer { ascii, indent, item, key, sorted, text: Text::default() };
    writer.value(value, 0)?;
    Ok(writer.text.finish())
}

struct Writer {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
    text: Text,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Outcome<()> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        match value.kind() {
            ValueKind::None => self.text.push("null"),
            ValueKind::Bool => self.text.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push(&json_number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable
                if value.downcast_object_ref::<View>().is_none() =>
            {
                self.text.push("[")?;
                let mut empty = true;
                for item in value.try_iter()?.checked() {
                    self.next(empty, depth + 1)?;
                    empty = false;
                    self.value(&item?, depth + 1)?;
                }
                self.close(empty, depth, "]")
            }
            ValueKind::Map => {
                self.text.push("{")?;
                let mut keys: Vec<Value> = value.try_iter()?.checked().collect::<Outcome<_>>()?;
                if self.sorted {
                    let comparable = |key: &Value| key.kind() == ValueKind::String;
                    let mixed = keys.iter().any(comparable) && !keys.iter().all(comparable);
                    if mixed {
                        return Err(refuse("`tojson` cannot sort texts and other keys"));
                    }
                    keys.sort();
                }
                let mut empty = true;
                for key in keys {
                    self.next(empty, depth + 1)?;
                    empty = false;
                    let name = match key.kind() {
                        ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                        ValueKind::None => "null".to_owned(),
                        ValueKind::Bool => key.is_true().to_string(),
                        ValueKind::Number => json_number(&key),
                        kind => {
                            return Err(refuse(format!("`tojson`: a key is not text but {kind}")));
                        }
                    };
                    self.string(&name)?;
                    self.text.push(&self.key)?;
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
                self.close(empty, depth, "}")
            }
            kind => Err(refuse(format!("`tojson` cannot write this: {kind}"))),
        }
    }

    fn next(&mut self, first: bool, depth: usize) -> Outcome<()> {
        if !first {
            self.text.push(&self.item)?;
        }
        self.line(depth)
    }

    fn close(&mut self, empty: bool, depth: usize, bracket: &str) -> Outcome<()> {
        if !empty {
            self.line(depth)?;
        }
        self.text.push(bracket)
    }

    fn line(&mut self, depth: usize) -> Outcome<()> {
        if let Some(indent) = &self.indent {
            self.text.push("\n")?;
            for _ in 0..depth {
                self.text.push(indent)?;
            }
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Outcome<()> {
        let mut quoted = String::with_capacity(text.len() + 2);
        quoted.push('"');
        for character in text.chars() {
            match character {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\u{8}' => quoted.push_str("\\b"),
                '\u{c}' => quoted.push_str("\\f"),
                '\0'..='\u{1f}' => escape(&mut quoted, character),
                ' '..='~' => quoted.push(character),
                _ if self.ascii => escape(&mut quoted, character),
                _ => quoted.push(character),
            }
        }
        quoted.push('"');
        self.text.push(&quoted)
    }
}

fn escape(quoted: &mut String, character: char) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(quoted, "\\u{unit:04x}");
    }
}

fn json_number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() && number.is_nan() => "NaN".to_owned(),
        Ok(number) if !value.is_integer() && number.is_infinite() => {
            float(number).replace("inf", "Infinity")
        }
        _ => number(value),
    }
}
