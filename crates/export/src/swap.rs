//! The last act: everything gets its final name at once, or nothing does.

use crate::error::{ErrorKind, ExportError, Result};
use crate::release::{self, Release};
use crate::tree;
use anemll_files::{Staging, StagingError};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory that an export goes to.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    parent: PathBuf,
    /// What an earlier export left there, if one is to be replaced.
    earlier: Option<Release>,
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
        fs::create_dir_all(&self.parent).map_err(|e| ExportError::write(&self.parent, &e))?;
        Staging::create(&self.path, true).map_err(|error| self.failed(error))
    }

    /// Gives the staging folder the final name, with the files that others have put beside the
    /// export which it replaces; the result is where that one is, if it could not be removed.
    pub(crate) fn publish(self, staging: Staging) -> Result<Option<PathBuf>> {
        let failed = |error: std::io::Error| ExportError::write(&self.path, &error);
        if let Some(earlier) = &self.earlier {
            for path in self.foreign(earlier, &staging)? {
                keep(&self.path.join(&path), &staging.path().join(&path)).map_err(failed)?;
            }
        } else if self.path.is_dir() {
            // It was empty; where it is no longer, this fails and nothing is lost.
            fs::remove_dir(&self.path).map_err(failed)?;
        }
        staging.publish(self.earlier.is_some()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: StagingError) -> ExportError {
        match error {
            StagingError::System { path, source, .. } => ExportError::write(&path, &source),
            other => ExportError::new(ErrorKind::Exists, &self.path, other.to_string())
                .with_hint("choose another --to"),
        }
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

/// Gives a file a second name below another folder, or makes a copy where the file system knows one
/// name only.
fn keep(file: &Path, target: &Path) -> std::io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::hard_link(file, target).or_else(|_| fs::copy(file, target).map(drop))
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
