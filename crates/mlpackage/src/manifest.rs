//! `Manifest.json` of a package: which files it holds, and which of them is the model.
//!
//! COREML_FORMAT section 8.1: 4-space indent, sorted keys, upper-case UUIDs.

use crate::error::{ErrorKind, PackageError, Result};
use crate::paths::{self, MANIFEST};
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "Manifest.json";
const VERSION: [u32; 3] = [1, 0, 0];
const AUTHOR: &str = "com.apple.CoreML";

/// One file or folder of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Who made the item, such as `com.apple.CoreML`.
    pub author: String,
    /// For people.
    pub description: String,
    /// Name for display; the file is found by `path`.
    pub name: String,
    /// Path below `Data/`, with forward slashes.
    pub path: String,
}

/// The manifest of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    items: BTreeMap<String, Item>,
    root: String,
}

/// The JSON as it stands in the file; what is missing is reported by name afterwards.
#[derive(Deserialize)]
struct RawManifest {
    #[serde(rename = "fileFormatVersion")]
    version: Option<String>,
    #[serde(rename = "itemInfoEntries")]
    items: Option<UniqueMap<RawItem>>,
    #[serde(rename = "rootModelIdentifier")]
    root: Option<String>,
}

#[derive(Deserialize)]
struct RawItem {
    author: Option<String>,
    description: Option<String>,
    name: Option<String>,
    path: Option<String>,
}

/// A JSON object in which no key stands twice: which of two entries counts would be a guess.
struct UniqueMap<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for UniqueMap<T> {
    fn deserialize<D: de::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = UniqueMap<T>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut access: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = access.next_entry::<String, T>()? {
                    if map.contains_key(&key) {
                        return Err(de::Error::custom(format!("the key {key:?} stands twice")));
                    }
                    map.insert(key, value);
                }
                Ok(UniqueMap(map))
            }
        }
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

impl Manifest {
    /// The manifest that we write: the model, and the folder of weights where there is one.
    ///
    /// The identifiers have the form of random UUIDs but come from `seed`, so that equal packages
    /// are equal byte for byte.
    pub fn standard(with_weights: bool, seed: &[u8]) -> Self {
        let root = identifier("model", seed);
        let mut items = BTreeMap::from([(
            root.clone(),
            Item {
                author: AUTHOR.to_owned(),
                description: "CoreML Model Specification".to_owned(),
                name: "model.mlmodel".to_owned(),
                path: "com.apple.CoreML/model.mlmodel".to_owned(),
            },
        )]);
        if with_weights {
            items.insert(
                identifier("weights", seed),
                Item {
                    author: AUTHOR.to_owned(),
                    description: "CoreML Model Weights".to_owned(),
                    name: "weights".to_owned(),
                    path: "com.apple.CoreML/weights".to_owned(),
                },
            );
        }
        Self { items, root }
    }

    /// Reads `package`/Manifest.json and checks it: a version of three numbers that is not newer
    /// than 1.0.0, every entry complete, every path inside `Data/` and existing, and a root model
    /// that is one of the entries and a file.
    pub fn read(package: &Path) -> Result<Self> {
        let path = package.join(FILE_NAME);
        let bytes = paths::read_limited(&path, MANIFEST, ErrorKind::Manifest)?;
        let manifest = Self::parse(&path, &bytes)?;
        for item in manifest.items.values() {
            paths::resolve_inside(&package.join("Data"), &item.path)
                .map_err(|problem| problem.named_by(&path))?;
        }
        let root = manifest.model_path(package)?;
        if !root.is_file() {
            return Err(PackageError::new(
                ErrorKind::Manifest,
                root,
                "the root model is not a file",
            ));
        }
        Ok(manifest)
    }

    /// Checks what can be checked without the other files. `path` is for error messages.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let wrong = |reason: String| {
            PackageError::new(ErrorKind::Manifest, path, reason)
                .with_hint("save the package again with the tool that made it")
        };
        let raw: RawManifest =
            serde_json::from_slice(bytes).map_err(|error| wrong(format!("not valid: {error}")))?;
        let missing = |key: &str| wrong(format!("the key `{key}` is missing"));

        check_version(&raw.version.ok_or_else(|| missing("fileFormatVersion"))?).map_err(wrong)?;
        let mut items = BTreeMap::new();
        for (id, item) in raw.items.ok_or_else(|| missing("itemInfoEntries"))?.0 {
            let field = |value: Option<String>, key: &str| {
                value.ok_or_else(|| missing(&format!("itemInfoEntries.{id}.{key}")))
            };
            let item = Item {
                author: field(item.author, "author")?,
                description: field(item.description, "description")?,
                name: field(item.name, "name")?,
                path: field(item.path, "path")?,
            };
            items.insert(id, item);
        }
        let root = raw.root.ok_or_else(|| missing("rootModelIdentifier"))?;
        if !items.contains_key(&root) {
            return Err(wrong(format!("`rootModelIdentifier` names no entry: {root:?}")));
        }
        Ok(Self { items, root })
    }

    /// The entries by identifier.
    pub fn items(&self) -> &BTreeMap<String, Item> {
        &self.items
    }

    /// Identifier of the root model.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Path of the root model file in `package`, which stays inside its `Data/` folder.
    pub fn model_path(&self, package: &Path) -> Result<PathBuf> {
        let path = package.join(FILE_NAME);
        let Some(item) = self.items.get(&self.root) else {
            return Err(PackageError::new(ErrorKind::Manifest, path, "the root model is missing"));
        };
        paths::resolve_inside(&package.join("Data"), &item.path)
            .map_err(|problem| problem.named_by(&path))
    }

    /// The text of the file, in exactly the form that coremltools writes.
    pub fn to_text(&self) -> String {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = String::from("{\n    \"fileFormatVersion\": \"1.0.0\",\n");
        text.push_str("    \"itemInfoEntries\": {");
        for (index, (id, item)) in self.items.iter().enumerate() {
            text.push_str(if index == 0 { "\n" } else { ",\n" });
            text.push_str(&format!("        {}: {{\n", quote(id)));
            text.push_str(&format!("            \"author\": {},\n", quote(&item.author)));
            text.push_str(&format!("            \"description\": {},\n", quote(&item.description)));
            text.push_str(&format!("            \"name\": {},\n", quote(&item.name)));
            text.push_str(&format!("            \"path\": {}\n        }}", quote(&item.path)));
        }
        text.push_str("\n    },\n");
        text.push_str(&format!("    \"rootModelIdentifier\": {}\n}}\n", quote(&self.root)));
        text
    }
}

/// A UUID in upper case with the version and variant bits of a random one, made from the content.
fn identifier(role: &str, seed: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(role.as_bytes());
    hash.update([0]);
    hash.update(seed);
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    let mut buffer = uuid::Uuid::encode_buffer();
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .hyphenated()
        .encode_upper(&mut buffer)
        .to_owned()
}

fn check_version(text: &str) -> std::result::Result<(), String> {
    let numbers: Option<Vec<u32>> = text
        .split('.')
        .map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?)
        .collect();
    match numbers {
        Some(numbers) if numbers.len() == 3 => {
            if numbers.as_slice() > VERSION.as_slice() {
                return Err(format!("format version {text} is newer than 1.0.0, which we know"));
            }
            Ok(())
        }
        _ => Err(format!("`fileFormatVersion` is not three numbers: {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest> {
        Manifest::parse(Path::new("Manifest.json"), text.as_bytes())
    }

    #[test]
    fn standard_has_the_published_form() {
        let manifest = Manifest::standard(true, b"seed");
        let text = manifest.to_text();
        assert_eq!(text.len(), 617);
        assert_eq!(parse(&text).unwrap(), manifest);
        assert_eq!(text, Manifest::standard(true, b"seed").to_text());
        assert_ne!(text, Manifest::standard(true, b"other").to_text());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["itemInfoEntries"].as_object().unwrap().len(), 2);
        let root = value["rootModelIdentifier"].as_str().unwrap();
        assert_eq!(root, root.to_uppercase());
        assert_eq!(&root[14..15], "4");
        assert!(parse(&Manifest::standard(false, b"").to_text()).is_ok());
    }

    #[test]
    fn wrong_manifests_are_named() {
        let good = Manifest::standard(true, b"seed").to_text();
        for (from, to, reason) in [
            ("\"1.0.0\"", "\"1.0\"", "not three numbers"),
            ("\"1.0.0\"", "\"1.0.-1\"", "not three numbers"),
            ("\"1.0.0\"", "\"1.0.99999999999\"", "not three numbers"),
            ("\"1.0.0\"", "\"1.0.1\"", "newer than"),
            ("\"1.0.0\"", "\"2.0.0\"", "newer than"),
            ("\"1.0.0\"", "1", "not valid"),
            ("fileFormatVersion", "file", "`fileFormatVersion` is missing"),
            ("itemInfoEntries", "items", "`itemInfoEntries` is missing"),
            ("rootModelIdentifier", "root", "`rootModelIdentifier` is missing"),
            ("\"author\"", "\"writer\"", "author` is missing"),
            ("\"path\"", "\"where\"", "path` is missing"),
            ("\"rootModelIdentifier\": \"", "\"rootModelIdentifier\": \"X", "names no entry"),
            ("{", "[", "not valid"),
        ] {
            let error = parse(&good.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Manifest);
            assert!(error.reason().contains(reason), "{error} for {to}");
        }
        assert!(parse(&good.replace("\"1.0.0\"", "\"0.9.12\"")).is_ok());
        let id = Manifest::standard(true, b"seed").root().to_owned();
        let other = good.split('"').find(|part| part.len() == 36 && *part != id).unwrap();
        let error = parse(&good.replace(other, &id)).unwrap_err();
        assert!(error.reason().contains("stands twice"), "{error}");
    }
}
