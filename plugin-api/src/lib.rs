//! All that an anemll plugin author needs: the five stage traits, the manifest, the exporting macro.

mod abi;
pub mod codes;
pub mod data;
mod dtype;
mod error;
mod host;
#[cfg(feature = "loader")]
mod library_file;
pub mod limits;
mod loaded;
#[cfg(feature = "loader")]
mod loader;
mod macros;
mod plugin;
mod sink;
mod stages;
mod tensor;
pub mod testing;

pub use dtype::DType;
pub use error::{Error, Result};
pub use host::{Host, HostServices, Level};
pub use loaded::{ABI_EPOCH, Builtin, LoadedPlugin, Origin, builtin_plugins};
#[cfg(feature = "loader")]
pub use loader::{LoadOptions, manifest_of_file};
pub use plugin::{Plugin, no_such_component};
pub use sink::{MemorySink, Sink};
pub use stages::{ArchFrontend, Combiner, Compiler, Quantizer, Runtime, Session};
pub use tensor::{Tensor, TensorView};

/// `serde_json`'s value, in which options are given.
pub use serde_json::Value;

/// What the macros expand to; no one else's business.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::abi::header::{LibHeader, MANIFEST_HEADER, library_header, manifest_symbol};
}
