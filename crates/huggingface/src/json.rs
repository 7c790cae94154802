//! Reading small files whole, and JSON objects in which no key may stand twice.

use crate::error::{ErrorKind, HuggingFaceError, Result};
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

/// Largest JSON file that we read whole. The index of the largest models has a few megabytes.
pub(crate) const MAX_JSON_BYTES: u64 = 64 << 20;

/// Opens a file for reading; refuses folders, devices and pipes, which would block or never end.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| HuggingFaceError::io(path, "cannot open", &error))?;
    if !metadata.is_file() {
        return Err(HuggingFaceError::new(ErrorKind::Io, path, "not a regular file"));
    }
    File::open(path).map_err(|error| HuggingFaceError::io(path, "cannot open", &error))
}

/// Reads a whole text file; one that is too large or not UTF-8 is an error of kind `kind`.
pub(crate) fn read_text(path: &Path, kind: ErrorKind) -> Result<String> {
    let mut bytes = Vec::new();
    open_regular(path)?
        .take(MAX_JSON_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| HuggingFaceError::io(path, "cannot read", &error))?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        let reason = format!("larger than {MAX_JSON_BYTES} bytes");
        return Err(HuggingFaceError::new(kind, path, reason));
    }
    if bytes.starts_with(LFS_POINTER) {
        return Err(lfs_pointer(kind, path));
    }
    String::from_utf8(bytes)
        .map_err(|error| HuggingFaceError::new(kind, path, format!("not UTF-8 text: {error}")))
}

/// First bytes of a file that Git LFS has not fetched.
pub(crate) const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// The error for such a file.
pub(crate) fn lfs_pointer(kind: ErrorKind, path: &Path) -> HuggingFaceError {
    HuggingFaceError::new(kind, path, "this is a Git LFS pointer, not the file itself")
        .with_hint("fetch the files with `git lfs pull`, or download the model again")
}

/// A JSON object in which no key stands twice: which of two entries counts would be a guess.
#[derive(Debug)]
pub(crate) struct UniqueMap<T>(pub(crate) BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for UniqueMap<T> {
    fn deserialize<D: de::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
    type Value = UniqueMap<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut access: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("the key {key:?} stands twice")));
            }
            map.insert(key, access.next_value()?);
        }
        Ok(UniqueMap(map))
    }
}
