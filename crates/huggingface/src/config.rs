//! `config.json` of a model directory.

use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::json;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The text and the parsed object of a `config.json`.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    text: String,
    value: Value,
}

impl ConfigFile {
    /// Reads `directory`/config.json, which must hold a JSON object. Looks at nothing else.
    pub fn read(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        match std::fs::metadata(directory) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(HuggingFaceError::new(
                    ErrorKind::NotADirectory,
                    directory,
                    "not a directory",
                )
                .with_hint("give the folder that holds config.json and the weights"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(HuggingFaceError::new(
                    ErrorKind::NotFound,
                    directory,
                    "no such directory",
                )
                .with_hint(
                    "download the model first (`hf download NAME --local-dir DIR`) and give DIR",
                ));
            }
            Err(error) => return Err(HuggingFaceError::io(directory, "cannot open", &error)),
        }
        let path = directory.join("config.json");
        if !path.exists() {
            return Err(HuggingFaceError::new(ErrorKind::Config, path, "the file is missing")
                .with_hint("give the folder of a Hugging Face model, which holds config.json"));
        }
        let text = json::read_text(&path, ErrorKind::Config)?;
        let wrong = |reason: String| HuggingFaceError::new(ErrorKind::Config, &path, reason);
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("not valid JSON: {error}")))?;
        if !value.is_object() {
            return Err(wrong("not a JSON object".to_owned()));
        }
        Ok(Self { path, text, value })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text as it stands in the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parsed object. Where a key stands twice the last one counts, as in Python.
    pub fn value(&self) -> &Value {
        &self.value
    }
}
