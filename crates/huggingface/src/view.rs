//! Views: folders that stand for a model whose weights are elsewhere, in another form.
//!
//! A view has config.json and the tokenizer's files like any model directory, and a file that says
//! where the weights are: in a GGUF file, or in another directory with an adapter's updates to be added. Whoever reads a model directory reads a view as well.

use crate::adapter;
use crate::companions::Companion;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::gguf_files::GgufFiles;
use crate::json;
use anemll_files::Limit;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Says where the weights are.
const FILE: &str = "anemll-view.json";

/// Where the weights of a view are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct View {
    pub(crate) weights: Weights,
    /// Why there is no tokenizer, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) no_tokenizer: Option<(String, String)>,
}

/// Where weights are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Weights {
    /// In this GGUF file, and the others of the model, where there are several.
    Gguf(PathBuf),
    /// In this model directory, with the updates of this adapter's directory.
    Adapted {
        /// The model.
        model: PathBuf,
        /// The adapter.
        adapter: PathBuf,
    },
}

impl View {
    /// The view that a directory is, if it is one.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = json::read(&path, Limit::CONFIG, ErrorKind::Config)?;
        let view = serde_json::from_slice(&bytes).map_err(|error| {
            HuggingFaceError::new(ErrorKind::Config, &path, format!("not a view: {error}"))
                .with_hint("remove the folder: it is made anew from the model")
        })?;
        Ok(Some(view))
    }

    /// The file that says it.
    fn text(&self, model: &Path) -> Result<Vec<u8>> {
        serde_json::to_value(self)
            .map(|value| text(&value))
            .map_err(|error| HuggingFaceError::new(ErrorKind::Usage, model, error.to_string()))
    }
}

/// Why a view has no tokenizer, and what to do about it.
pub fn missing_tokenizer(directory: &Path) -> Option<(String, String)> {
    View::read(directory).ok().flatten()?.no_tokenizer
}

/// The files of the view of a GGUF file, by name: config.json, the tokenizer's files where they can be
/// rebuilt, and the one that says where the weights are.
///
/// # Errors
/// A file that is damaged, or holds what cannot be honoured.
pub fn of_gguf(file: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let failed = |error| HuggingFaceError::gguf(file, error);
    let path = std::path::absolute(file)
        .map_err(|error| HuggingFaceError::io(file, "cannot open", &error))?;
    let GgufFiles { container, parts, .. } = GgufFiles::open(file)?;
    let config = anemll_gguf::config(&container, &parts).map_err(failed)?;
    // Nothing is written for weights that cannot be read.
    anemll_gguf::weights(&container).map_err(failed)?;
    let mut files = vec![("config.json", config)];
    let mut no_tokenizer = None;
    match anemll_gguf::tokenizer::files(&container) {
        Ok(made) => files.extend(made),
        Err(error) => {
            let key = error.key.map_or_else(String::new, |key| format!("`{key}`: "));
            no_tokenizer = Some((format!("{key}{}", error.reason), error.hint.unwrap_or_default()));
        }
    }
    let mut files: Vec<_> = files.into_iter().map(|(name, value)| (name, text(&value))).collect();
    files.push((FILE, View { weights: Weights::Gguf(path), no_tokenizer }.text(file)?));
    Ok(files)
}

/// The files of the view of a model with an adapter, by name: those of the model, and the one that says
/// where the weights are.
///
/// # Errors
/// A model or an adapter that is damaged, an adapter that cannot be merged or is of another model.
pub fn of_adapted(model: &Path, with: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    if !model.join("config.json").is_file()
        && let Some(other) = adapter::find(model)
    {
        return Err(other.refusal(model));
    }
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| HuggingFaceError::io(path, "cannot open", &error))
    };
    let no_tokenizer = missing_tokenizer(model);
    let weights = Weights::Adapted { model: absolute(model)?, adapter: absolute(with)? };
    let mut files = Vec::new();
    for file in Companion::all(model) {
        let limit = Limit::TOKENIZER;
        let read = anemll_files::read(file.path(), limit);
        let bytes =
            read.map_err(|error| HuggingFaceError::io(file.path(), "cannot read", &error))?;
        files.push((file.name(), bytes));
    }
    files.push((FILE, View { weights, no_tokenizer }.text(model)?));
    Ok(files)
}

fn text(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}").into_bytes();
    text.push(b'\n');
    text
}
