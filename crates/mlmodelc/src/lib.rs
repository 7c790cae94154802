//! Compiled Core ML models (`.mlmodelc`) of the ML Program type: writing, reading, comparing.
//!
//! For ML Programs Apple's `coremlcompiler` prints what the package says: the program as text
//! (`model.mil`), the description in an archive (`coremldata.bin`), a summary for tools
//! (`metadata.json`), and the weight files unchanged. [`compile`] does the same on any system;
//! [`CompiledModel`] reads the result, whoever made it; [`compare`] says where two differ.
//! `docs/reference/compiled-format.md` describes the files and says what of them is guessed.

mod analytics;
mod compare;
mod compile;
mod compiled;
mod coremldata;
mod current;
pub mod metadata;
mod model_type;
mod wire;

pub use analytics::Analytics;
pub use compare::{Comparison, Difference, compare};
pub use compile::{Compiled, Options, Weights, compile, guesses};
pub use compiled::CompiledModel;
pub use coremldata::CoremlData;
pub use current::{is_current, is_made_from};
pub use model_type::{ModelType, model_type};

/// Specification versions that are written and read.
pub const SPECIFICATION_VERSIONS: std::ops::RangeInclusive<i32> = 6..=9;

/// Names of the files in a compiled model.
pub mod files {
    /// The program as text.
    pub const PROGRAM: &str = "model.mil";
    /// Specification version and description.
    pub const DESCRIPTION: &str = "coremldata.bin";
    /// The summary for tools.
    pub const METADATA: &str = "metadata.json";
    /// Folder of the analytics file.
    pub const ANALYTICS_FOLDER: &str = "analytics";
    /// Name and hash of the source model.
    pub const ANALYTICS: &str = "analytics/coremldata.bin";
    /// Folder of the weight files.
    pub const WEIGHTS: &str = "weights";
}
