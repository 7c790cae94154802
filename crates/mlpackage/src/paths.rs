//! Paths and sizes that come out of files, checked before they are used.

use crate::error::{ErrorKind, PackageError, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Largest `Manifest.json` that we read; real ones have 617 bytes.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Largest model file: a protobuf message cannot be larger.
pub(crate) const MAX_MODEL_BYTES: u64 = (2 << 30) - 1;

/// Reads a whole regular file of at most `limit` bytes; a larger one is an error of kind `kind`.
pub(crate) fn read_limited(path: &Path, limit: u64, kind: ErrorKind) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more, even if the file grows meanwhile.
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| PackageError::io(path, "cannot read", &error))?;
    if bytes.len() as u64 > limit {
        return Err(PackageError::new(kind, path, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Opens a file for reading; refuses folders, devices and pipes, which would block or never end.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let metadata =
        std::fs::metadata(path).map_err(|error| PackageError::io(path, "cannot open", &error))?;
    if !metadata.is_file() {
        return Err(PackageError::new(ErrorKind::NotAPackage, path, "not a regular file"));
    }
    File::open(path).map_err(|error| PackageError::io(path, "cannot open", &error))
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
        assert_eq!(read_limited(&path, 10, ErrorKind::Model).unwrap().len(), 10);
        assert_eq!(read_limited(&path, 9, ErrorKind::Model).unwrap_err().kind(), ErrorKind::Model);
        let error = read_limited(folder.path(), 9, ErrorKind::Model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAPackage);
    }
}
