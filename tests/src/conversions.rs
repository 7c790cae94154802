//! Conversions that several tests look at: each is made once in a run of the tests, by whichever
//! test comes first, also when every test is a process of its own.

use crate::{PLUGINS, build_folder, convert, library, program};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The folder of the conversion of `model` with these arguments, as [`convert`] makes it. It belongs
/// to all tests: one that changes anything in it takes a copy of its own ([`copy_of_converted`]).
///
/// # Panics
/// The conversion fails, or its place cannot be written to.
pub fn converted(model: &Path, arguments: &[&str]) -> PathBuf {
    // `cargo xtask test` empties this folder first.
    let folder = build_folder().join("conversions");
    let key = key(model, arguments);
    let (output, done) = (folder.join(&key), folder.join(format!("{key}.done")));
    let made = || -> std::io::Result<()> {
        fs::create_dir_all(&folder)?;
        let lock = fs::File::create(folder.join(format!("{key}.lock")))?;
        lock.lock()?;
        if !done.exists() {
            // What a test that was stopped left.
            if output.exists() {
                fs::remove_dir_all(&output)?;
            }
            convert(model, &output, arguments);
            fs::write(&done, "")?;
        }
        Ok(())
    };
    if let Err(error) = made() {
        panic!("{} cannot be made: {error}", output.display());
    }
    output
}

/// A copy of [`converted`] in the folder `output`, which may be there and empty.
///
/// # Panics
/// As [`converted`]; or the copy fails.
pub fn copy_of_converted(model: &Path, output: &Path, arguments: &[&str]) {
    let original = converted(model, arguments);
    if let Err(error) = copy(&original, output, &mut HashMap::new()) {
        panic!("{} cannot be copied to {}: {error}", original.display(), output.display());
    }
}

/// Copies a folder. Files that were one under several names stay so.
fn copy(from: &Path, to: &Path, seen: &mut HashMap<u64, PathBuf>) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target, seen)?;
            continue;
        }
        match shared_inode(&entry.path())?.map(|inode| (inode, seen.get(&inode))) {
            Some((_, Some(first))) => fs::hard_link(first, &target)?,
            shared => {
                fs::copy(entry.path(), &target)?;
                if let Some((inode, None)) = shared {
                    seen.insert(inode, target);
                }
            }
        }
    }
    Ok(())
}

/// What a file with several names is known by.
#[cfg(unix)]
fn shared_inode(path: &Path) -> std::io::Result<Option<u64>> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path)?;
    Ok((metadata.nlink() > 1).then(|| metadata.ino()))
}

#[cfg(not(unix))]
fn shared_inode(_: &Path) -> std::io::Result<Option<u64>> {
    Ok(None)
}

/// A name for all that a conversion comes from: the program, the plugins, the model, the arguments.
fn key(model: &Path, arguments: &[&str]) -> String {
    let mut sources = vec![program()];
    sources.extend(PLUGINS.iter().map(|name| library(name)));
    let files = fs::read_dir(model).into_iter().flatten().flatten();
    let mut files: Vec<_> = files.map(|entry| entry.path()).collect();
    files.sort();
    sources.extend(files);
    let mut sum = Sha256::new();
    for path in sources {
        let metadata = fs::metadata(&path).ok();
        let size = metadata.as_ref().map_or(0, fs::Metadata::len);
        let time = metadata.and_then(|metadata| metadata.modified().ok());
        let time = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        sum.update(format!("{}\0{size}\0{}\n", path.display(), time.as_nanos()));
    }
    sum.update(arguments.join("\0"));
    sum.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}
