//! `model.safetensors.index.json`: which shard holds which tensor.

use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::json::{self, Entries};
use anemll_files::Limit;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

#[derive(Deserialize)]
struct RawIndex {
    weight_map: Option<Entries<String>>,
}

/// Tensor names with the file names of their shards.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) weight_map: BTreeMap<String, String>,
    /// Remarks on what JSON does not have.
    pub(crate) notes: Vec<String>,
}

impl Index {
    /// Reads the index; every file name must be a path inside the directory.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = json::read(path, Limit::INDEX, ErrorKind::Index)?;
        let text = json::text(path, &bytes, ErrorKind::Index)?;
        let wrong = |reason: String| {
            HuggingFaceError::new(ErrorKind::Index, path, reason)
                .with_hint("download the index again")
        };
        // No number of the index is used, so that those which JSON lacks may be anything.
        let plain = json::for_strict_readers(text);
        let raw: RawIndex = serde_json::from_str(&plain)
            .map_err(|error| wrong(format!("not a valid index: {error}")))?;
        let Some(Entries { map, twice }) = raw.weight_map else {
            return Err(wrong("the key is missing".to_owned()).with_key("weight_map"));
        };
        if map.is_empty() {
            return Err(wrong("names no tensor".to_owned()).with_key("weight_map"));
        }
        let mut weight_map = BTreeMap::new();
        for (tensor, file) in map {
            let Some(name) = inside(&file) else {
                return Err(wrong(format!(
                    "names the file {file:?}, which is not inside the directory"
                ))
                .with_key(format!("weight_map.{tensor}")));
            };
            weight_map.insert(tensor, name);
        }
        let notes = twice.first().map(|tensor| {
            format!("the index names `{tensor}` twice; the last counts, as in transformers")
        });
        Ok(Self { weight_map, notes: notes.into_iter().collect() })
    }

    /// The shards, each once, in the order of their names.
    pub(crate) fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// The path without `.` in it, if it has names only: no root, no drive, no `..`. Symbolic links are
/// allowed, because the cache of the Hugging Face hub consists of them.
fn inside(file: &str) -> Option<String> {
    if file.contains(['\\', '\0']) {
        return None;
    }
    let mut names = Vec::new();
    for part in Path::new(file).components() {
        match part {
            Component::Normal(name) => names.push(name.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!names.is_empty()).then(|| names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn names_stay_inside() {
        for (file, name) in [
            ("model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors"),
            ("part/model.safetensors", "part/model.safetensors"),
            ("./model.safetensors", "model.safetensors"),
            (".//part/./model.safetensors", "part/model.safetensors"),
        ] {
            assert_eq!(inside(file).as_deref(), Some(name));
        }
        for file in ["", "/a", "../a", "a/../../b", "..", ".", "./", "./../a", "a\\b", "\0"] {
            assert_eq!(inside(file), None, "{file:?}");
        }
    }
}
