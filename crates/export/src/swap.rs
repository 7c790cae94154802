//! The last act: everything gets its final name at once, or nothing does.

use crate::error::{ErrorKind, ExportError, Result};
use crate::release::{self, Release};
use crate::tree;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The directory that an export goes to.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    parent: PathBuf,
    /// What an earlier export left there, if one is to be replaced.
    earlier: Option<Release>,
}

/// Where an export is made before it gets its name.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: PathBuf,
    _guard: TempDir,
}

impl Staging {
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Target {
    /// Looks whether an export can go there. Nothing is written.
    pub(crate) fn check(target: &Path, conversion: &Path, force: bool) -> Result<Self> {
        let refuse = |reason: &str| ExportError::new(ErrorKind::Target, target, reason);
        let absolute = std::path::absolute(target).map_err(|e| ExportError::write(target, &e))?;
        let metadata = fs::symlink_metadata(&absolute).ok();
        let place = real(&absolute);
        let source = conversion.canonicalize().map_err(|e| ExportError::read(conversion, &e))?;
        if place.starts_with(&source) {
            return Err(refuse("the export would lie inside the conversion that it is made from")
                .with_hint("choose a directory beside it with --to"));
        }
        if source.starts_with(&place) {
            return Err(refuse("the conversion lies inside the directory that the export goes to")
                .with_hint("choose a directory beside it with --to"));
        }
        let Some(parent) = place.parent().map(Path::to_owned) else {
            return Err(refuse("an export cannot be made here"));
        };
        let mut checked = Self { path: place, parent, earlier: None };
        let Some(metadata) = metadata else { return Ok(checked) };
        if metadata.is_symlink() {
            return Err(refuse("this is a symbolic link").with_hint("give the directory itself"));
        }
        if !metadata.is_dir() {
            return Err(ExportError::new(ErrorKind::Exists, target, "this is a file")
                .with_hint("choose another --to"));
        }
        let there = tree::list(&checked.path, &|_| false)?;
        let empty = fs::read_dir(&checked.path)
            .map_err(|error| ExportError::read(&checked.path, &error))?
            .next()
            .is_none();
        if empty {
            return Ok(checked);
        }
        if !there.iter().any(|entry| entry.path == release::NAME) {
            return Err(ExportError::new(
                ErrorKind::Exists,
                target,
                "the directory holds files that are not of an export",
            )
            .with_hint("choose another --to; nothing there is replaced"));
        }
        if !force {
            return Err(ExportError::new(
                ErrorKind::Exists,
                target,
                "the directory holds an export already",
            )
            .with_hint("replace it with --force, or choose another --to"));
        }
        checked.earlier = Some(Release::read(&checked.path)?);
        Ok(checked)
    }

    /// A folder on the same file system, which goes away unless it is published.
    pub(crate) fn staging(&self) -> Result<Staging> {
        let failed = |error: std::io::Error| ExportError::write(&self.parent, &error);
        fs::create_dir_all(&self.parent).map_err(failed)?;
        let guard = tempfile::Builder::new()
            .prefix(".anemll-export-")
            .tempdir_in(&self.parent)
            .map_err(failed)?;
        // A temporary folder is for its owner alone; this one is as all others.
        let folder = guard.path().join("export");
        fs::create_dir(&folder).map_err(failed)?;
        Ok(Staging { folder, _guard: guard })
    }

    /// Gives the staging folder the final name.
    pub(crate) fn publish(self, staging: Staging) -> Result<()> {
        let failed = |error: std::io::Error| ExportError::write(&self.path, &error);
        let Some(earlier) = &self.earlier else {
            if self.path.is_dir() {
                // It was empty; where it is no longer, this fails and nothing is lost.
                fs::remove_dir(&self.path).map_err(failed)?;
            }
            return fs::rename(&staging.folder, &self.path).map_err(failed);
        };
        let foreign = self.foreign(earlier, &staging)?;
        let backup = staging.folder.with_file_name("earlier");
        fs::rename(&self.path, &backup).map_err(failed)?;
        if let Err(error) = fs::rename(&staging.folder, &self.path) {
            return Err(undone(fs::rename(&backup, &self.path), &backup, failed(error), staging));
        }
        let mut moved: Vec<&String> = Vec::new();
        for path in &foreign {
            match move_file(&backup, &self.path, path) {
                Ok(()) => moved.push(path),
                Err(error) => {
                    let back = moved
                        .iter()
                        .try_for_each(|path| move_file(&self.path, &backup, path))
                        .and_then(|()| fs::rename(&self.path, &staging.folder))
                        .and_then(|()| fs::rename(&backup, &self.path));
                    return Err(undone(back, &backup, failed(error), staging));
                }
            }
        }
        Ok(())
    }

    /// The files in the directory that no earlier export made. They stay.
    fn foreign(&self, earlier: &Release, staging: &Staging) -> Result<Vec<String>> {
        let listed: BTreeSet<&str> =
            earlier.files.iter().map(|file| file.path.as_str()).chain([release::NAME]).collect();
        let mut foreign = Vec::new();
        for entry in tree::list(&self.path, &|_| false)? {
            if listed.contains(entry.path.as_str()) {
                continue;
            }
            if clashes(staging.path(), &entry.path) {
                return Err(ExportError::new(
                    ErrorKind::Exists,
                    &self.path.join(&entry.path),
                    "this file does not belong to the earlier export, and the new one has such a file",
                )
                .with_hint("move it away; --force replaces only what release.json lists"));
            }
            foreign.push(entry.path);
        }
        Ok(foreign)
    }
}

/// Whether a path cannot be added to a folder: it is there, or a file stands where it needs a folder.
fn clashes(folder: &Path, path: &str) -> bool {
    let whole = folder.join(path);
    fs::symlink_metadata(&whole).is_ok()
        || path
            .match_indices('/')
            .any(|(at, _)| folder.join(&path[..at]).symlink_metadata().is_ok_and(|m| !m.is_dir()))
}

fn move_file(from: &Path, to: &Path, path: &str) -> std::io::Result<()> {
    let target = to.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(from.join(path), target)
}

/// The error of a step that was taken back. Where that failed too, what was there stays beside.
fn undone(
    back: std::io::Result<()>,
    backup: &Path,
    error: ExportError,
    staging: Staging,
) -> ExportError {
    match back {
        Ok(()) => error,
        Err(source) => {
            // Dropping the guard would remove what the user had.
            let kept = staging._guard.keep();
            error.with_hint(format!(
                "taking it back failed too ({source}): the earlier export is in {}",
                kept.join(backup.file_name().unwrap_or_default()).display()
            ))
        }
    }
}

/// A path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut there = path;
    loop {
        if let Ok(found) = there.canonicalize() {
            // The last part stays as it is: a link there is refused.
            if rest.is_empty() && path.is_symlink() {
                break;
            }
            return rest.iter().rev().fold(found, |path, part| path.join(part));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_owned());
                there = parent;
            }
            _ => break,
        }
    }
    path.to_owned()
}
