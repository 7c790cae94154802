//! Writing a package so that it is there completely or not at all.

use crate::WEIGHT_FILE_NAME;
use crate::blob::BlobFile;
use crate::error::{ErrorKind, PackageError, Result};
use crate::manifest::Manifest;
use crate::place::{Placement, place_file};
use crate::references::references;
use crate::staging::{Staging, sync_folder};
use anemll_mil::{Checked, Resolved};
use coreml_proto::Model;
use std::path::{Path, PathBuf};

const MODEL_FOLDER: &str = "Data/com.apple.CoreML";

/// Where the weights of a package come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsSource<'a> {
    /// The program refers to no weight file.
    None,
    /// A second name for this file, which takes no space; a copy where the file system cannot.
    HardLink(&'a Path),
    /// A copy of this file.
    Copy(&'a Path),
    /// This file itself, which leaves its place; it must lie on the file system of the destination.
    Move(&'a Path),
}

/// How the weights came into a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsPlacement {
    /// The package has none.
    None,
    /// By hard link.
    HardLinked,
    /// By renaming the file.
    Moved,
    /// By copy; the reason is why a hard link was not possible, if one was wanted.
    Copied {
        /// What the operating system said.
        reason: Option<String>,
    },
}

/// How to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Replace what stands under the destination's name. The old one stays until the new one is
    /// complete.
    pub replace: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub path: PathBuf,
    /// How the weights came there.
    pub weights: WeightsPlacement,
    /// Size of the model file in bytes.
    pub model_bytes: u64,
    /// Size of the weight file in bytes; 0 without one.
    pub weight_bytes: u64,
    /// The replaced package, if it could not be removed.
    pub leftover: Option<PathBuf>,
}

/// Writes a package under the name `destination`, which ends in `.mlpackage` and whose folder
/// exists. The package is made under a hidden name beside it, brought to disk, and renamed: under
/// its final name it is complete or not there. On an error nothing is left behind.
///
/// The model's references must name [`WEIGHT_FILE_NAME`] and fit the records of the given weight
/// file. Equal models and weights give equal bytes. After a hard link both packages share one
/// file: never change it in place.
pub fn write_package(
    destination: impl AsRef<Path>,
    model: &Checked<Resolved>,
    weights: WeightsSource<'_>,
    options: &WriteOptions,
) -> Result<Written> {
    write_model(destination.as_ref(), model.model(), weights, options)
}

fn write_model(
    destination: &Path,
    model: &Model,
    weights: WeightsSource<'_>,
    options: &WriteOptions,
) -> Result<Written> {
    if destination.extension().is_none_or(|extension| extension != "mlpackage") {
        return Err(PackageError::new(
            ErrorKind::Usage,
            destination,
            "the name of a package ends in .mlpackage",
        ));
    }
    let weight_bytes = check_weights(destination, model, weights)?;
    let bytes = coreml_proto::write(model);
    if bytes.len() as u64 > anemll_files::Limit::MODEL.bytes {
        return Err(PackageError::new(
            ErrorKind::Model,
            destination,
            format!("the model takes {} bytes, more than are read again", bytes.len()),
        ));
    }

    let staging = Staging::create(destination, options.replace)?;
    let folder = staging.path().join(MODEL_FOLDER);
    create_folder(&folder)?;
    staging.write_file(&format!("{MODEL_FOLDER}/model.mlmodel"), &bytes)?;
    let placement = match weights {
        WeightsSource::None => WeightsPlacement::None,
        WeightsSource::HardLink(source)
        | WeightsSource::Copy(source)
        | WeightsSource::Move(source) => {
            let weights_folder = folder.join("weights");
            create_folder(&weights_folder)?;
            let target = weights_folder.join("weight.bin");
            let placement = if matches!(weights, WeightsSource::Move(_)) {
                std::fs::rename(source, &target).map_err(|error| {
                    PackageError::writing(&target, "cannot move the weights", &error)
                })?;
                WeightsPlacement::Moved
            } else {
                let link = matches!(weights, WeightsSource::HardLink(_));
                match place_file(source, &target, link)? {
                    Placement::HardLinked => WeightsPlacement::HardLinked,
                    Placement::Copied { reason } => WeightsPlacement::Copied { reason },
                }
            };
            sync_folder(&weights_folder)?;
            placement
        }
    };
    let mut seed = weight_bytes.to_le_bytes().to_vec();
    seed.extend_from_slice(&bytes);
    let manifest = Manifest::standard(placement != WeightsPlacement::None, &seed);
    staging.write_file("Manifest.json", manifest.to_text().as_bytes())?;
    sync_folder(&folder)?;
    let leftover = staging.publish(options.replace)?;
    Ok(Written {
        path: destination.to_owned(),
        weights: placement,
        model_bytes: bytes.len() as u64,
        weight_bytes,
        leftover,
    })
}

/// Makes sure that the weight file has every record that the model refers to, of the right type
/// and size. Returns the file's size.
fn check_weights(destination: &Path, model: &Model, weights: WeightsSource<'_>) -> Result<u64> {
    let wrong = |reason: String| PackageError::new(ErrorKind::Reference, destination, reason);
    let references = references(model);
    let source = match weights {
        WeightsSource::None => {
            return match references.first() {
                Some(reference) => Err(wrong(format!(
                    "the program refers to {:?}, but no weight file was given",
                    reference.file_name
                ))),
                None => Ok(0),
            };
        }
        WeightsSource::HardLink(source)
        | WeightsSource::Copy(source)
        | WeightsSource::Move(source) => source,
    };
    let file = BlobFile::open(source)?;
    for reference in references {
        if reference.file_name != WEIGHT_FILE_NAME {
            return Err(wrong(format!(
                "the program refers to {:?}, which is not in the package",
                reference.file_name
            )));
        }
        reference.check(&file, destination)?;
    }
    Ok(file.size_in_bytes())
}

fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .map_err(|error| PackageError::writing(path, "cannot create the folder", &error))
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
