//! Paths and sizes that come out of files, checked before they are used.

use crate::error::{ErrorKind, PackageError, Result};
use anemll_files::Limit;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

/// `Manifest.json`; real ones have 617 bytes.
pub(crate) const MANIFEST: Limit = Limit::new("a Manifest.json", 4_000_000);

/// Reads a whole regular file; one that is larger than its limit is an error of kind `kind`.
pub(crate) fn read_limited(path: &Path, limit: Limit, kind: ErrorKind) -> Result<Vec<u8>> {
    anemll_files::read(path, limit).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => PackageError::new(kind, path, error.to_string()),
        _ => unopened(path, &error),
    })
}

/// Opens a file for reading; refuses folders, devices and pipes, which would block or never end.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    anemll_files::open(path).map_err(|error| unopened(path, &error))
}

fn unopened(path: &Path, error: &io::Error) -> PackageError {
    match error.kind() {
        io::ErrorKind::InvalidInput => {
            PackageError::new(ErrorKind::NotAPackage, path, error.to_string())
        }
        _ => PackageError::reading(path, "cannot open", error),
    }
}

/// Why a path inside a package was refused.
pub(crate) struct PathProblem {
    kind: ErrorKind,
    inner: String,
    reason: &'static str,
}

impl PathProblem {
    /// Makes the error, which is about the file that holds the path.
    pub(crate) fn named_by(self, file: &Path) -> PackageError {
        let text = format!("names {:?}, which {}", self.inner, self.reason);
        let error = PackageError::new(self.kind, file, text);
        match self.kind {
            ErrorKind::PathEscape => error.with_hint(
                "if the package holds symbolic links, make a copy that follows them (cp -RL)",
            ),
            _ => error.with_hint("copy the whole package again"),
        }
    }
}

/// Joins `inner`, a path with forward slashes from a file, to the folder `root`.
///
/// The path may hold names only (no `..`, no root, no drive, no backslash), must exist, and must
/// still lie inside `root` after all symbolic links are followed. The result is canonical.
pub(crate) fn resolve_inside(
    root: &Path,
    inner: &str,
) -> std::result::Result<PathBuf, PathProblem> {
    let problem = |kind: ErrorKind, reason: &'static str| PathProblem {
        kind,
        inner: inner.to_owned(),
        reason,
    };
    let names_only = !inner.is_empty()
        && !inner.contains(['\\', '\0'])
        && inner.split('/').all(|part| {
            let mut components = Path::new(part).components();
            matches!(components.next(), Some(Component::Normal(name)) if name == part)
                && components.next().is_none()
        });
    if !names_only {
        return Err(problem(ErrorKind::PathEscape, "is not a plain path inside the package"));
    }
    let missing = |_| problem(ErrorKind::NotFound, "does not exist in the package");
    let root = root.canonicalize().map_err(missing)?;
    let path = root.join(inner).canonicalize().map_err(missing)?;
    if !path.starts_with(&root) {
        return Err(problem(ErrorKind::PathEscape, "leads out of the package"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_inside() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b"), "x").unwrap();
        let kind = |inner: &str| resolve_inside(folder.path(), inner).map_err(|p| p.kind);
        assert!(kind("a/b").is_ok());
        for inner in ["", "/", "/etc/passwd", "..", "a/../a/b", "a//b", "a/", "./a", "a\\b", "a\0"]
        {
            assert_eq!(kind(inner), Err(ErrorKind::PathEscape), "{inner:?}");
        }
        assert_eq!(kind("a/c"), Err(ErrorKind::NotFound));
        #[cfg(unix)]
        {
            let outside = tempfile::tempdir().unwrap();
            std::fs::write(outside.path().join("b"), "x").unwrap();
            std::os::unix::fs::symlink(outside.path(), folder.path().join("out")).unwrap();
            assert_eq!(kind("out/b"), Err(ErrorKind::PathEscape));
            std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
            assert_eq!(kind("loop"), Err(ErrorKind::NotFound));
        }
    }

    #[test]
    fn sizes_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, [0; 10]).unwrap();
        let read = |path: &Path, bytes: u64| {
            read_limited(path, Limit::new("a model", bytes), ErrorKind::Model)
        };
        assert_eq!(read(&path, 10).unwrap().len(), 10);
        assert_eq!(read(&path, 9).unwrap_err().kind(), ErrorKind::Model);
        let error = read(folder.path(), 9).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAPackage);
    }
}
