//! Folders for what components read and write.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use super::Made;

/// A folder that is removed with all that is in it.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A new one in the system's folder for such.
    #[track_caller]
    pub(super) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("anemll-conformance-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        done(&path, fs::create_dir_all(&path));
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// A copy of a file or folder, inside of this one under its own name.
    #[track_caller]
    pub(super) fn copy(&self, from: &Path) -> PathBuf {
        let target = self.0.join(from.file_name().unwrap_or_default());
        if from.is_file() {
            done(&target, fs::copy(from, &target).map(drop));
        }
        for (name, bytes) in files(from) {
            write(&target.join(name), &bytes);
        }
        target
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clear away.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All files below a folder, sorted, by path with forward slashes; none where there is no folder.
#[track_caller]
pub(super) fn files(folder: &Path) -> Made {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(inside) = folders.pop() {
        let Ok(listing) = fs::read_dir(folder.join(&inside)) else { continue };
        for entry in listing.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if inside.is_empty() { name } else { format!("{inside}/{name}") };
            match entry.path().is_dir() {
                true => folders.push(name),
                false => found.push((name, read(&entry.path()))),
            }
        }
    }
    found.sort();
    found
}

/// A file's bytes.
#[track_caller]
pub(super) fn read(path: &Path) -> Vec<u8> {
    done(path, fs::read(path))
}

#[track_caller]
fn write(path: &Path, bytes: &[u8]) {
    if let Some(folder) = path.parent() {
        done(folder, fs::create_dir_all(folder));
    }
    done(path, fs::write(path, bytes));
}

/// Gives copies of a package, each with one file cut short, to a check that is told which.
#[track_caller]
pub(super) fn damaged(package: &Path, check: impl Fn(&str, &Path)) {
    let all = files(package);
    let some = all.iter().any(|(_, bytes)| !bytes.is_empty());
    assert!(some, "{} has nothing that could be damaged", package.display());
    for (name, bytes) in all {
        let mut lengths = vec![0, bytes.len() / 2, bytes.len().saturating_sub(1)];
        lengths.dedup();
        lengths.retain(|length| *length < bytes.len());
        for length in lengths {
            // A text may end with one line break less.
            if length + 1 == bytes.len() && name.ends_with(".json") {
                continue;
            }
            let folder = Folder::new();
            let copy = folder.copy(package);
            write(&copy.join(&name), &bytes[..length]);
            check(&format!("{name} of {length} bytes"), &copy);
        }
    }
}

#[track_caller]
fn done<T>(path: &Path, result: io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
