//! The files of a tokenizer: read whole up to a limit, and JSON as Python writes it.

use anemll_files::Limit;
use anemll_plugin_api::{Error, Result, codes};
use serde_json::Value;
use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::Path;

/// What a file begins with when Git LFS has not put the real one in its place.
const LFS: &[u8] = b"version https://git-lfs.";

/// A file's bytes; none where there is no file.
pub(crate) fn read(path: &Path, limit: Limit) -> Result<Option<Vec<u8>>> {
    let bytes = match anemll_files::read(path, limit) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(invalid(path, format!("this file cannot be read: {source}"))),
    };
    if bytes.starts_with(LFS) {
        return Err(invalid(path, "this file is a Git LFS pointer, not the file itself")
            .with_hint("run `git lfs pull` in the model directory, or download the file again"));
    }
    Ok(Some(bytes))
}

/// A JSON file; null where there is none.
pub(crate) fn read_json(path: &Path, limit: Limit) -> Result<Value> {
    let Some(bytes) = read(path, limit)? else { return Ok(Value::Null) };
    let text = std::str::from_utf8(&bytes)
        .map_err(|source| invalid(path, format!("this file is not valid JSON: {source}")))?;
    serde_json::from_str(&without_python_numbers(text))
        .map_err(|source| invalid(path, format!("this file is not valid JSON: {source}")))
}

pub(crate) fn invalid(path: &Path, message: impl Into<String>) -> Error {
    Error::new(codes::TOKENIZER_INVALID, message).with_at(path.display().to_string())
}

/// Python writes `NaN`, `Infinity` and `-Infinity` as bare words; nothing here needs such a number,
/// so that null stands for them.
fn without_python_numbers(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(character) = rest.chars().next() {
        let length = match character {
            '"' => {
                in_string = !in_string;
                1
            }
            '\\' if in_string => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ if in_string => character.len_utf8(),
            _ => match WORDS.iter().find(|word| rest.starts_with(*word)) {
                Some(word) => {
                    plain += "null";
                    rest = &rest[word.len()..];
                    continue;
                }
                None => character.len_utf8(),
            },
        };
        plain += &rest[..length];
        rest = &rest[length..];
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_only_python_knows_are_null_outside_of_texts() {
        let text =
            r#"{"a": NaN, "b": [-Infinity, Infinity], "NaN": "é \" NaN \\", "c": "Infinity"}"#;
        let expected = r#"{"a": null, "b": [null, null], "NaN": "é \" NaN \\", "c": "Infinity"}"#;
        assert_eq!(without_python_numbers(text), expected);
        assert!(matches!(without_python_numbers("{}"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_pointer_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        assert_eq!(read(&path, Limit::TOKENIZER).unwrap(), None);
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
            .unwrap();
        let error = read_json(&path, Limit::TOKENIZER).unwrap_err();
        assert!(error.message.contains("Git LFS"), "{error}");
    }
}
