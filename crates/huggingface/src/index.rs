//! `model.safetensors.index.json`: which shard holds which tensor.

use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::json::{self, UniqueMap};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

#[derive(Deserialize)]
struct RawIndex {
    weight_map: Option<UniqueMap<String>>,
}

/// Tensor names with the file names of their shards.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads the index; every file name must be a plain path inside the directory.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = json::read_text(path, ErrorKind::Index)?;
        let wrong = |reason: String| HuggingFaceError::new(ErrorKind::Index, path, reason);
        let raw: RawIndex = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("not a valid index: {error}")))?;
        let Some(UniqueMap(weight_map)) = raw.weight_map else {
            return Err(wrong("the key is missing".to_owned()).with_key("weight_map"));
        };
        if weight_map.is_empty() {
            return Err(wrong("names no tensor".to_owned()).with_key("weight_map"));
        }
        for (tensor, file) in &weight_map {
            if !is_plain(file) {
                return Err(wrong(format!(
                    "names the file {file:?}, which is not inside the directory"
                ))
                .with_key(format!("weight_map.{tensor}")));
            }
        }
        Ok(Self { weight_map })
    }

    /// The shards, each once, in the order of their names.
    pub(crate) fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// Names only: no root, no drive, no `..`. Symbolic links are allowed, because the cache of the
/// Hugging Face hub consists of them.
fn is_plain(file: &str) -> bool {
    !file.is_empty()
        && !file.contains(['\\', '\0'])
        && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn plain_names() {
        assert!(is_plain("model-00001-of-00002.safetensors"));
        assert!(is_plain("part/model.safetensors"));
        for file in ["", "/a", "../a", "a/../../b", "..", ".", "a\\b", "\0"] {
            assert!(!is_plain(file), "{file:?}");
        }
    }
}
