//! What can be looked at: packages, model files, compiled models.

use crate::error::from_package;
use anemll_mlpackage::Package;
use anemll_plugin_api::Result;
use anemll_weights::WeightFiles;
use coreml_proto::Model;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Files of a folder that are listed; real packages have three.
const MAXIMUM_FILES: usize = 1000;
/// How deep folders are listed; real packages have four levels.
const MAXIMUM_FOLDERS: usize = 8;

/// What was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A folder with a manifest.
    Package,
    /// A bare model file.
    Model,
}

/// A model with its weight files.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    package: Package,
}

/// A file of what was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Path inside the package, with forward slashes.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

impl Opened {
    /// Opens a package or a model file.
    pub fn open(path: &Path) -> Result<Self> {
        let package = Package::open(path).map_err(from_package)?;
        Ok(Self { path: path.to_owned(), package })
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn form(&self) -> Form {
        match self.package.manifest() {
            Some(_) => Form::Package,
            None => Form::Model,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.package.model()
    }

    /// The weight files, mapped.
    pub fn files(&self) -> &WeightFiles {
        self.package.weight_files()
    }

    /// Bytes that hold the program and its description.
    pub fn program_bytes(&self) -> u64 {
        self.package.model_size()
    }

    /// Bytes of all weight files.
    pub fn weight_bytes(&self) -> u64 {
        self.files().values().map(|file| file.size_in_bytes()).sum()
    }

    /// All files with their sizes, by name. Of a bare model file: itself, and the weight files.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.form() == Form::Model {
            let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            parts.push(Part { name, bytes: self.program_bytes() });
            for (name, file) in self.files() {
                let name = name.strip_prefix("@model_path/").unwrap_or(name).to_owned();
                parts.push(Part { name, bytes: file.size_in_bytes() });
            }
        } else {
            list(&self.path, "", 0, &mut parts);
        }
        parts.sort_by(|first, second| first.name.cmp(&second.name));
        parts
    }
}

/// Regular files below a folder; what cannot be read is left out, links are not followed.
fn list(folder: &Path, before: &str, depth: usize, parts: &mut Vec<Part>) {
    let Ok(entries) = fs_err::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        if metadata.is_dir() && depth < MAXIMUM_FOLDERS {
            list(&entry.path(), &format!("{name}/"), depth + 1, parts);
        } else if metadata.is_file() && parts.len() < MAXIMUM_FILES {
            parts.push(Part { name, bytes: metadata.len() });
        }
    }
}
