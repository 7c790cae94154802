//! The small files of an export: tokenizer, meta.yaml, and a config.json that works offline.

use crate::error::{ErrorKind, ExportError, Result};
use crate::model::{Conversion, META};
use crate::redact::redact;
use anemll_files::Limit;
use serde_json::{Map, Value, json};

/// Files that are taken as they are, where they are there.
const COPIED: [&str; 10] = [
    "added_tokens.json",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
];
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const CONFIG: &str = "config.json";
/// How files are named that say under which terms a model may be used.
const TERMS: [&str; 4] = ["license", "licence", "notice", "use_policy"];
/// Keys of config.json by which tokenizers know where a text begins and ends.
const TOKEN_IDS: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];

/// The files with their bytes, sorted by name, and what a user should know about them.
#[derive(Debug, Default)]
pub(crate) struct TextFiles {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) notes: Vec<String>,
}

impl TextFiles {
    /// Adds a file.
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.files.push((name.to_owned(), bytes.to_vec()));
        self.files.sort();
    }
}

/// Reads and makes the small files of a conversion.
pub(crate) fn collect(conversion: &Conversion) -> Result<TextFiles> {
    let mut found = TextFiles::default();
    let read = |name: &str, limit: Limit| read(conversion, name, limit);
    for name in COPIED {
        if let Some(bytes) = read(name, Limit::TOKENIZER)? {
            found.files.push((name.to_owned(), bytes));
        }
    }
    for name in terms(conversion)? {
        if let Some(bytes) = read(&name, Limit::CONFIG)? {
            found.files.push((name, bytes));
        }
    }
    let tokenizer = read(TOKENIZER, Limit::TOKENIZER)?;
    let has_other = found.files.iter().any(|(name, _)| name == "tokenizer.model");
    match tokenizer {
        Some(bytes) => found.files.push((TOKENIZER.to_owned(), bytes)),
        None if has_other => {}
        None => found.notes.push(
            "tokenizer.json is missing: apps cannot load this without a tokenizer".to_owned(),
        ),
    }
    let template = read(TEMPLATE, Limit::TEMPLATE)?;
    let settings = read(TOKENIZER_CONFIG, Limit::TOKENIZER)?;
    let parsed = settings.as_deref().map(|bytes| object(conversion, TOKENIZER_CONFIG, bytes));
    let parsed = parsed.transpose()?;
    if let Some(mut bytes) = settings {
        // The apps know only the template that stands in this file.
        if let (Some(settings), Some(template)) = (&parsed, &template)
            && settings.get("chat_template").is_none()
        {
            let mut settings = settings.clone();
            let template = String::from_utf8_lossy(template).into_owned();
            settings.insert("chat_template".to_owned(), Value::from(template));
            bytes = pretty(&Value::Object(settings));
        }
        found.files.push((TOKENIZER_CONFIG.to_owned(), bytes));
    }
    if let Some(bytes) = template {
        found.files.push((TEMPLATE.to_owned(), bytes));
    }
    let config = match read(CONFIG, Limit::CONFIG)? {
        Some(bytes) => object(conversion, CONFIG, &bytes)?,
        None => Map::new(),
    };
    let config = offline_config(conversion, &config, parsed.as_ref());
    found.files.push((CONFIG.to_owned(), pretty(&config)));
    found.files.push((META.to_owned(), public_meta(&conversion.meta_text).into_bytes()));
    found.files.sort();
    Ok(found)
}

/// What tokenizers need of config.json: the kind of model, the class of its tokenizer, and the ids
/// of its special tokens. What else stands in the original asks loaders for code or weights that are
/// not here.
fn offline_config(
    conversion: &Conversion,
    config: &Map<String, Value>,
    tokenizer: Option<&Map<String, Value>>,
) -> Value {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let class = text(tokenizer.and_then(|settings| settings.get("tokenizer_class")))
        .or_else(|| text(config.get("tokenizer_class")));
    let architecture = conversion.info_text("architecture").unwrap_or_default();
    let model_type = text(config.get("model_type")).unwrap_or_else(|| {
        // The names that meta.yaml has for architectures are not all those of transformers.
        match architecture.as_str() {
            "qwen2" | "qwen2_5" | "qwen25" | "qwen2.5" => "qwen2",
            "qwen3" | "qwen" => "qwen3",
            gemma if gemma.starts_with("gemma3") => "gemma3_text",
            gemma if gemma.starts_with("gemma") => "gemma",
            "mistral" => "mistral",
            _ => "llama",
        }
        .to_owned()
    });
    let class = class.unwrap_or_else(|| {
        match model_type.as_str() {
            qwen if qwen.starts_with("qwen") => "Qwen2Tokenizer",
            gemma if gemma.starts_with("gemma") => "GemmaTokenizer",
            _ => "LlamaTokenizer",
        }
        .to_owned()
    });
    let mut small = json!({ "tokenizer_class": class, "model_type": model_type });
    for key in TOKEN_IDS {
        if let Some(value) = config.get(key).filter(|value| !value.is_null()) {
            small[key] = value.clone();
        }
    }
    small
}

/// meta.yaml without the paths of the machine that converted, which stand in its comments.
fn public_meta(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines.map(|line| if line.starts_with('#') { redact(line) } else { line.to_owned() }).collect()
}

/// Names of files with the terms of use.
fn terms(conversion: &Conversion) -> Result<Vec<String>> {
    let failed = |error: std::io::Error| ExportError::read(&conversion.directory, &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&conversion.directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let lower = name.to_ascii_lowercase();
        let stem = lower.split('.').next().unwrap_or_default();
        let text = matches!(lower.rsplit_once('.').map(|(_, end)| end), None | Some("md" | "txt"));
        if text && TERMS.contains(&stem) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// A file of the conversion; `None` where there is none.
fn read(conversion: &Conversion, name: &str, limit: Limit) -> Result<Option<Vec<u8>>> {
    let path = conversion.directory.join(name);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let bytes = anemll_files::read_no_follow(&path, limit)
        .map_err(|error| ExportError::read(&path, &error))?;
    if anemll_files::is_lfs_pointer(&bytes) {
        return Err(ExportError::new(
            ErrorKind::Unfinished,
            &path,
            "this is a Git LFS pointer, not the file",
        )
        .with_hint("fetch the file itself with `git lfs pull`, and convert again"));
    }
    Ok(Some(bytes))
}

fn object(conversion: &Conversion, name: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    let parsed = serde_json::from_slice(bytes);
    // Python writes `NaN` and `Infinity`, which are no JSON; in YAML, which JSON is a part of, they
    // are texts, and none of the keys that count has such a value.
    parsed.or_else(|error| serde_yaml_ng::from_slice(bytes).map_err(|_| error)).map_err(|error| {
        let path = conversion.directory.join(name);
        ExportError::new(ErrorKind::Unfinished, &path, format!("no JSON object: {error}"))
            .with_hint("take the file from the model's directory")
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    // A value of our own has JSON; an empty file would be found by whoever reads it.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
