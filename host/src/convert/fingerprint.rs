//! Sizes and SHA-256 sums of files, by which a finished step is recognised.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Mutex;

/// One file of an output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FileRecord {
    /// Path in the output with slashes; empty where the output is a file.
    path: String,
    /// Size in bytes.
    bytes: u64,
    /// SHA-256 in hexadecimal.
    sha256: String,
}

/// Takes and compares fingerprints. Files that are one on disk (hard links) are read once.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
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
    pub(super) fn take(&self, output: &Path) -> io::Result<Vec<FileRecord>> {
        let mut files = Vec::new();
        self.walk(output, "", &mut files)?;
        files.sort();
        Ok(files)
    }

    /// Whether an output has just the files of `records`, unchanged. Sizes are compared first, so
    /// that most changes cost no reading.
    pub(super) fn matches(&self, output: &Path, records: &[FileRecord]) -> bool {
        let same_size = records.iter().all(|record| {
            let path =
                if record.path.is_empty() { output.to_owned() } else { output.join(&record.path) };
            path.metadata().is_ok_and(|metadata| metadata.len() == record.bytes)
        });
        same_size && self.take(output).is_ok_and(|files| files == records)
    }

    fn walk(&self, path: &Path, name: &str, files: &mut Vec<FileRecord>) -> io::Result<()> {
        let metadata = path.metadata()?;
        if metadata.is_dir() {
            for entry in path.read_dir()? {
                let entry = entry?;
                let own = entry.file_name().to_string_lossy().into_owned();
                let inside = if name.is_empty() { own } else { format!("{name}/{own}") };
                self.walk(&entry.path(), &inside, files)?;
            }
            return Ok(());
        }
        let sha256 = self.sum(path, &metadata)?;
        files.push(FileRecord { path: name.to_owned(), bytes: metadata.len(), sha256 });
        Ok(())
    }

    fn sum(&self, path: &Path, metadata: &Metadata) -> io::Result<String> {
        let id = file_id(metadata);
        let known = |id: &FileId| self.sums.lock().ok()?.get(id).cloned();
        if let Some(sum) = id.as_ref().and_then(known) {
            return Ok(sum);
        }
        let sum = sha256(path)?;
        if let (Some(id), Ok(mut sums)) = (id, self.sums.lock()) {
            sums.insert(id, sum.clone());
        }
        Ok(sum)
    }
}

/// SHA-256 of a file in hexadecimal.
pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
