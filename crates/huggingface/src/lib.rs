//! Hugging Face model directories: config, safetensors shards, tokenizer files.
//!
//! Nothing is trusted: names, sizes and offsets are checked when a directory is opened, values
//! when a weight is converted. Weights are read by position, piece by piece.

mod adapter;
mod companions;
mod config;
mod contents;
mod convert;
mod decode;
mod directory;
mod error;
mod gguf;
mod gguf_files;
mod index;
mod info;
mod json;
mod lora;
mod sentence;
mod shard;
mod source_hash;
mod tensor;
mod view;

pub use companions::{Companion, Contents, Importance};
pub use config::ConfigFile;
pub use contents::Instead;
pub use convert::{Fp16Options, Fp16Report, LARGEST_FP16, to_f32, to_fp16};
pub use directory::ModelDirectory;
pub use error::{ErrorKind, HuggingFaceError, Result};
pub use info::{SourceType, TensorInfo};
pub use sentence::SentenceModel;
pub use tensor::TensorData;
pub use view::{missing_tokenizer, of_adapted, of_gguf};
