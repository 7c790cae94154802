//! Sizes and SHA-256 sums of files, by which a finished step is recognised.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// One file of an output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path in the output with slashes; empty where the output is a file.
    path: String,
    /// Size in bytes.
    bytes: u64,
    /// SHA-256 in hexadecimal.
    sha256: String,
}

/// Takes and compares fingerprints. Files that are one on disk (hard links) are read once.
#[derive(Debug, Default)]
pub struct Fingerprints {
    sums: Mutex<HashMap<FileId, String>>,
}

/// Device, number, size and time of change: equal for two names of one unchanged file.
type FileId = (u64, u64, u64, i64, i64);

#[cfg(unix)]
fn file_id(metadata: &Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    Some((metadata.dev(), metadata.ino(), metadata.size(), modified.0, modified.1))
}

#[cfg(not(unix))]
fn file_id(_metadata: &Metadata) -> Option<FileId> {
    None
}

impl Fingerprints {
    /// The files of an output, sorted by path.
    ///
    /// # Errors
    /// Those of the system, and for a tree with something that is neither a file nor a folder.
    pub fn take(&self, output: &Path) -> io::Result<Vec<FileRecord>> {
        let mut files = Vec::new();
        for (path, name, metadata) in walk(output)? {
            let sha256 = self.sum(&path, &metadata)?;
            files.push(FileRecord { path: name, bytes: metadata.len(), sha256 });
        }
        files.sort();
        Ok(files)
    }

    /// Whether an output has just the files of `records`, unchanged. Names and sizes are compared
    /// first, so that most changes cost no reading. An output without files is none.
    pub fn matches(&self, output: &Path, records: &[FileRecord]) -> bool {
        let Ok(found) = walk(output) else { return false };
        let mut found: Vec<(&str, u64)> =
            found.iter().map(|(_, name, metadata)| (name.as_str(), metadata.len())).collect();
        found.sort_unstable();
        let same_sizes = found
            .iter()
            .copied()
            .eq(records.iter().map(|record| (record.path.as_str(), record.bytes)));
        same_sizes && !records.is_empty() && self.take(output).is_ok_and(|files| files == records)
    }

    fn sum(&self, path: &Path, metadata: &Metadata) -> io::Result<String> {
        let id = file_id(metadata);
        let known = |id: &FileId| self.sums.lock().ok()?.get(id).cloned();
        if let Some(sum) = id.as_ref().and_then(known) {
            return Ok(sum);
        }
        let sum = sum_of(anemll_files::open_no_follow(path)?)?;
        if let (Some(id), Ok(mut sums)) = (id, self.sums.lock()) {
            sums.insert(id, sum.clone());
        }
        Ok(sum)
    }
}

/// Every file of a tree: path, name in the tree, metadata.
fn walk(output: &Path) -> io::Result<Vec<(PathBuf, String, Metadata)>> {
    let mut files = Vec::new();
    let mut rest = vec![(output.to_owned(), String::new())];
    while let Some((path, name)) = rest.pop() {
        let metadata = path.symlink_metadata()?;
        if metadata.is_dir() {
            for entry in path.read_dir()? {
                let entry = entry?;
                let own = entry.file_name().to_string_lossy().into_owned();
                let inside = if name.is_empty() { own } else { format!("{name}/{own}") };
                rest.push((entry.path(), inside));
            }
        } else if metadata.is_file() {
            files.push((path, name, metadata));
        } else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is neither a file nor a folder", path.display()),
            ));
        }
    }
    Ok(files)
}

/// SHA-256 of a regular file, be it reached through links, in hexadecimal.
///
/// # Errors
/// Those of the system, and for what is no regular file.
pub fn sha256(path: &Path) -> io::Result<String> {
    sum_of(anemll_files::open(path)?)
}

fn sum_of(mut file: File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok(hex::encode(hash.finalize()))
}

/// SHA-256 of bytes in hexadecimal.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_matches_while_it_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("sub")).unwrap();
        std::fs::write(tree.join("sub/one"), "1").unwrap();
        std::fs::write(tree.join("two"), "2").unwrap();
        let fingerprints = Fingerprints::default();
        let records = fingerprints.take(&tree).unwrap();
        assert_eq!(records.len(), 2);
        assert!(fingerprints.matches(&tree, &records));
        assert!(!fingerprints.matches(&tree, &records[..1]));
        assert!(!fingerprints.matches(&tree, &[]));
        std::fs::write(tree.join("two"), "3").unwrap();
        assert!(!Fingerprints::default().matches(&tree, &records));
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        assert!(!fingerprints.matches(&folder.path().join("empty"), &[]));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_match_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "1").unwrap();
        let fingerprints = Fingerprints::default();
        let records = fingerprints.take(&file).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(fingerprints.matches(&file, &records));
        assert!(!fingerprints.matches(&link, &records));
        assert!(fingerprints.take(&link).is_err());
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status();
        assert!(made.unwrap().success());
        assert!(fingerprints.take(&folder.path().join("pipe")).is_err());
        assert!(sha256(&folder.path().join("pipe")).is_err());
        assert!(sha256(&link).is_ok());
    }
}
