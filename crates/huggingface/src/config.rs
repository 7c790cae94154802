//! `config.json` of a model directory.

use crate::adapter;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::json;
use anemll_files::Limit;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The text and the parsed object of a `config.json`.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    bytes: Vec<u8>,
    text: String,
    value: Value,
    notes: Vec<String>,
}

impl ConfigFile {
    /// Reads `directory`/config.json, which must hold a JSON object. Looks at nothing else, but for
    /// what the directory holds instead where there is none.
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
            if let Some(adapter) = adapter::find(directory) {
                return Err(adapter.refusal(directory));
            }
            return Err(HuggingFaceError::new(ErrorKind::Config, path, "the file is missing")
                .with_hint("give the folder of a Hugging Face model, which holds config.json"));
        }
        let bytes = json::read(&path, Limit::CONFIG, ErrorKind::Config)?;
        let source = json::text(&path, &bytes, ErrorKind::Config)?;
        let read = json::python("config.json", source)
            .map_err(|error| json::invalid(ErrorKind::Config, &path, source, &error))?;
        if !read.value.is_object() {
            return Err(HuggingFaceError::new(ErrorKind::Config, path, "not a JSON object")
                .with_hint("download the file again"));
        }
        let (text, value, notes) = (read.text.into_owned(), read.value, read.notes);
        Ok(Self { path, bytes, text, value, notes })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes as they stand in the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The text as JSON has it: without a byte order mark, and with texts such as `"NaN"` in place
    /// of the numbers that Python writes and JSON lacks.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parsed object of [`Self::text`]. Where a key stands twice the last one counts, as in
    /// Python.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Remarks on what JSON does not have.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}
