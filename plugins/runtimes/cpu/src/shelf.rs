//! What all sessions of a runtime share: programs, and weights in memory, as they are stored and decoded.

use crate::element::Element;
use crate::failure::Outcome;
use crate::layout::Layout;
use crate::rounded::Rounded;
use crate::source::Source;
use crate::storage::{Buffer, Storage};
use crate::tensor::Tensor;
use anemll_mlpackage::{BlobFile, BlobRecord};
use anemll_plugin_api::Result;
use anemll_weights::WeightFiles;
use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Weights that sessions hold, by where they lie: functions and packages that share a weight file
/// share its weights in memory, too. A weight is read when a function that uses it is first
/// prepared, and is given back with the last session that holds it.
///
/// Reading by position takes no longer than touching the pages of a map, and a file that another
/// process cuts short is an error, where a map would end the process.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    held: Mutex<HashMap<WeightKey, Weak<Buffer>>>,
    decoded: Mutex<HashMap<DecodedKey, Decoded>>,
    rounded: Mutex<HashMap<DecodedKey, Weak<Rounded>>>,
    sources: Mutex<HashMap<SourceKey, Weak<Source>>>,
}

/// A path, and all files below it.
type SourceKey = (PathBuf, Vec<(PathBuf, FileKey)>);

/// Files of a package or compiled model, at most, for it to be shared.
const MOST_FILES: usize = 64;

/// The weight files of a model by name, and the operation that makes a weight of what is in them.
type DecodedKey = (Vec<(String, FileKey)>, Vec<u8>);

/// A weight that was decoded.
#[derive(Debug)]
struct Decoded {
    element: Element,
    shape: Vec<usize>,
    elements: Weak<Buffer>,
}

impl Decoded {
    fn tensor(&self) -> Option<Tensor> {
        let storage = Storage::new(self.elements.upgrade()?);
        Some(Tensor { element: self.element, layout: Layout::contiguous(&self.shape), storage })
    }
}

/// A file as the system knew it when it was opened, its size and time of change, and the offset of a
/// record.
type WeightKey = (FileKey, u64);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileKey {
    #[cfg(unix)]
    node: (u64, u64),
    #[cfg(not(unix))]
    path: PathBuf,
    size: u64,
    changed: Option<std::time::SystemTime>,
}

impl FileKey {
    fn of(file: &BlobFile) -> Self {
        Self::new(file.path(), file.metadata())
    }

    #[cfg_attr(unix, expect(unused_variables, reason = "the system has better names for files"))]
    fn new(path: &Path, metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Self {
            #[cfg(unix)]
            node: (metadata.dev(), metadata.ino()),
            #[cfg(not(unix))]
            path: path.to_owned(),
            size: metadata.len(),
            changed: metadata.modified().ok(),
        }
    }
}

/// All files below a folder, sorted by their paths; none where that is no folder or has very many.
fn files_below(folder: &Path) -> Option<Vec<(PathBuf, FileKey)>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()? {
            let path = entry.ok()?.path();
            let metadata = std::fs::metadata(&path).ok()?;
            match metadata.is_dir() {
                true => folders.push(path),
                false => {
                    let key = FileKey::new(&path, &metadata);
                    files.push((path, key));
                }
            }
            if files.len() + folders.len() > MOST_FILES {
                return None;
            }
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(files)
}

impl Shelf {
    /// The model at a path, with its program, which takes many times the memory of its file: one that a
    /// session has open is shared with it, if no file of it is another by now.
    ///
    /// # Errors
    /// Those of [`Source::open`].
    pub(crate) fn source(&self, path: &Path) -> Result<Arc<Source>> {
        let key = files_below(path).map(|files| (path.to_owned(), files));
        let lock = || self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = key.as_ref().and_then(|key| lock().get(key)?.upgrade()) {
            return Ok(known);
        }
        let source = Arc::new(Source::open(path)?);
        if let Some(key) = key {
            let mut sources = lock();
            sources.retain(|_, source| source.strong_count() > 0);
            sources.insert(key, Arc::downgrade(&source));
        }
        Ok(source)
    }

    /// The data of a record of this file.
    pub(crate) fn weight(&self, file: &BlobFile, record: &BlobRecord) -> Outcome<Arc<Buffer>> {
        let key = (FileKey::of(file), record.offset());
        let lock = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&key).and_then(Weak::upgrade);
        let size = usize::try_from(record.size_in_bytes()).unwrap_or(usize::MAX);
        if let Some(known) = known.filter(|known| known.bytes().len() == size) {
            return Ok(known);
        }
        let mut buffer = Buffer::zeroed(size)?;
        file.read_at(record, 0, buffer.bytes_mut())?;
        let buffer = Arc::new(buffer);
        let mut held = lock();
        held.retain(|_, weight| weight.strong_count() > 0);
        held.insert(key, Arc::downgrade(&buffer));
        Ok(buffer)
    }

    /// What `decode` makes of an operation, given as its bytes, and of these files; what another session
    /// made of both is taken from there.
    pub(crate) fn decoded(
        &self,
        files: &WeightFiles,
        operation: &[u8],
        decode: impl FnOnce() -> Outcome<Tensor>,
    ) -> Outcome<Tensor> {
        let key = decoded_key(files, operation);
        let lock = || self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = lock().get(&key).and_then(Decoded::tensor) {
            return Ok(tensor);
        }
        let made = decode()?;
        let mut decoded = lock();
        // Another session may have been faster.
        if let Some(tensor) = decoded.get(&key).and_then(Decoded::tensor) {
            return Ok(tensor);
        }
        decoded.retain(|_, weight| weight.elements.strong_count() > 0);
        let (element, shape) = (made.element, made.shape().to_vec());
        let elements = Arc::downgrade(&made.clone().storage.into_shared());
        decoded.insert(key, Decoded { element, shape, elements });
        Ok(made)
    }

    /// What `round` makes of a weight, likewise; none where it makes nothing.
    pub(crate) fn rounded(
        &self,
        files: &WeightFiles,
        operation: &[u8],
        round: impl FnOnce() -> Outcome<Option<Arc<Rounded>>>,
    ) -> Outcome<Option<Arc<Rounded>>> {
        let key = decoded_key(files, operation);
        let lock = || self.rounded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key).and_then(Weak::upgrade) {
            return Ok(Some(known));
        }
        let made = round()?;
        if let Some(made) = &made {
            let mut rounded = lock();
            rounded.retain(|_, weight| weight.strong_count() > 0);
            rounded.insert(key, Arc::downgrade(made));
        }
        Ok(made)
    }
}

fn decoded_key(files: &WeightFiles, operation: &[u8]) -> DecodedKey {
    let files = files.iter().map(|(name, file)| (name.clone(), FileKey::of(file))).collect();
    (files, operation.to_vec())
}
