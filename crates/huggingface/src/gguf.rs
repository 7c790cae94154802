//! The weights of a GGUF file, or of several, as a model directory has them.

use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::gguf_files::GgufFiles;
use crate::info::{SourceType, TensorInfo};
use crate::shard::Shard;
use crate::tensor::Made;
use anemll_gguf::{Format, Parts, Summary, Weight};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What the GGUF files of a model hold.
pub(crate) struct Gguf {
    pub(crate) shards: Vec<Arc<Shard>>,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    pub(crate) made: BTreeMap<String, Arc<dyn Made>>,
    /// One line about it.
    pub(crate) note: String,
}

/// A tensor whose elements are decoded while they are read.
#[derive(Debug)]
struct Decoded {
    parts: Arc<Parts<Arc<Shard>>>,
    /// The file that has it.
    shard: Arc<Shard>,
    weight: Weight,
}

impl Made for Decoded {
    fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        let first = start / self.weight.format.width() as u64;
        self.weight.read(&*self.parts, first, buffer).map_err(|error| match error.kind {
            // The header was checked against the size of the file.
            anemll_gguf::ErrorKind::Invalid => self.shard.changed("it was cut short"),
            _ => HuggingFaceError::gguf(&self.shard.path, error).with_key(&self.weight.name),
        })
    }
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let files = GgufFiles::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with_hint("the GGUF file was moved: name it where it is"),
            _ => error,
        })?;
        let GgufFiles { container, parts, shards } = files;
        let parts = Arc::new(parts);
        let weights = anemll_gguf::weights(&container)
            .map_err(|error| HuggingFaceError::gguf(path, error))?;
        let mut tensors = BTreeMap::new();
        let mut made: BTreeMap<String, Arc<dyn Made>> = BTreeMap::new();
        for weight in weights {
            let source_type = match weight.format {
                Format::Float16 => SourceType::Float16,
                Format::BFloat16 => SourceType::BFloat16,
                Format::Float32 => SourceType::Float32,
            };
            let bytes = weight.elements().checked_mul(weight.format.width() as u64);
            let refused = |reason: &str| {
                HuggingFaceError::new(ErrorKind::Gguf, path, reason).with_key(&weight.name)
            };
            let bytes = bytes.ok_or_else(|| refused("the tensor is too large"))?;
            let file = parts.number(weight.start());
            let shard = parts.get(file).map(Arc::clone);
            let shard = shard.ok_or_else(|| refused("the tensor is in none of the files"))?;
            let info =
                TensorInfo { source_type, shape: weight.shape.clone(), file, range: 0..bytes };
            tensors.insert(weight.name.clone(), info);
            let parts = Arc::clone(&parts);
            made.insert(weight.name.clone(), Arc::new(Decoded { parts, shard, weight }));
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let several = match shards.len() {
            1 => String::new(),
            count => format!(" (of {count} files)"),
        };
        let note = format!("{file}{several}: {}", Summary::of(&container).line());
        Ok(Self { shards, tensors, made, note })
    }
}
