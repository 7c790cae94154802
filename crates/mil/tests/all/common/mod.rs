//! Reading the shared reference models, a simple parser of weight files, and a model to spoil.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stdout)]

pub mod base;
pub mod programs;

use anemll_mil::{BlobCatalog, BlobInfo, DataType, Error, Result};
use std::path::{Path, PathBuf};

/// The folder with shared reference files, beside the workspace.
pub fn shared() -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = manifest.ancestors().find(|path| path.join("Cargo.lock").exists())?;
    let shared = workspace.join("../shared");
    shared.is_dir().then_some(shared)
}

/// Every model file below a folder: `.mlmodel` files, those of packages included.
pub fn models(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "mlmodel") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// All reference models, with the folder that `@model_path` stands for; empty, with a word about
/// it, where the shared folder is absent.
pub fn reference_models() -> Vec<PathBuf> {
    let Some(shared) = shared() else {
        println!("skipped: no shared folder beside the workspace");
        return Vec::new();
    };
    let mut found = models(&shared.join("reference/anemll-packages"));
    found.extend(models(&shared.join("mlmodelc-pairs")));
    assert!(found.len() > 20, "only {} models in {}", found.len(), shared.display());
    found
}

/// Reads records of weight files below the folder of a model.
pub struct Folder(pub PathBuf);

impl BlobCatalog for Folder {
    fn blob(&self, file_name: &str, offset: u64) -> Result<BlobInfo> {
        let name = file_name.strip_prefix("@model_path/").unwrap_or(file_name);
        let bytes = std::fs::read(self.0.join(name))
            .map_err(|error| Error::new(format!("{file_name}: {error}")))?;
        let at = |place: usize| {
            let start = offset as usize + place;
            bytes.get(start..start + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
        };
        let (Some(head), Some(size_in_bytes)) = (at(0), at(8)) else {
            return Err(Error::new(format!("no record at offset {offset}")));
        };
        assert_eq!(head as u32, 0xdead_beef, "offset {offset} of {name}");
        let kinds = [
            DataType::Float16,
            DataType::Float32,
            DataType::UInt8,
            DataType::Int8,
            DataType::BFloat16,
            DataType::Int16,
            DataType::UInt16,
            DataType::Int4,
            DataType::UInt1,
            DataType::UInt2,
            DataType::UInt4,
            DataType::UInt3,
            DataType::UInt6,
            DataType::Int32,
            DataType::UInt32,
        ];
        let data_type = kinds[(head >> 32) as usize - 1];
        Ok(BlobInfo { data_type, size_in_bytes })
    }
}
