//! What the hub says of a model's files.

use super::digest::Sum;
use crate::cache::is_plain;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A file as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name, which is a plain one, or one in a folder with a plain name.
    pub(super) name: String,
    /// Its size in bytes.
    pub(super) size: u64,
    /// The hash of its contents.
    pub(super) sum: Sum,
}

/// The files of a commit by name. Sizes and hashes are absent where the hub lists names only.
pub(super) type Listing = BTreeMap<String, Option<Entry>>;

#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: String,
    size: Option<u64>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    oid: String,
    size: u64,
}

/// Reads one page of the tree of a commit; files that do not lie in the folder itself and those with odd
/// names are left out, since no model needs them.
pub(super) fn read_tree(json: &[u8], folder: &str, listing: &mut Listing) -> Result<(), String> {
    let entries: Vec<TreeEntry> =
        serde_json::from_slice(json).map_err(|source| format!("it is not a listing: {source}"))?;
    for entry in entries {
        if entry.kind != "file" || !is_in(folder, &entry.path) {
            continue;
        }
        let (hash, size) = match &entry.lfs {
            Some(large) => (&large.oid, Some(large.size)),
            None => (&entry.oid, entry.size),
        };
        let Some(size) = size else { return Err(format!("it gives no size for {}", entry.path)) };
        let Some(sum) = Sum::parse(hash) else {
            return Err(format!("it names no hash of {}", entry.path));
        };
        let entry = Entry { name: entry.path, size, sum };
        listing.insert(entry.name.clone(), Some(entry));
    }
    Ok(())
}

/// What the hub tells of a revision.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    /// The commit that it is.
    pub(super) sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Info {
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json)
            .map_err(|source| format!("it does not describe a model: {source}"))
    }

    /// The names of the files in a folder, which is "" for the model's own.
    pub(super) fn listing(self, folder: &str) -> Listing {
        let names = self.siblings.into_iter().map(|file| file.rfilename);
        names.filter(|name| is_in(folder, name)).map(|name| (name, None)).collect()
    }
}

/// Whether a name is that of a file in the folder itself.
fn is_in(folder: &str, name: &str) -> bool {
    match folder {
        "" => is_plain(name),
        _ => {
            name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).is_some_and(is_plain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_give_the_hash_of_the_contents() {
        let (git, large) = ("1".repeat(40), "2".repeat(64));
        let json = format!(
            r#"[{{"type": "file", "path": "config.json", "oid": "{git}", "size": 5}},
                {{"type": "file", "path": "m.safetensors", "oid": "{git}", "size": 9,
                  "lfs": {{"oid": "{large}", "size": 9, "pointerSize": 130}}, "xetHash": "x"}},
                {{"type": "directory", "path": "onnx", "oid": "{git}", "size": 0}},
                {{"type": "file", "path": "../x", "oid": "{git}", "size": 5}},
                {{"type": "file", "path": "onnx/model.onnx", "oid": "{git}", "size": 5}}]"#
        );
        let mut listing = Listing::new();
        read_tree(json.as_bytes(), "", &mut listing).unwrap();
        let of = |name: &str| listing[name].clone().unwrap();
        assert_eq!((of("config.json").size, of("config.json").sum.digits()), (5, git.as_str()));
        assert_eq!(of("m.safetensors").sum.digits(), large);
        assert_eq!(listing.len(), 2);
        let mut inner = Listing::new();
        read_tree(json.as_bytes(), "onnx", &mut inner).unwrap();
        assert_eq!(inner.into_keys().collect::<Vec<_>>(), ["onnx/model.onnx"]);
        let bad = r#"[{"type": "file", "path": "a", "oid": "../../x", "size": 5}]"#;
        assert!(read_tree(bad.as_bytes(), "", &mut listing).is_err());
        for text in ["", "{}", "<html>", "[1]", "[{\"type\": \"file\"}]"] {
            assert!(read_tree(text.as_bytes(), "", &mut listing).is_err(), "{text}");
        }
    }
}
