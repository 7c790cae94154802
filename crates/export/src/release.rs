//! `release.json`: every file of an export with size and sum, and what it was made from.

use crate::error::{ErrorKind, ExportError, Result};
use anemll_files::Limit;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Name of the file.
pub const NAME: &str = "release.json";
/// Version of its form.
pub const SCHEMA: u32 = 1;
/// Files that one may list.
const MOST_FILES: usize = 100_000;

/// What `release.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Version of the form, [`SCHEMA`].
    pub schema: u32,
    /// Version of the program that exported.
    pub anemll: String,
    /// Name of the conversion, as in meta.yaml.
    pub name: String,
    /// What is in it: `ios`, `standard`.
    pub forms: Vec<String>,
    /// The models that apps load, without the ending.
    pub models: Vec<String>,
    /// How the conversion was made.
    pub recipe: Recipe,
    /// Every file but this one, sorted by path.
    pub files: Vec<FileEntry>,
}

/// How a conversion was made. What is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The program that converted, with its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Name of the original model on the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// SHA-256 over the original config.json and weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<String>,
    /// The command line, paths cut to their last part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The options that decide the output.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub options: Value,
    /// Stage, id and version of each plugin that took part.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub plugins: Value,
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path from the folder of release.json, with forward slashes.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Of a zip: every file in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Vec<Content>>,
}

/// A file in a zip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Path in the zip, with forward slashes.
    pub path: String,
    /// Size in bytes, unpacked.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Release {
    /// Reads the `release.json` of a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Release`]: it is missing, no JSON, of another schema, or lists a path twice or
    /// one that leaves the folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let refuse = |reason: String| ExportError::new(ErrorKind::Release, &path, reason);
        let bytes = anemll_files::read_no_follow(&path, Limit::RECORD).map_err(|error| {
            refuse(format!("cannot be read: {error}"))
                .with_hint("give the directory that `anemll export` wrote, or a copy of it")
        })?;
        let schema: Value =
            serde_json::from_slice(&bytes).map_err(|error| refuse(format!("no JSON: {error}")))?;
        match schema.get("schema").and_then(Value::as_u64) {
            Some(number) if number == u64::from(SCHEMA) => {}
            Some(number) => {
                return Err(refuse(format!("its schema is {number}; this program knows {SCHEMA}"))
                    .with_hint("a newer anemll can read it"));
            }
            None => return Err(refuse("this is not a release.json of anemll".to_owned())),
        }
        let release: Self = serde_json::from_value(schema)
            .map_err(|error| refuse(format!("not as it should be: {error}")))?;
        release.check().map_err(refuse)?;
        Ok(release)
    }

    /// Every path once, and inside.
    fn check(&self) -> std::result::Result<(), String> {
        if self.files.len() > MOST_FILES {
            return Err(format!("it lists {} files", self.files.len()));
        }
        let mut seen = BTreeSet::new();
        for file in &self.files {
            if !is_inside(&file.path) {
                return Err(format!("the path {:?} leaves the folder", file.path));
            }
            if file.path == NAME || !seen.insert(&file.path) {
                return Err(format!("the path {:?} is listed twice", file.path));
            }
            let mut inner = BTreeSet::new();
            for content in file.contents.iter().flatten() {
                if !is_inside(&content.path) {
                    let at = &file.path;
                    return Err(format!("the path {:?} in {at:?} leaves the folder", content.path));
                }
                if !inner.insert(&content.path) {
                    let at = &file.path;
                    return Err(format!("the path {:?} in {at:?} is listed twice", content.path));
                }
            }
        }
        Ok(())
    }

    /// The text of the file.
    pub(crate) fn to_text(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|error| {
            ExportError::new(ErrorKind::Write, Path::new(NAME), format!("no JSON: {error}"))
        })?;
        text.push('\n');
        Ok(text)
    }
}

/// Whether a path with forward slashes names something below the folder that it starts from.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', '\0', ':'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
