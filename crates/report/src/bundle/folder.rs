//! The folder: `metadata.json`, and the files that it speaks of.

use super::Findings;
use anemll_files::Limit;
use anemll_layout::apple;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Where apps find the tokenizer.
const TOKENIZER: &str = "tokenizer/tokenizer.json";
/// What they read beside it: without it, they know neither special tokens nor a chat template.
const TOKENIZER_CONFIG: &str = "tokenizer/tokenizer_config.json";
/// What is in a bundle, as apps know it. Only language models are looked at here.
const KINDS: [&str; 5] = ["llm", "vlm", "diffusion", "segmenter", "speech_recognizer"];
/// What a state holds, as apps know it.
const STATES: [&str; 3] = ["kv_cache", "sliding_cache", "fixed"];

/// What the folder says of the model.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) name: String,
    /// The asset, where it is there and was not made for one device alone.
    pub(super) asset: Option<String>,
    pub(super) language: Language,
}

/// What it says of a language model.
#[derive(Debug)]
pub(super) struct Language {
    pub(super) vocabulary: Option<u64>,
    pub(super) context: Option<u64>,
    /// Kinds of states by their names.
    pub(super) states: BTreeMap<String, String>,
    /// The function of the dynamic form.
    pub(super) main: String,
}

impl Default for Language {
    fn default() -> Self {
        let (vocabulary, context, states) = (None, None, BTreeMap::new());
        Self { vocabulary, context, states, main: "main".to_owned() }
    }
}

/// Reads the folder.
pub(super) fn read(folder: &Path, found: &mut Findings) -> Said {
    let file = apple::METADATA;
    let text = match anemll_files::read_text(&folder.join(file), Limit::CONFIG) {
        Ok(text) => text,
        Err(error) => {
            found.fatal(file, format!("it cannot be read: {error}"));
            return Said::default();
        }
    };
    let metadata = match serde_json::from_str(&text) {
        Ok(Value::Object(metadata)) => metadata,
        Ok(_) => {
            found.fatal(file, "it does not hold an object");
            return Said::default();
        }
        Err(error) => {
            found.fatal(file, format!("it is not JSON: {error}"));
            return Said::default();
        }
    };
    match metadata.get("metadata_version").and_then(Value::as_str) {
        Some(apple::METADATA_VERSION) => {}
        Some(other) => {
            let wanted = apple::METADATA_VERSION;
            found.fatal(file, format!("`metadata_version` is {other:?}; apps take {wanted:?}"));
        }
        None => found.fatal(file, "it has no `metadata_version`"),
    }
    let kind = text_of(&metadata, "", "kind", found);
    match kind.as_deref() {
        None | Some("llm") => {}
        Some(kind) if KINDS.contains(&kind) => {
            found.doubt(
                file,
                format!("`kind` is {kind:?}: only language models are looked at here"),
            );
        }
        Some(kind) => found.fatal(file, format!("`kind` is {kind:?}, which apps do not know")),
    }
    Said {
        name: text_of(&metadata, "", "name", found).unwrap_or_default(),
        asset: asset(folder, &metadata, found),
        language: language(folder, &metadata, found),
    }
}

/// A text that must be there; `within` is the object that it is a key of.
fn text_of(
    keys: &Map<String, Value>,
    within: &str,
    key: &str,
    found: &mut Findings,
) -> Option<String> {
    match keys.get(key) {
        Some(Value::String(text)) if !text.is_empty() => return Some(text.clone()),
        Some(_) => found.fatal(apple::METADATA, format!("`{within}{key}` must be a text")),
        None => found.fatal(apple::METADATA, format!("it has no `{within}{key}`")),
    }
    None
}

/// A number that must be there.
fn number_of(keys: &Map<String, Value>, key: &str, found: &mut Findings) -> Option<u64> {
    let number = keys.get(key).and_then(Value::as_u64).filter(|number| *number > 0);
    if number.is_none() {
        found.fatal(apple::METADATA, format!("`language.{key}` must be a number from 1 on"));
    }
    number
}

/// The asset that is named, if it can be looked at.
fn asset(folder: &Path, metadata: &Map<String, Value>, found: &mut Findings) -> Option<String> {
    let file = apple::METADATA;
    let Some(assets) = metadata.get("assets").and_then(Value::as_object) else {
        found.fatal(file, "it has no `assets`");
        return None;
    };
    let name = text_of(assets, "assets.", "main", found)?;
    if name.contains(['/', '\\']) || name.starts_with('.') || !name.ends_with(".aimodel") {
        found.fatal(
            file,
            format!(
                "`assets.main` must be the name of a folder X.aimodel beside it, and is {name:?}"
            ),
        );
        return None;
    }
    if folder.join(&name).is_dir() {
        return Some(name);
    }
    match folder.join(format!("{name}c")).exists() {
        true => found.doubt(
            &name,
            "only what was made of it for one device is there; that is not looked at",
        ),
        false => found.fatal(&name, "it is not there"),
    }
    None
}

fn language(folder: &Path, metadata: &Map<String, Value>, found: &mut Findings) -> Language {
    let file = apple::METADATA;
    let Some(keys) = metadata.get("language").and_then(Value::as_object) else {
        found.fatal(file, "it has no `language`");
        return Language::default();
    };
    text_of(keys, "language.", "tokenizer", found);
    match keys.get("embedded_tokenizer") {
        None | Some(Value::Bool(true)) => tokenizer(folder, found),
        Some(Value::Bool(false)) => {
            found.doubt(
                file,
                "`language.embedded_tokenizer` is false: apps download the tokenizer by its name",
            );
        }
        Some(_) => found.fatal(file, "`language.embedded_tokenizer` is neither true nor false"),
    }
    let mut states = BTreeMap::new();
    for (name, kind) in keys.get("states").and_then(Value::as_object).into_iter().flatten() {
        match kind.as_str().filter(|kind| STATES.contains(kind)) {
            Some(kind) => drop(states.insert(name.clone(), kind.to_owned())),
            None => found
                .fatal(file, format!("`language.states.{name}` is {kind}, which apps do not know")),
        }
    }
    let named = keys.get("function_map").and_then(|map| map.get("main")?.get(0)?.as_str());
    let vocabulary = number_of(keys, "vocab_size", found);
    let context = number_of(keys, "max_context_length", found);
    let main = named.unwrap_or("main").to_owned();
    Language { vocabulary, context, states, main }
}

fn tokenizer(folder: &Path, found: &mut Findings) {
    for (name, needed) in [(TOKENIZER, true), (TOKENIZER_CONFIG, false)] {
        let path = folder.join(name);
        let problem = match anemll_files::read_text(&path, Limit::TOKENIZER) {
            Ok(text) => match serde_json::from_str::<Value>(&text) {
                Ok(Value::Object(_)) => continue,
                Ok(_) => "it does not hold an object".to_owned(),
                Err(error) => format!("it is not JSON: {error}"),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "it is missing".to_owned()
            }
            Err(error) => format!("it cannot be read: {error}"),
        };
        match needed {
            true => found.fatal(name, problem),
            false => found
                .doubt(name, format!("{problem}; apps find end tokens and chat template there")),
        }
    }
}
