//! One safetensors file, read by position.

use crate::contents::Instead;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::info::{SourceType, TensorInfo};
use crate::json::{self, Entries};
use safetensors::tensor::Metadata;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes before the header: its length.
const LENGTH: u64 = 8;
/// Longest header; the same bound as in the safetensors library.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes that show what a file is instead.
const START: u64 = 512;

/// An open file. Nothing of it is mapped, so that a file which another process cuts short gives an
/// error and no signal.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) path: PathBuf,
    file: File,
    stamp: Stamp,
}

/// What changes when a file does.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Device and number of the file, where the system has them.
    number: Option<(u64, u64)>,
    /// When the system last noted a change of anything, in seconds and nanoseconds, where it does.
    /// Programs that copy set the time of change back; this one they cannot.
    noted: Option<(i64, i64)>,
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        let (number, noted) = {
            use std::os::unix::fs::MetadataExt as _;
            let noted = (metadata.ctime(), metadata.ctime_nsec());
            (Some((metadata.dev(), metadata.ino())), Some(noted))
        };
        #[cfg(not(unix))]
        let (number, noted) = (None, None);
        Self { bytes: metadata.len(), modified: metadata.modified().ok(), number, noted }
    }
}

impl anemll_gguf::Source for Shard {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        anemll_gguf::Source::read(&self.file, buffer, offset)
    }
}

impl Shard {
    /// Opens the file and reads its header; `number` goes into the tensors' infos. The header must
    /// account for every byte of the file.
    pub(crate) fn open(path: &Path, number: usize) -> Result<(Self, BTreeMap<String, TensorInfo>)> {
        let shard = Self::open_file(path)?;
        let tensors = shard.read_header(number)?;
        Ok((shard, tensors))
    }

    /// Opens a file of any kind.
    pub(crate) fn open_file(path: &Path) -> Result<Self> {
        let unreadable = |error: io::Error| HuggingFaceError::io(path, "cannot open", &error);
        let file = anemll_files::open(path).map_err(unreadable)?;
        let stamp = Stamp::of(&file.metadata().map_err(unreadable)?);
        Ok(Self { path: path.to_owned(), file, stamp })
    }

    /// Size of the file in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.stamp.bytes
    }

    /// Fills `buffer` from `offset` on.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        anemll_files::read_exact_at(&self.file, buffer, offset).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.changed("it was cut short")
            } else {
                HuggingFaceError::io(&self.path, "cannot read", &error)
            }
        })
    }

    /// Checks that the file is still the one that was opened, with the size and the time of change
    /// that it had.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let now = self.file.metadata().and_then(|own| Ok((own, std::fs::metadata(&self.path)?)));
        let (own, path) = now.map_err(|error| self.changed(&format!("it is gone: {error}")))?;
        // The path first: of a file that lost its name, the system notes that too.
        for now in [Stamp::of(&path), Stamp::of(&own)] {
            if now.number != self.stamp.number {
                return Err(self.changed("another file took its place"));
            }
            if now.bytes != self.stamp.bytes {
                return Err(self
                    .changed(&format!("it had {} bytes and has {}", self.stamp.bytes, now.bytes)));
            }
            if now.modified != self.stamp.modified {
                return Err(self.changed("it was written to"));
            }
            if now.noted != self.stamp.noted {
                return Err(self.changed("it was written to, or its mode or its names changed"));
            }
        }
        Ok(())
    }

    pub(crate) fn changed(&self, how: &str) -> HuggingFaceError {
        HuggingFaceError::new(
            ErrorKind::Changed,
            &self.path,
            format!("the file changed while it was read: {how}"),
        )
        .with_hint("wait until the download or the program that writes it is done, and try again")
    }

    fn read_header(&self, number: usize) -> Result<BTreeMap<String, TensorInfo>> {
        let (path, size) = (self.path.as_path(), self.stamp.bytes);
        let wrong = |reason: String| {
            HuggingFaceError::new(ErrorKind::Shard, path, reason)
                .with_hint("download the file again")
        };
        let mut start = vec![0; size.min(START) as usize];
        self.read(&mut start, 0)?;
        if let Some(found @ (Instead::LfsPointer | Instead::WebPage)) = Instead::of(&start) {
            return Err(json::instead(ErrorKind::Shard, path, found));
        }
        let Some(length) = start.first_chunk() else {
            return Err(wrong(format!("truncated: {size} bytes, no header")));
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER_BYTES {
            return Err(wrong(format!("not a safetensors file: a header of {length} bytes")));
        }
        let start = LENGTH + length;
        if start > size {
            return Err(wrong(format!(
                "truncated: {size} bytes, but the header alone has {length}"
            )));
        }
        let mut text = vec![0; length as usize];
        self.read(&mut text, LENGTH)?;
        // Two entries of one name would leave open which counts, and the library keeps the last.
        let entries: Entries<IgnoredAny> = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("malformed header: {error}")))?;
        if let Some(name) = entries.twice.first() {
            return Err(wrong(format!("malformed header: the key {name:?} stands twice")));
        }
        // The library checks that the tensors lie side by side and are as long as their shapes say.
        let metadata: Metadata = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("malformed header: {error}")))?;

        let mut expected = start;
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let (begin, end) = info.data_offsets;
            let range = start.checked_add(begin as u64).zip(start.checked_add(end as u64));
            let Some((begin, end)) = range else {
                return Err(wrong("data beyond the address space".to_owned()).with_key(name));
            };
            expected = expected.max(end);
            let info = TensorInfo {
                source_type: SourceType::new(info.dtype),
                shape: info.shape.iter().map(|side| *side as u64).collect(),
                file: number,
                range: begin..end,
            };
            tensors.insert(name, info);
        }
        if expected != size {
            let what = if expected > size { "truncated" } else { "too long" };
            return Err(wrong(format!(
                "{what}: {size} bytes, but the header describes {expected}"
            )));
        }
        Ok(tensors)
    }
}
