//! Folders with all that is in them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::Result;

/// The files below a folder by path, with forward slashes, sorted, but for those that cargo built; none
/// where there is no folder.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(inside) = folders.pop() {
        let path = folder.join(&inside);
        let failed = |error| format!("cannot read {}: {error}", path.display());
        let listing = match fs::read_dir(&path) {
            Ok(listing) => listing,
            Err(error) if error.kind() == ErrorKind::NotFound && inside.is_empty() => break,
            Err(error) => return Err(failed(error)),
        };
        for entry in listing {
            let entry = entry.map_err(failed)?;
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| format!("{}: a name is not UTF-8", path.display()))?;
            let path = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
            match entry.path().is_dir() {
                true if name == "target" => {}
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Copies a folder with all of [`files_below`].
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    for name in files_below(from)? {
        let target = to.join(&name);
        let folder = target.parent().unwrap_or(to);
        fs::create_dir_all(folder)
            .and_then(|()| fs::copy(from.join(&name), &target))
            .map_err(|error| format!("cannot copy {} to {}: {error}", name, target.display()))?;
    }
    Ok(())
}

/// A file's bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_copied_without_what_was_built() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        assert!(files_below(&from).unwrap().is_empty());
        for name in ["b", "a/c", "target/d", "a/target/e"] {
            let path = from.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        copy(&from, &to).unwrap();
        assert_eq!(files_below(&to).unwrap(), ["a/c", "b"]);
        assert!(!to.join("target").exists());
        assert_eq!(read(&to.join("a/c")).unwrap(), b"a/c");
        assert!(files_below(&from.join("b")).is_err());
    }
}
