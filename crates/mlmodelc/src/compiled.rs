//! Reading a compiled model, whoever made it.

use crate::{Analytics, CoremlData, files};
use anemll_files::Limit;
use anemll_mil::text::{self, Dialect};
use anemll_mlpackage::{
    BlobFile, ErrorKind, PackageError, Result, check_weight_records, open_weight_files,
};
use coreml_proto::{Model, model};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Function attribute that a compiler adds from the description.
const FLEXIBLE_SHAPES: &str = "FlexibleShapeInformation";

/// An opened `.mlmodelc` of the ML Program type.
#[derive(Debug)]
pub struct CompiledModel {
    path: PathBuf,
    data: CoremlData,
    dialect: Dialect,
    build_info: BTreeMap<String, String>,
    model: Model,
    metadata: Option<Value>,
    analytics: Option<Analytics>,
    weight_files: BTreeMap<String, BlobFile>,
}

impl CompiledModel {
    /// Whether a path looks like a compiled model: a folder with one of its two main files.
    pub fn is_at(path: &Path) -> bool {
        path.join(files::DESCRIPTION).is_file() || path.join(files::PROGRAM).is_file()
    }

    /// Opens a compiled model: reads description and program, and opens the weight files that the
    /// program refers to. `metadata.json` and the analytics file may be missing. Weight records are
    /// checked when they are used; [`Self::check_weights`] checks all at once.
    ///
    /// # Errors
    /// [`ErrorKind::Compiled`] for damaged files and other model types, and those of the weight
    /// files.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !Self::is_at(path) {
            std::fs::metadata(path)
                .map_err(|error| PackageError::reading(path, "cannot open", &error))?;
            return Err(PackageError::new(
                ErrorKind::Compiled,
                path,
                "not a compiled model: coremldata.bin is missing",
            )
            .with_hint("give the path of a folder whose name ends in .mlmodelc"));
        }
        let damaged = |name: &str, reason: String| {
            PackageError::new(ErrorKind::Compiled, path.join(name), reason)
                .with_hint("compile the package again, or copy the whole folder again")
        };
        let data = CoremlData::from_bytes(&read(path, files::DESCRIPTION)?)
            .map_err(|reason| damaged(files::DESCRIPTION, reason))?;
        let source = String::from_utf8(read(path, files::PROGRAM)?)
            .map_err(|error| damaged(files::PROGRAM, format!("not valid UTF-8: {error}")))?;
        let document =
            text::parse(&source).map_err(|error| damaged(files::PROGRAM, error.to_string()))?;
        drop(source);
        let metadata = match optional(path, files::METADATA)? {
            Some(bytes) => Some(
                serde_json::from_slice(&bytes)
                    .map_err(|error| damaged(files::METADATA, format!("no JSON: {error}")))?,
            ),
            None => None,
        };
        let analytics = match optional(path, files::ANALYTICS)? {
            Some(bytes) => Some(
                Analytics::from_bytes(&bytes)
                    .map_err(|reason| damaged(files::ANALYTICS, reason))?,
            ),
            None => None,
        };
        let build_info = document.build_info();
        let mut program = document.program;
        for function in program.functions.values_mut() {
            function.attributes.remove(FLEXIBLE_SHAPES);
        }
        let model = Model {
            specification_version: data.specification_version,
            description: Some(data.description.clone()),
            is_updatable: false,
            r#type: Some(model::Type::MlProgram(program)),
        };
        let weight_files = open_weight_files(&model, &path.join(files::PROGRAM))?;
        Ok(Self {
            path: path.to_owned(),
            data,
            dialect: document.dialect,
            build_info,
            model,
            metadata,
            analytics,
            weight_files,
        })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `coremldata.bin` says.
    pub fn data(&self) -> &CoremlData {
        &self.data
    }

    /// How the program's text is spelled.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What the program's text says of the tools that made it.
    pub fn build_info(&self) -> &BTreeMap<String, String> {
        &self.build_info
    }

    /// The model: description and program, without the attributes of functions that a compiler adds.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Takes the model out; the weight files close.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// The content of `metadata.json`, where there is one.
    pub fn metadata(&self) -> Option<&Value> {
        self.metadata.as_ref()
    }

    /// What the analytics file says, where there is one.
    pub fn analytics(&self) -> Option<&Analytics> {
        self.analytics.as_ref()
    }

    /// The weight files by the name under which the program refers to them, such as
    /// `@model_path/weights/weight.bin`.
    pub fn weight_files(&self) -> &BTreeMap<String, BlobFile> {
        &self.weight_files
    }

    /// Checks that every weight record that the program refers to is there, with the element type
    /// and the size that the program declares. Only the records' metadata is read.
    ///
    /// # Errors
    /// The first record that is not so.
    pub fn check_weights(&self) -> Result<()> {
        let program = self.path.join(files::PROGRAM);
        check_weight_records(&self.model, &program, &self.weight_files)
    }
}

fn optional(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    match folder.join(name).exists() {
        true => read(folder, name).map(Some),
        false => Ok(None),
    }
}

/// Reads a file of a compiled model.
pub(crate) fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    // The program's text may hold large values; the other files describe it.
    let limit = if name == files::PROGRAM { Limit::MIL_TEXT } else { Limit::METADATA };
    let bytes = anemll_files::read(&path, limit).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => {
            PackageError::new(ErrorKind::Compiled, &path, error.to_string())
        }
        _ => PackageError::reading(&path, "cannot read", &error),
    })?;
    if anemll_files::is_lfs_pointer(&bytes) {
        return Err(PackageError::new(
            ErrorKind::Compiled,
            path,
            "this is a Git LFS pointer, not the file",
        )
        .with_hint("fetch the file itself with `git lfs pull`"));
    }
    Ok(bytes)
}
