//! Hugging Face model directories: config, memory-mapped safetensors shards, tokenizer files.
//!
//! Nothing is trusted: names, sizes and offsets are checked when a directory is opened, values
//! when a weight is converted.

mod config;
mod convert;
mod directory;
mod error;
mod index;
mod json;
mod shard;
mod source_hash;
mod tensor;

pub use config::ConfigFile;
pub use convert::{Fp16Options, Fp16Report, LARGEST_FP16, to_fp16, to_fp16_into};
pub use directory::ModelDirectory;
pub use error::{ErrorKind, HuggingFaceError, Result};
pub use tensor::{SourceType, TensorData, TensorInfo};
