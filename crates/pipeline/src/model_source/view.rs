//! Views of models that are no directories: folders in the cache of this program, named by what is in
//! them, so that the same file gives the same folder.

use crate::cache;
use anemll_codes as codes;
use anemll_files::{Staging, StagingError};
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::{Error, Result};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The folder of views in the cache.
const FOLDER: &str = "models";
/// Views that are kept; the oldest go first.
const MOST: usize = 32;

/// Whether a path is a GGUF file, by its name or by how it begins.
pub(super) fn is_gguf(path: &Path) -> bool {
    if !path.is_file() {
        return false;
    }
    let named = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    let mut start = [0; 4];
    named
        || anemll_files::open(path)
            .is_ok_and(|mut file| file.read_exact(&mut start).is_ok() && start == *b"GGUF")
}

/// The view of a GGUF file.
///
/// # Errors
/// A file that is damaged or holds what cannot be honoured, and a cache that cannot be written.
pub(super) fn of_gguf(file: &Path) -> Result<PathBuf> {
    let files = anemll_huggingface::of_gguf(file)?;
    let name = file.file_stem().map_or_else(|| "model".into(), |stem| stem.to_os_string());
    publish(&files, Path::new(&name))
}

/// The view of a model directory with an adapter. The weights are looked at: an adapter of another model
/// is an error here.
///
/// # Errors
/// An adapter that cannot be merged or is of another model, and a cache that cannot be written.
pub(super) fn of_adapted(model: &Path, adapter: &Path) -> Result<PathBuf> {
    let files = anemll_huggingface::of_adapted(model, adapter)?;
    let adapter = adapter.canonicalize().unwrap_or_else(|_| adapter.to_owned());
    let mut name = OsString::from(super::model_name(model));
    if let Some(adapter) = adapter.file_name() {
        name.push("+");
        name.push(adapter);
    }
    let view = publish(&files, Path::new(&name))?;
    ModelDirectory::open(&view)?;
    Ok(view)
}

/// Puts a view into the cache, if it is not there yet.
fn publish(files: &[(&str, Vec<u8>)], name: &Path) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for (name, bytes) in files {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    let key = hex::encode(&hash.finalize()[..12]);
    let cache = cache::folder().ok_or_else(|| {
        Error::new(codes::OUTPUT_UNWRITABLE, "there is no folder for what is made of the model")
            .with_hint("name one that can be written: ANEMLL_CACHE=DIR")
    })?;
    let views = cache.join(FOLDER);
    let view = views.join(key);
    let path = view.join(name);
    if !path.is_dir() {
        let failed = |error: std::io::Error| {
            let what = "cannot write what is made of the model";
            anemll_store::io_error(codes::OUTPUT_UNWRITABLE, what, &path, &error)
        };
        std::fs::create_dir_all(&view).map_err(failed)?;
        match write(files, &path) {
            // Another process was faster.
            Ok(()) | Err(StagingError::Exists) => {}
            Err(StagingError::System { source, .. }) => return Err(failed(source)),
            Err(error) => return Err(failed(std::io::Error::other(error.to_string()))),
        }
        trim(&views, &view);
    }
    Ok(path)
}

fn write(files: &[(&str, Vec<u8>)], path: &Path) -> std::result::Result<(), StagingError> {
    let staging = Staging::create(path, false)?;
    for (name, bytes) in files {
        let file = staging.path().join(name);
        std::fs::write(&file, bytes).map_err(|source| StagingError::System {
            path: file,
            action: "cannot write",
            source,
        })?;
    }
    staging.publish(false).map(drop)
}

/// Removes the oldest views until few are left. What cannot be removed is left.
fn trim(views: &Path, newest: &Path) {
    let entries = std::fs::read_dir(views).into_iter().flatten().flatten();
    let mut all: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    all.sort();
    let surplus = all.len().saturating_sub(MOST);
    for (_, path) in all.into_iter().take(surplus).filter(|(_, path)| path != newest) {
        let _ = std::fs::remove_dir_all(path);
    }
}
