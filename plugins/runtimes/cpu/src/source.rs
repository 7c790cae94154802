//! What a session is opened from: a package, or a model that was compiled from one.

use anemll_mlmodelc::{CompileError, CompiledModel};
use anemll_mlpackage::{BlobFile, Package, PackageError};
use anemll_plugin_api::{Error, Result, codes};
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
            let model = CompiledModel::open(path).map_err(|error| compiled_error(&error))?;
            return Ok(Self::Compiled(Box::new(model)));
        }
        let package = Package::open(path).map_err(|error| package_error(&error))?;
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

    /// The weight file that the program names so.
    ///
    /// # Errors
    /// The program names no such file.
    pub(crate) fn weight_file(&self, name: &str) -> Result<&BlobFile> {
        let files = match self {
            Self::Package(package) => package.weight_files(),
            Self::Compiled(model) => model.weight_files(),
        };
        files.get(name).ok_or_else(|| {
            let reason = format!("the program does not refer to a weight file {name:?}");
            Error::new(codes::PACKAGE_INVALID, reason).with_at(self.path().display().to_string())
        })
    }
}

fn package_code(kind: anemll_mlpackage::ErrorKind) -> &'static str {
    use anemll_mlpackage::ErrorKind;
    match kind {
        ErrorKind::NotFound | ErrorKind::Permission | ErrorKind::Io => codes::PACKAGE_UNREADABLE,
        ErrorKind::Weights => codes::BLOB_INVALID,
        _ => codes::PACKAGE_INVALID,
    }
}

/// An error about a package or a weight file.
pub(crate) fn package_error(error: &PackageError) -> Error {
    let made = Error::new(package_code(error.kind()), error.to_string());
    match error.hint() {
        Some(hint) => made.with_hint(hint),
        None => made,
    }
}

fn compiled_error(error: &CompileError) -> Error {
    use anemll_mlmodelc::ErrorKind;
    let code = match error.kind() {
        ErrorKind::Package(kind) => package_code(kind),
        _ => codes::COMPILED_INVALID,
    };
    let made = Error::new(code, error.to_string());
    match error.hint() {
        Some(hint) => made.with_hint(hint),
        None => made,
    }
}
