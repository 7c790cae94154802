//! What a session is opened from: a package, or a model that was compiled from one.

use anemll_mlmodelc::CompiledModel;
use anemll_mlpackage::{BlobFile, Package};
use anemll_plugin_api::{Error, Result, codes};
use anemll_weights::WeightFiles;
use coreml_proto::Model;
use std::path::Path;

/// An open model with its weight files.
#[derive(Debug)]
pub(crate) enum Source {
    /// `.mlpackage`, or a bare `.mlmodel`.
    Package(Box<Package>),
    /// `.mlmodelc`: the program is read from its text.
    Compiled(Box<CompiledModel>),
}

impl Source {
    /// Opens a folder of either form.
    ///
    /// # Errors
    /// What is missing, damaged, or not an ML Program.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if CompiledModel::is_at(path) {
            let model = CompiledModel::open(path)?;
            return Ok(Self::Compiled(Box::new(model)));
        }
        let package = Package::open(path)?;
        Ok(Self::Package(Box::new(package)))
    }

    /// The path that was opened.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Package(package) => package.path(),
            Self::Compiled(model) => model.path(),
        }
    }

    /// Description and program.
    pub(crate) fn model(&self) -> &Model {
        match self {
            Self::Package(package) => package.model(),
            Self::Compiled(model) => model.model(),
        }
    }

    /// The weight files by the names that the program gives them.
    pub(crate) fn weight_files(&self) -> &WeightFiles {
        match self {
            Self::Package(package) => package.weight_files(),
            Self::Compiled(model) => model.weight_files(),
        }
    }

    /// The weight file that the program names so.
    ///
    /// # Errors
    /// The program names no such file.
    pub(crate) fn weight_file(&self, name: &str) -> Result<&BlobFile> {
        self.weight_files().get(name).ok_or_else(|| {
            let reason = format!("the program does not refer to a weight file {name:?}");
            Error::new(codes::PACKAGE_INVALID, reason).with_at(self.path().display().to_string())
        })
    }
}
