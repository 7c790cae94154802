//! GGUF files, and what they are in transformers' terms.
//!
//! [`Container`] is the file itself: metadata and the places of tensors, every count and offset
//! checked against the size of the file. [`Weight`]s are its tensors under the names, in the row
//! order and with the values that transformers has; [`config`] and [`tokenizer`] are its metadata
//! as config.json and as the tokenizer's files. Values are read by position, block by block.
//! Of a model in several files, [`Parts`] are the files, and [`Container::join`] is their header.

mod architectures;
mod blocks;
mod container;
mod cursor;
mod error;
mod keys;
mod order;
pub mod parts;
mod rope;
mod source;
mod summary;
pub mod tokenizer;
mod types;
mod value;
mod weights;

pub use architectures::config;
pub use container::{Container, Tensor};
pub use error::{Error, ErrorKind, Result};
pub use parts::Parts;
pub use source::Source;
pub use summary::{Share, Summary};
pub use types::TensorType;
pub use value::{List, Value};
pub use weights::{Format, Weight, weights};
