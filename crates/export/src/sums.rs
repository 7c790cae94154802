//! SHA-256 sums of files, each file read once, however many names it has.

use crate::Progress;
use crate::error::{ExportError, Result};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read;
use std::path::Path;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Size and sum of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) bytes: u64,
    /// SHA-256.
    pub(crate) digest: [u8; 32],
}

impl Sum {
    /// The sum in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        hex::encode(self.digest)
    }
}

/// What tells a file from all others on this machine; two names of one file have the same.
pub(crate) type FileId = (u64, u64);

/// The identity of a file, where the system tells it.
#[cfg(unix)]
pub(crate) fn file_id(metadata: &Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

/// The identity of a file, where the system tells it.
#[cfg(not(unix))]
pub(crate) fn file_id(_: &Metadata) -> Option<FileId> {
    None
}

/// Sums that were made already, by file.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    known: HashMap<FileId, Sum>,
}

impl Sums {
    /// The sum of a regular file.
    pub(crate) fn of(&mut self, path: &Path, progress: Progress<'_>) -> Result<Sum> {
        let file =
            anemll_files::open_no_follow(path).map_err(|error| ExportError::read(path, &error))?;
        let metadata = file.metadata().map_err(|error| ExportError::read(path, &error))?;
        let id = file_id(&metadata);
        if let Some(sum) = id.and_then(|id| self.known.get(&id)) {
            return Ok(sum.clone());
        }
        let read = sum_of(&file, u64::MAX, progress, &mut |_| Ok(()));
        let Some(sum) = read.map_err(|stop| stop.at(path))? else {
            let endless = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
            return Err(ExportError::read(path, &endless));
        };
        if let Some(id) = id {
            self.known.insert(id, sum.clone());
        }
        Ok(sum)
    }
}

/// Why reading stopped.
pub(crate) enum Stop {
    Cancelled,
    Failed(std::io::Error),
}

impl Stop {
    pub(crate) fn at(self, path: &Path) -> ExportError {
        match self {
            Self::Cancelled => ExportError::cancelled(),
            Self::Failed(error) => ExportError::read(path, &error),
        }
    }
}

/// Reads all, passes it on, and sums it up; `None` for more than `most` bytes, which are not read
/// to their end.
pub(crate) fn sum_of(
    mut input: impl Read,
    most: u64,
    progress: Progress<'_>,
    pass_on: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> std::result::Result<Option<Sum>, Stop> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut bytes: u64 = 0;
    loop {
        let count = match input.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stop::Failed(error)),
        };
        bytes += count as u64;
        if bytes > most {
            return Ok(None);
        }
        digest.update(&piece[..count]);
        pass_on(&piece[..count]).map_err(Stop::Failed)?;
        if !progress(count as u64) {
            return Err(Stop::Cancelled);
        }
    }
    Ok(Some(Sum { bytes, digest: digest.finalize().into() }))
}

/// The sum of bytes in memory.
pub(crate) fn sum_of_bytes(bytes: &[u8]) -> Sum {
    Sum { bytes: bytes.len() as u64, digest: Sha256::digest(bytes).into() }
}
