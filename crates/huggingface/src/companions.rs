//! The files beside the weights: tokenizer, chat template, and how the model is to be used.

use crate::contents::Instead;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::json;
use anemll_files::Limit;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What suffers where a file is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// No text becomes tokens without it, or other tokens than the model's.
    Tokens,
    /// Chat, or how tokens are drawn; or other programs that take it instead of tokenizer.json.
    Comfort,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// config.json, which has been read already.
    Config,
    /// tokenizer.json.
    Tokenizer,
    /// A JSON object, as Python reads it.
    Object,
    /// A chat template.
    Template,
    /// A text in UTF-8.
    Text,
    /// Anything.
    Bytes,
}

use Form::{Bytes, Config, Object, Template, Text, Tokenizer};
use Importance::{Comfort, Tokens};

/// Files beside the weights that a converted model needs, or that say how to use it.
const FILES: [(&str, Form, Importance); 13] = [
    ("config.json", Config, Tokens),
    ("generation_config.json", Object, Comfort),
    ("tokenizer.json", Tokenizer, Tokens),
    ("tokenizer_config.json", Object, Tokens),
    ("special_tokens_map.json", Object, Tokens),
    ("added_tokens.json", Object, Tokens),
    ("vocab.json", Object, Comfort),
    ("vocab.txt", Text, Comfort),
    ("merges.txt", Text, Comfort),
    ("tokenizer.model", Bytes, Comfort),
    ("chat_template.jinja", Template, Comfort),
    ("chat_template.json", Object, Comfort),
    ("spiece.model", Bytes, Comfort),
];

/// A file beside the weights.
#[derive(Debug, Clone)]
pub struct Companion {
    name: &'static str,
    path: PathBuf,
    importance: Importance,
    form: Form,
}

/// What a file beside the weights holds.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The bytes, in a form that strict readers of JSON take: those of the file, but for a byte order
    /// mark, and with null in place of the numbers that Python writes and JSON lacks.
    pub bytes: Vec<u8>,
    /// Remarks on what JSON does not have.
    pub notes: Vec<String>,
}

impl Companion {
    /// Those of a directory that are there, in a fixed order, unread.
    pub fn all(directory: &Path) -> Vec<Self> {
        FILES
            .iter()
            .filter(|(name, ..)| directory.join(name).symlink_metadata().is_ok())
            .map(|&(name, form, importance)| Self {
                name,
                path: directory.join(name),
                importance,
                form,
            })
            .collect()
    }

    /// Name of the file.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What suffers where it is broken.
    pub fn importance(&self) -> Importance {
        self.importance
    }

    /// Reads the file and checks that it is what its name says.
    ///
    /// # Errors
    /// A file that is no regular one, too large, empty, a Git LFS pointer, a web page, no text where
    /// there should be one, or no JSON.
    pub fn read(&self) -> Result<Contents> {
        let limit = match self.form {
            Config | Object if self.name != "vocab.json" => Limit::CONFIG,
            Template => Limit::TEMPLATE,
            _ => Limit::TOKENIZER,
        };
        let kind = ErrorKind::Companion;
        let bytes = json::read(&self.path, limit, kind)?;
        match self.form {
            Bytes => match Instead::of(&bytes) {
                Some(found) => Err(json::instead(kind, &self.path, found)),
                None => Ok(Contents { bytes, notes: Vec::new() }),
            },
            Text | Template => {
                json::text(&self.path, &bytes, kind)?;
                Ok(Contents { bytes, notes: Vec::new() })
            }
            Tokenizer => {
                self.check_tokenizer(json::text(&self.path, &bytes, kind)?)?;
                Ok(Contents { bytes, notes: Vec::new() })
            }
            Config | Object => {
                let text = json::text(&self.path, &bytes, kind)?;
                let read = json::python(self.name, text)
                    .map_err(|error| json::invalid(kind, &self.path, text, &error))?;
                if !read.value.is_object() {
                    return Err(self.wrong("not a JSON object"));
                }
                let bytes = json::for_strict_readers(text).as_bytes().to_vec();
                Ok(Contents { bytes, notes: read.notes })
            }
        }
    }

    /// The object that the file holds, with texts such as `"NaN"` in place of the numbers that JSON
    /// lacks; null where it is broken.
    pub fn value(&self) -> Value {
        let Ok(bytes) = json::read(&self.path, Limit::CONFIG, ErrorKind::Companion) else {
            return Value::Null;
        };
        let text = json::text(&self.path, &bytes, ErrorKind::Companion).ok();
        let read = text.and_then(|text| json::python(self.name, text).ok());
        read.map_or(Value::Null, |read| read.value)
    }

    /// That a tokenizer.json is one, without making a tokenizer of it.
    fn check_tokenizer(&self, text: &str) -> Result<()> {
        /// The parts that every tokenizer has.
        #[derive(Deserialize)]
        struct Parts {
            model: Option<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            vocab: Option<IgnoredAny>,
        }
        // No program reads a mark or Python's numbers in this file.
        let parts: Parts = serde_json::from_str(text)
            .map_err(|error| json::invalid(ErrorKind::Companion, &self.path, text, &error))?;
        match parts.model.and_then(|model| model.vocab) {
            Some(_) => Ok(()),
            None => Err(self.wrong("not a tokenizer: it has no model with a vocabulary")),
        }
    }

    fn wrong(&self, reason: &str) -> HuggingFaceError {
        HuggingFaceError::new(ErrorKind::Companion, &self.path, reason)
            .with_hint("download the file again")
    }
}
