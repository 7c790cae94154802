//! Which library a file is: its manifest and the sum of its bytes.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::Path;

use anemll_plugin_api::data::Manifest;
use anemll_plugin_api::{Error, Result};
use sha2::{Digest as _, Sha256};

use crate::library_file::{manifest_in, open_file, unreadable};
use crate::loader::{at_file, checked_manifest};

/// Most bytes of a library that is summed up, so that no file fills the memory.
const LARGEST: u64 = 1 << 30;

/// What a plugin says of itself, and the sum of its library.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The manifest, checked.
    pub manifest: Manifest,
    /// The SHA-256 of the library, in hexadecimal.
    pub sha256: String,
    /// The length of the library in bytes.
    pub bytes: u64,
}

impl Identity {
    /// Reads a library. None of it is run, and nothing keeps it from changing later: a
    /// [`Snapshot`](crate::Snapshot) is what can be loaded.
    ///
    /// # Errors
    /// Those of [`manifest_of_file`](crate::manifest_of_file).
    pub fn of_file(path: &Path) -> Result<Self> {
        let read = || {
            let mut file = open_file(path)?;
            let (sha256, bytes) = copy_summed(&mut file, std::io::sink())?;
            let manifest = checked_manifest(&manifest_in(file)?)?;
            Ok(Self { manifest, sha256, bytes })
        };
        read().map_err(|error| at_file(error, path))
    }
}

/// Copies all of a file, and sums it up on the way.
pub(crate) fn copy_summed(from: &mut File, mut to: impl Write) -> Result<(String, u64)> {
    let failed = |error: std::io::Error| unreadable(&error.to_string());
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let count = from.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok((hex::encode(hash.finalize()), total));
        }
        total += count as u64;
        if total > LARGEST {
            return Err(too_large());
        }
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(failed)?;
    }
}

fn too_large() -> Error {
    unreadable(&format!("it has more than {} MB", LARGEST >> 20))
}
