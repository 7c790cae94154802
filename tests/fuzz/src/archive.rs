//! A folder of files as one run of bytes, so that a fuzzer can change packages as a whole.
//!
//! Entries follow each other: a byte with the length of the name, the name, four bytes
//! (little-endian) with the length of the data, the data. A name that begins with `>` is a symbolic
//! link whose target is the data. Lengths that are too large mean all that is left, so that any
//! bytes are an archive.

use std::path::{Component, Path};

/// Entries of an archive that are laid out.
const MAXIMUM_ENTRIES: usize = 16;

/// An entry: name and data.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The entries of an archive.
pub fn unpack(mut bytes: &[u8]) -> Vec<Entry> {
    let mut take = |length: usize| {
        let (taken, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        taken.to_vec()
    };
    let mut entries = Vec::new();
    while entries.len() < MAXIMUM_ENTRIES {
        let Some(length) = take(1).first().copied() else { break };
        let name = take(usize::from(length));
        let mut size = [0; 4];
        let taken = take(4);
        size[..taken.len()].copy_from_slice(&taken);
        entries.push((name, take(u32::from_le_bytes(size) as usize)));
    }
    entries
}

/// Makes an archive. Names of more than 255 bytes and data of 4 GiB are cut.
pub fn pack(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, data) in entries {
        let name = &name[..name.len().min(255)];
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name);
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&data[..size as usize]);
    }
    bytes
}

/// Lays an archive out below `root`. Entries that cannot be files or links there are left out:
/// nothing is written outside.
pub fn lay_out(entries: &[Entry], root: &Path) {
    // Links come last: no file is written through one.
    let (links, files): (Vec<_>, Vec<_>) =
        entries.iter().partition(|(name, _)| name.starts_with(b">"));
    for (name, data) in files {
        let Some(path) = plain_path(name) else { continue };
        let path = root.join(path);
        let made = path.parent().is_some_and(|parent| std::fs::create_dir_all(parent).is_ok());
        if made {
            // A name that is a folder already, or too long: the archive has one file less.
            let _ = std::fs::write(path, data);
        }
    }
    #[cfg(unix)]
    for (name, target) in links {
        let (Some(path), Ok(target)) = (plain_path(&name[1..]), std::str::from_utf8(target)) else {
            continue;
        };
        let path = root.join(path);
        let inside = || {
            let parent = path.parent()?.canonicalize().ok()?;
            Some(parent.starts_with(root.canonicalize().ok()?))
        };
        let climbs = Path::new(target).components().filter(|part| *part == Component::ParentDir);
        if Path::new(target).is_relative() && climbs.count() <= 2 && inside() == Some(true) {
            let _ = std::os::unix::fs::symlink(target, path);
        }
    }
    #[cfg(not(unix))]
    drop(links);
}

/// A relative path of at most five plain names.
fn plain_path(name: &[u8]) -> Option<&Path> {
    let path = Path::new(std::str::from_utf8(name).ok().filter(|name| !name.contains('\0'))?);
    let mut names = path.components();
    let plain = names.by_ref().take(5).all(|part| matches!(part, Component::Normal(_)));
    (plain && names.next().is_none() && path.file_name().is_some()).then_some(path)
}
