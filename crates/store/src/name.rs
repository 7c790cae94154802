//! Names of outputs: relative, and of the few forms that a conversion makes.

use crate::OWN;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// What the names at the top of an output directory end in: packages, compiled models, and what
/// describes them. Weights are not among them, so that no record can ever list a model's.
const ENDINGS: [&str; 4] = ["mlpackage", "mlmodelc", "aimodel", "json"];
/// Files at the top with other endings. A user may well keep notes of such endings there.
const FILES: [&str; 6] = [
    "meta.yaml",
    "chat_template.jinja",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
];
/// The folder of chat templates beside the one for plain conversations.
pub(crate) const TEMPLATES: &str = "additional_chat_templates";
/// The folder that has the tokenizer's files once more, where the output directory is a bundle.
pub const TOKENIZER: &str = "tokenizer";
/// Names below `.anemll` that are the store's own.
const RESERVED: [&str; 2] = ["conversion.json", "journal.json"];
/// Most bytes of one part of a name, as file systems have it.
const LONGEST_PART: usize = 255;

/// The name of an output, relative to the output directory, with slashes on every system:
/// `NAME.mlpackage`, `NAME.mlmodelc`, `NAME.aimodel`, a small file such as `meta.yaml`, a chat template below
/// `additional_chat_templates`, a small file below `tokenizer`, or one of these below `.anemll`. No other text is one, whoever wrote
/// it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutputName(String);

impl OutputName {
    /// The name `text`.
    ///
    /// # Errors
    /// [`codes::OUTPUT_RECORD_INVALID`] for what is not the name of an output.
    pub fn new(text: &str) -> Result<Self> {
        match problem(text) {
            None => Ok(Self(text.to_owned())),
            Some(problem) => Err(Error::new(
                codes::OUTPUT_RECORD_INVALID,
                format!("{text:?} cannot be the name of an output: it {problem}"),
            )),
        }
    }

    /// The name of a relative path.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_path(path: &Path) -> Result<Self> {
        let parts: Option<Vec<&str>> = path.iter().map(std::ffi::OsStr::to_str).collect();
        match parts {
            Some(parts) => Self::new(&parts.join("/")),
            None => Self::new(&path.to_string_lossy()),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a relative path.
    pub fn to_path(&self) -> PathBuf {
        self.0.split('/').collect()
    }
}

impl fmt::Display for OutputName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<OutputName> for String {
    fn from(name: OutputName) -> Self {
        name.0
    }
}

impl TryFrom<String> for OutputName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(&text)
    }
}

/// Why a text cannot be the name of an output.
fn problem(text: &str) -> Option<&'static str> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Some("leads out of the output directory, or is not plain");
    }
    if text.contains(['\\', ':']) || text.chars().any(char::is_control) {
        return Some("has characters that are not allowed");
    }
    if parts.iter().any(|part| part.len() > LONGEST_PART) {
        return Some("is too long");
    }
    let ends_in = |endings: &[&str]| {
        let extension = Path::new(text).extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| endings.contains(&extension))
    };
    let right = match parts.as_slice() {
        [name] => FILES.contains(name) || (!name.starts_with('.') && ends_in(&ENDINGS)),
        [TEMPLATES, name] => !name.starts_with('.') && ends_in(&["jinja"]),
        [TOKENIZER, name] => FILES.contains(name) || (!name.starts_with('.') && ends_in(&["json"])),
        [OWN, name] => !name.starts_with('.') && !RESERVED.contains(name) && ends_in(&["json"]),
        [OWN, "evaluate", name] => !name.starts_with('.') && ends_in(&["mlpackage"]),
        [OWN, "weights", name] => !name.starts_with('.') && ends_in(&["json"]),
        _ => false,
    };
    (!right).then_some("is not of a form that a conversion makes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_conversions_have_names() {
        for name in [
            "llama_FFN_PF_lut4_chunk_01of02.mlpackage",
            "llama_lm_head.mlmodelc",
            "meta.yaml",
            "tokenizer.model",
            "chat_template.jinja",
            "merges.txt",
            "anemll-report.json",
            "additional_chat_templates/tool_use.jinja",
            "tokenizer/tokenizer.json",
            "tokenizer/chat_template.jinja",
            "anemll-run.json",
            ".anemll/evaluate/llama_evaluate_chunk_01of02.mlpackage",
            ".anemll/weights/chunk_01.json",
        ] {
            assert_eq!(OutputName::new(name).unwrap().to_path(), Path::new(name));
        }
    }

    #[test]
    fn nothing_else_has_a_name() {
        for name in [
            "",
            ".",
            "..",
            "../x.json",
            "/etc/x.json",
            "a/../x.json",
            "a//x.json",
            "x.json/",
            "./x.json",
            "sub/x.json",
            "C:x.json",
            "..\\x.json",
            "x\0.json",
            "x\u{1b}[2J.json",
            ".hidden.json",
            "notes.txt",
            "compose.yaml",
            "page.jinja",
            "other.model",
            "META.YAML",
            "additional_chat_templates",
            "additional_chat_templates/x.json",
            "tokenizer",
            "tokenizer/page.jinja",
            "tokenizer/x.mlpackage",
            "tokenizer/.x.json",
            "tokenizer/../x.jinja",
            "additional_chat_templates/.x.jinja",
            "additional_chat_templates/../x.jinja",
            "model.safetensors",
            "model",
            ".anemll",
            ".anemll/conversion.json",
            ".anemll/journal.json",
            ".anemll/lock",
            ".anemll/staging-0/x.json",
            ".anemll/evaluate",
            ".anemll/weights/../../x.json",
            ".ANEMLL/run.json",
        ] {
            let error = OutputName::new(name).unwrap_err();
            assert_eq!(error.code, codes::OUTPUT_RECORD_INVALID, "{name:?}");
            let text = serde_json::to_string(name).unwrap();
            assert!(serde_json::from_str::<OutputName>(&text).is_err(), "{name:?}");
        }
        assert!(OutputName::new(&format!("{}.json", "x".repeat(300))).is_err());
    }
}
