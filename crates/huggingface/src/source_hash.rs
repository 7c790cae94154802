//! One hash over everything that the numbers of a model come from.

use crate::directory::ModelDirectory;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Bytes between two calls of the progress function: a few milliseconds of work.
const STEP: usize = 4 << 20;

impl ModelDirectory {
    /// SHA-256, in lower-case hexadecimal, over config.json and each weights file in the order of
    /// `weight_files`. Each file counts as: its name, a zero byte, its size as 8 bytes little
    /// endian, its bytes. Names of directories do not count.
    ///
    /// `progress` is told the bytes done and the total, and returns whether to go on; if not, the
    /// error is of the kind `Cancelled`. All is read from the mapping, so another thread may use
    /// the directory meanwhile.
    pub fn source_sha256(&self, mut progress: impl FnMut(u64, u64) -> bool) -> Result<String> {
        let config = (self.config_file().path(), self.config_text().as_bytes());
        let files: Vec<(&Path, &[u8])> =
            std::iter::once(config).chain(self.weight_file_bytes()).collect();
        let total = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let mut done = 0;
        let mut hash = Sha256::new();
        for (path, bytes) in files {
            hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update([0]);
            hash.update((bytes.len() as u64).to_le_bytes());
            for step in bytes.chunks(STEP) {
                if !progress(done, total) {
                    let reason = "stopped while the source was hashed";
                    return Err(HuggingFaceError::new(ErrorKind::Cancelled, path, reason));
                }
                hash.update(step);
                done += step.len() as u64;
            }
        }
        progress(done, total);
        let digest: [u8; 32] = hash.finalize().into();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
