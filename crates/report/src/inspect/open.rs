//! What can be looked at: packages, model files, compiled models.

use anemll_mil::text::TextOptions;
use anemll_mlmodelc::CompiledModel;
use anemll_mlpackage::{Package, PackageError};
use anemll_plugin_api::{Error, Result};
use anemll_weights::WeightFiles;
use coreml_proto::Model;
use serde::Serialize;
use std::collections::BTreeMap;
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
    /// A folder that a compiler made.
    Compiled,
}

impl Form {
    /// The form in words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Model => "model file",
            Self::Compiled => "compiled model",
        }
    }
}

/// A model with its weight files.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Package(Box<Package>),
    Compiled { model: Box<CompiledModel>, program_bytes: u64 },
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
    /// Opens a package, a model file or a compiled model.
    pub fn open(path: &Path) -> Result<Self> {
        let source = if CompiledModel::is_at(path) {
            let model = CompiledModel::open(path)?;
            let program = path.join(anemll_mlmodelc::files::PROGRAM);
            let program_bytes = fs_err::metadata(program).map_or(0, |metadata| metadata.len());
            Source::Compiled { model: Box::new(model), program_bytes }
        } else {
            Source::Package(Box::new(Package::open(path).map_err(not_understood)?))
        };
        Ok(Self { path: path.to_owned(), source })
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn form(&self) -> Form {
        match &self.source {
            Source::Compiled { .. } => Form::Compiled,
            Source::Package(package) if package.manifest().is_some() => Form::Package,
            Source::Package(_) => Form::Model,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        match &self.source {
            Source::Package(package) => package.model(),
            Source::Compiled { model, .. } => model.model(),
        }
    }

    /// The weight files.
    pub fn files(&self) -> &WeightFiles {
        match &self.source {
            Source::Package(package) => package.weight_files(),
            Source::Compiled { model, .. } => model.weight_files(),
        }
    }

    /// Bytes that hold the program; in a package, its description, too.
    pub fn program_bytes(&self) -> u64 {
        match &self.source {
            Source::Package(package) => package.model_size(),
            Source::Compiled { program_bytes, .. } => *program_bytes,
        }
    }

    /// What the program's text says of the tools that made a compiled model.
    pub fn build_info(&self) -> BTreeMap<String, String> {
        match &self.source {
            Source::Package(_) => BTreeMap::new(),
            Source::Compiled { model, .. } => model.build_info().clone(),
        }
    }

    /// What to add to the program's text: nothing for a package, which no compiler has seen.
    pub fn text_options(&self) -> TextOptions {
        TextOptions { build_info: self.build_info() }
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
pub(crate) fn list(folder: &Path, before: &str, depth: usize, parts: &mut Vec<Part>) {
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

/// What is neither package nor model, said of all that can be looked at.
fn not_understood(error: PackageError) -> Error {
    let kind = error.kind();
    let error = Error::from(error);
    match kind {
        anemll_mlpackage::ErrorKind::NotAPackage => error
            .with_hint("give the path of a .mlpackage, a .mlmodelc or a .mlmodel of an ML Program"),
        _ => error,
    }
}
