//! One safetensors file, memory-mapped.

use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::json::{self, LFS_POINTER, UniqueMap};
use crate::tensor::{SourceType, TensorInfo};
use memmap2::Mmap;
use safetensors::tensor::Metadata;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes before the header: its length.
const LENGTH: usize = 8;
/// Longest header; the same bound as in the safetensors library.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// A mapped file. It must not change while it is open (see [`crate::ModelDirectory`]).
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) path: PathBuf,
    pub(crate) map: Mmap,
}

impl Shard {
    /// Maps the file and reads its header; `number` goes into the tensors' infos. The header must
    /// account for every byte of the file.
    pub(crate) fn open(path: &Path, number: usize) -> Result<(Self, BTreeMap<String, TensorInfo>)> {
        let file = json::open_regular(path)?;
        // SAFETY: the mapping is read-only; the file may not be changed while it is open, as the
        // documentation of `ModelDirectory` says, which no program can enforce.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }
            .map_err(|error| HuggingFaceError::io(path, "cannot map", &error))?;
        let tensors = read_header(path, &map, number)?;
        Ok((Self { path: path.to_owned(), map }, tensors))
    }
}

fn read_header(path: &Path, map: &[u8], number: usize) -> Result<BTreeMap<String, TensorInfo>> {
    let wrong = |reason: String| {
        HuggingFaceError::new(ErrorKind::Shard, path, reason).with_hint("download the file again")
    };
    if map.starts_with(LFS_POINTER) {
        return Err(json::lfs_pointer(ErrorKind::Shard, path));
    }
    let Some(length) = map.first_chunk::<LENGTH>() else {
        return Err(wrong(format!("truncated: {} bytes, no header", map.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_HEADER_BYTES)
        .ok_or_else(|| wrong(format!("not a safetensors file: a header of {length} bytes")))?;
    let Some(text) = map.get(LENGTH..LENGTH + header) else {
        return Err(wrong(format!(
            "truncated: {} bytes, but the header alone has {length}",
            map.len()
        )));
    };
    // Two entries of one name would leave open which counts, and the library keeps the last.
    serde_json::from_slice::<UniqueMap<IgnoredAny>>(text)
        .map_err(|error| wrong(format!("malformed header: {error}")))?;
    // The library checks that the tensors lie side by side and are as long as their shapes say.
    let metadata: Metadata = serde_json::from_slice(text)
        .map_err(|error| wrong(format!("malformed header: {error}")))?;

    let start = LENGTH + header;
    let mut expected = start;
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let (begin, end) = info.data_offsets;
        let range = start.checked_add(begin).zip(start.checked_add(end));
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
    if expected != map.len() {
        let what = if expected > map.len() { "truncated" } else { "too long" };
        return Err(wrong(format!(
            "{what}: {} bytes, but the header describes {expected}",
            map.len()
        )));
    }
    Ok(tensors)
}
