//! A file under a second name: by hard link where the file system can, else by copy.

use crate::error::{PackageError, Result};
use crate::paths;
use std::fs::File;
use std::path::Path;

/// How a file came to its second name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// By hard link: both names are one file, which must not be changed in place.
    HardLinked,
    /// By copy. Where the file system shares blocks between files, the system does that by itself.
    Copied {
        /// What the operating system said to a hard link, if one was wanted.
        reason: Option<String>,
    },
}

/// Gives the regular file `source` the new name `target`. With `link`, a hard link is tried first.
/// A copy is on disk when this returns.
///
/// # Errors
/// What the system says; a target that exists is an error.
pub fn place_file(source: &Path, target: &Path, link: bool) -> Result<Placement> {
    // A hard link to a symbolic link would be a second symbolic link.
    let source = source
        .canonicalize()
        .map_err(|error| PackageError::reading(source, "cannot open", &error))?;
    let mut input = paths::open_regular(&source)?;
    let mut reason = None;
    if link {
        match std::fs::hard_link(&source, target) {
            Ok(()) => return Ok(Placement::HardLinked),
            Err(error) => reason = Some(error.to_string()),
        }
    }
    let failed =
        |error: std::io::Error| PackageError::writing(target, "cannot copy the file", &error);
    let mut output = File::create_new(target).map_err(failed)?;
    if cfg!(target_os = "macos") {
        // The call that clones wants to make the file itself.
        std::fs::remove_file(target)
            .and_then(|()| std::fs::copy(&source, target))
            .and_then(|_| File::open(target)?.sync_all())
            .map_err(failed)?;
    } else {
        // Both ends are files, so that the system can share or copy the blocks by itself.
        std::io::copy(&mut input, &mut output).and_then(|_| output.sync_all()).map_err(failed)?;
    }
    Ok(Placement::Copied { reason })
}
