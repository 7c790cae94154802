//! A form of an export as a folder whose models can be opened.

use crate::Progress;
use crate::error::{ErrorKind, ExportError, Result};
use crate::release::{Release, is_inside};
use crate::sums::sum_of;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use zip::ZipArchive;

/// The folder of an export in which `meta.yaml` and models lie: `ios/` or the export itself where
/// that is one form. Zips are unpacked below `scratch`; an export of folders is used as it is. The
/// export is one that [`crate::verify()`] found whole.
///
/// # Errors
/// What cannot be read or written.
pub fn unpack(
    export: &Path,
    release: &Release,
    scratch: &Path,
    progress: Progress<'_>,
) -> Result<PathBuf> {
    let meta = |folder: &str| {
        let path =
            if folder.is_empty() { "meta.yaml".to_owned() } else { format!("{folder}/meta.yaml") };
        release.files.iter().any(|file| file.path == path)
    };
    let forms = ["", "ios", "standard"];
    let Some(form) = forms.into_iter().find(|form| meta(form)) else {
        return Err(ExportError::new(ErrorKind::Release, export, "it lists no meta.yaml"));
    };
    let folder = if form.is_empty() { export.to_owned() } else { export.join(form) };
    let prefix = if form.is_empty() { String::new() } else { format!("{form}/") };
    let files: Vec<_> =
        release.files.iter().filter(|file| file.path.starts_with(&prefix)).collect();
    if !files.iter().any(|file| file.contents.is_some()) {
        return Ok(folder);
    }
    for file in files {
        let path = export.join(&file.path);
        if file.contents.is_some() {
            unzip(&path, scratch, progress)?;
            continue;
        }
        let name = &file.path[prefix.len()..];
        if !name.contains('/') {
            let target = scratch.join(name);
            fs::copy(&path, &target).map_err(|error| ExportError::write(&target, &error))?;
        }
    }
    Ok(scratch.to_owned())
}

fn unzip(path: &Path, folder: &Path, progress: Progress<'_>) -> Result<()> {
    let damaged = |error: zip::result::ZipError| ExportError::read(path, &error.into());
    let file =
        anemll_files::open_no_follow(path).map_err(|error| ExportError::read(path, &error))?;
    let mut archive =
        ZipArchive::new(std::io::BufReader::with_capacity(1 << 20, file)).map_err(damaged)?;
    for index in 0..archive.len() {
        let mut inner = archive.by_index(index).map_err(damaged)?;
        let name = String::from_utf8_lossy(inner.name_raw()).into_owned();
        if inner.is_dir() {
            continue;
        }
        if !is_inside(&name) || inner.is_symlink() {
            return Err(ExportError::new(
                ErrorKind::Release,
                path,
                format!("the name {name:?} leaves the folder"),
            ));
        }
        let target = folder.join(&name);
        let failed = |error: std::io::Error| ExportError::write(&target, &error);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut output = File::create_new(&target).map_err(failed)?;
        let most = inner.size();
        let sum = sum_of(&mut inner, most, progress, &mut |piece| output.write_all(piece))
            .map_err(|stop| stop.at(&target))?;
        if sum.is_none() {
            return Err(ExportError::new(
                ErrorKind::Release,
                path,
                format!("{name:?} is larger than the zip says"),
            ));
        }
    }
    Ok(())
}
