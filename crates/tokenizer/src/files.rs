//! The files of a tokenizer: read whole up to a limit, and JSON as Python writes it.

use anemll_codes as codes;
use anemll_files::{Limit, plain_json};
use anemll_plugin_api::{Error, Result};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;

/// A file's bytes; none where there is no file.
pub(crate) fn read(path: &Path, limit: Limit) -> Result<Option<Vec<u8>>> {
    let bytes = match anemll_files::read(path, limit) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(invalid(path, format!("this file cannot be read: {source}"))),
    };
    if anemll_files::is_lfs_pointer(&bytes) {
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
    // No number that only Python knows is needed here.
    serde_json::from_str(&plain_json(text, |_| "null".to_owned()))
        .map_err(|source| invalid(path, format!("this file is not valid JSON: {source}")))
}

pub(crate) fn invalid(path: &Path, message: impl Into<String>) -> Error {
    Error::new(codes::TOKENIZER_INVALID, message).with_at(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

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
