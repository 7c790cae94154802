//! The weights of a GGUF file, as a model directory has them.

use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::info::{SourceType, TensorInfo};
use crate::shard::Shard;
use crate::tensor::Made;
use crate::view::open_gguf;
use anemll_gguf::{Format, Summary, Weight};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What a GGUF file holds.
pub(crate) struct Gguf {
    pub(crate) shard: Arc<Shard>,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    pub(crate) made: BTreeMap<String, Arc<dyn Made>>,
    /// One line about it.
    pub(crate) note: String,
}

/// A tensor whose elements are decoded while they are read.
#[derive(Debug)]
struct Decoded {
    shard: Arc<Shard>,
    weight: Weight,
}

impl Made for Decoded {
    fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        let first = start / self.weight.format.width() as u64;
        self.weight.read(self.shard.file(), first, buffer).map_err(|error| match error.kind {
            // The header was checked against the size of the file.
            anemll_gguf::ErrorKind::Invalid => self.shard.changed("it was cut short"),
            _ => HuggingFaceError::gguf(&self.shard.path, error).with_key(&self.weight.name),
        })
    }
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let shard = Arc::new(Shard::open_file(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with_hint("the GGUF file was moved: name it where it is"),
            _ => error,
        })?);
        let container = open_gguf(&shard)?;
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
            let bytes = bytes.ok_or_else(|| {
                HuggingFaceError::new(ErrorKind::Gguf, path, "the tensor is too large")
                    .with_key(&weight.name)
            })?;
            let info =
                TensorInfo { source_type, shape: weight.shape.clone(), file: 0, range: 0..bytes };
            tensors.insert(weight.name.clone(), info);
            made.insert(
                weight.name.clone(),
                Arc::new(Decoded { shard: Arc::clone(&shard), weight }),
            );
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let note = format!("{file}: {}", Summary::of(&container).line());
        Ok(Self { shard, tensors, made, note })
    }
}
