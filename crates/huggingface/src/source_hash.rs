//! One hash over everything that the numbers of a model come from.

use crate::directory::ModelDirectory;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Bytes that are read and hashed between two calls of the progress function: a millisecond of work.
const STEP: usize = 1 << 20;

impl ModelDirectory {
    /// SHA-256, in lower-case hexadecimal, over config.json and each weights file in the order of
    /// `weight_files`. Each file counts as: its name, a zero byte, its size as 8 bytes little
    /// endian, its bytes. Names of directories do not count. The configuration of an adapter that is
    /// merged comes after config.json, its weights after the model's.
    ///
    /// `progress` is told the bytes done and the total, and returns whether to go on; if not, the
    /// error is of the kind `Cancelled`. Another thread may use the directory meanwhile. A file that
    /// changed since it was opened is an error, so that the hash is of what is read afterwards, if
    /// [`Self::check_unchanged`] finds no change at the end of that.
    pub fn source_sha256(&self, mut progress: impl FnMut(u64, u64) -> bool) -> Result<String> {
        let config = self.config_file();
        let small: Vec<(&Path, &[u8])> = std::iter::once((config.path(), config.bytes()))
            .chain(self.more().iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice())))
            .collect();
        let mut done = small.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let total = done + self.shards().iter().map(|shard| shard.bytes()).sum::<u64>();
        let mut hash = Sha256::new();
        for (path, bytes) in small {
            begin(&mut hash, path, bytes.len() as u64);
            hash.update(bytes);
        }
        let mut buffer = vec![0; STEP];
        for shard in self.shards() {
            begin(&mut hash, &shard.path, shard.bytes());
            let mut offset = 0;
            while offset < shard.bytes() {
                if !progress(done, total) {
                    let reason = "stopped while the source was hashed";
                    return Err(HuggingFaceError::new(ErrorKind::Cancelled, &shard.path, reason));
                }
                let step = &mut buffer[..(shard.bytes() - offset).min(STEP as u64) as usize];
                shard.read(step, offset)?;
                hash.update(&*step);
                offset += step.len() as u64;
                done += step.len() as u64;
            }
        }
        self.check_unchanged()?;
        progress(done, total);
        Ok(hex::encode(hash.finalize()))
    }
}

fn begin(hash: &mut Sha256, path: &Path, bytes: u64) {
    hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
    hash.update([0]);
    hash.update(bytes.to_le_bytes());
}
