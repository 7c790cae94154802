//! Opening a package: manifest, model and weight files, all checked.

use crate::blob::BlobFile;
use crate::error::{ErrorKind, PackageError, Result};
use crate::manifest::Manifest;
use crate::paths;
use crate::references::references;
use anemll_files::Limit;
use coreml_proto::Model;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What stands for the model's folder in the file name of a weight reference.
const MODEL_PATH: &str = "@model_path/";

/// An opened `.mlpackage`, or a bare `.mlmodel` with its `weights/` folder beside it.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    model_path: PathBuf,
    manifest: Option<Manifest>,
    model: Model,
    model_size: u64,
    files: BTreeMap<String, BlobFile>,
}

impl Package {
    /// Opens a package: reads the manifest and the model, and opens the weight files which the
    /// program refers to. Weight records are checked when they are used; `check_records` checks
    /// all at once.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path)
            .map_err(|error| PackageError::reading(path, "cannot open", &error))?;
        let (manifest, model_path) = if metadata.is_dir() {
            if !path.join("Manifest.json").exists() {
                return Err(not_a_package(path));
            }
            let manifest = Manifest::read(path)?;
            let model_path = manifest.model_path(path)?;
            (Some(manifest), model_path)
        } else {
            (None, path.to_owned())
        };

        let bytes = paths::read_limited(&model_path, Limit::MODEL, ErrorKind::Model)?;
        if anemll_files::is_lfs_pointer(&bytes) {
            return Err(PackageError::new(
                ErrorKind::Model,
                model_path,
                "this is a Git LFS pointer, not the model",
            )
            .with_hint("fetch the file itself with `git lfs pull`"));
        }
        let model = coreml_proto::read_model(&bytes).map_err(|error| {
            PackageError::new(ErrorKind::Model, &model_path, error.to_string())
                .with_hint("only Core ML models of the ML Program type can be read")
        })?;
        if model.r#type.is_none() {
            return Err(PackageError::new(ErrorKind::Model, &model_path, "holds no ML Program")
                .with_hint("the file is empty, truncated, or of another model type"));
        }
        let model_size = bytes.len() as u64;
        drop(bytes);

        let files = open_weight_files(&model, &model_path)?;
        Ok(Self { path: path.to_owned(), model_path, manifest, model, model_size, files })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the model file.
    pub fn model_path(&self) -> &Path {
        &self.model_path
    }

    /// Size of the model file in bytes.
    pub fn model_size(&self) -> u64 {
        self.model_size
    }

    /// The manifest; `None` for a bare model file.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Takes the model out; the weight files close.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// The weight files by the name under which the program refers to them, such as
    /// `@model_path/weights/weight.bin`.
    pub fn weight_files(&self) -> &BTreeMap<String, BlobFile> {
        &self.files
    }

    /// The weight file, where the program refers to exactly one.
    pub fn weights(&self) -> Option<&BlobFile> {
        let mut files = self.files.values();
        files.next().filter(|_| files.next().is_none())
    }

    /// The weight file of a reference's `fileName`.
    pub fn weight_file(&self, file_name: &str) -> Result<&BlobFile> {
        self.files.get(file_name).ok_or_else(|| {
            PackageError::new(
                ErrorKind::Reference,
                &self.model_path,
                format!("the program does not refer to a weight file {file_name:?}"),
            )
        })
    }

    /// Reads the metadata of every weight record that the program refers to. No weights are read.
    pub fn check_records(&self) -> Result<()> {
        for reference in references(&self.model) {
            self.weight_file(reference.file_name)?.record(reference.offset)?;
        }
        Ok(())
    }

    /// Checks that every weight record that the program refers to is there, with the element type
    /// and the size that the program declares. Only the records' metadata is read.
    ///
    /// # Errors
    /// [`ErrorKind::Weights`] for a damaged record, [`ErrorKind::Reference`] for one that is not
    /// what the program declares.
    pub fn check_weights(&self) -> Result<()> {
        check_weight_records(&self.model, &self.model_path, &self.files)
    }
}

/// Checks that every weight record that a model's program refers to is in one of the files, with
/// the element type and the size that the program declares. Only the records' metadata is read.
/// `files` are those of [`open_weight_files`], `program` is the file that error messages name.
///
/// # Errors
/// [`ErrorKind::Weights`] for a damaged record, [`ErrorKind::Reference`] for one that is not what
/// the program declares, or is in none of the files.
pub fn check_weight_records(
    model: &Model,
    program: &Path,
    files: &BTreeMap<String, BlobFile>,
) -> Result<()> {
    references(model).iter().try_for_each(|reference| match files.get(reference.file_name) {
        Some(file) => reference.check(file, program),
        None => Err(PackageError::new(
            ErrorKind::Reference,
            program,
            format!("the program refers to {:?}, which is not open", reference.file_name),
        )),
    })
}

/// Opens the weight files that the model's program refers to, by the name under which it does.
/// `@model_path` is the folder of `program`, the file that holds the program and stands in error
/// messages. The files' headers are checked; records are checked when they are used.
///
/// # Errors
/// [`ErrorKind::Reference`] for a name that is not below `@model_path`, [`ErrorKind::PathEscape`]
/// for one that leaves the folder, and those of [`BlobFile::open`].
pub fn open_weight_files(model: &Model, program: &Path) -> Result<BTreeMap<String, BlobFile>> {
    let folder = match program.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut files = BTreeMap::new();
    for reference in references(model) {
        if !files.contains_key(reference.file_name) {
            let file = open_weights(program, folder, reference.file_name)?;
            files.insert(reference.file_name.to_owned(), file);
        }
    }
    Ok(files)
}

/// Opens the weight file that `file_name` stands for, if it lies in the model's folder.
fn open_weights(model_path: &Path, folder: &Path, file_name: &str) -> Result<BlobFile> {
    let Some(inner) = file_name.strip_prefix(MODEL_PATH) else {
        return Err(PackageError::new(
            ErrorKind::Reference,
            model_path,
            format!("a weight refers to {file_name:?}, which is not below {MODEL_PATH}"),
        )
        .with_hint("the program is not complete: its weights are in no file of the package"));
    };
    let path =
        paths::resolve_inside(folder, inner).map_err(|problem| problem.named_by(model_path))?;
    BlobFile::open(path)
}

fn not_a_package(path: &Path) -> PackageError {
    let error = |reason: &str| PackageError::new(ErrorKind::NotAPackage, path, reason.to_owned());
    if path.join("coremldata.bin").exists() || path.join("model.mil").exists() {
        return error("this is a compiled model (.mlmodelc), not a package")
            .with_hint("open the .mlpackage that it was compiled from");
    }
    error("not a package: Manifest.json is missing")
        .with_hint("give the path of a folder whose name ends in .mlpackage")
}
