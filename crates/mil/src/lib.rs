//! MIL programs: typed builder, type and shape inference, validator and Neural Engine lint.
//!
//! A program *is* the protobuf message of `coreml-proto`; this crate adds what the messages do not
//! say. [`builder`] makes functions whose every value has an inferred type, [`ops`] is the table of
//! operations behind that, [`validate`] gives the proof ([`Checked`]) that writers demand,
//! [`mod@lint`] says what the Neural Engine would not like, [`combine`] joins functions into one
//! model and reads what a model's functions take and give, [`literal`] decodes values, [`text`] writes
//! and reads the text form.

pub mod builder;
pub mod combine;
pub mod dtype;
pub mod error;
pub mod identifier;
pub mod lint;
pub mod literal;
pub mod model;
pub mod ops;
pub mod references;
pub mod text;
pub mod types;
pub mod validate;

pub use builder::{Arg, FunctionBuilder, Var};
pub use combine::{
    FunctionInterface, FunctionSource, Port, combine_functions, combine_sources, extract_function,
    interface,
};
pub use dtype::DataType;
pub use error::{Error, Result};
pub use lint::{ChipFloor, Concern, Finding, LintOptions, Severity, lint, lint_with};
pub use literal::{Elements, Literal, TensorLiteral};
pub use model::{DescriptionOptions, function_model, op_histogram};
pub use ops::{OpDefinition, Opset};
pub use references::{BlobReference, blob_references, blob_references_mut};
pub use types::{Dimension, Symbols, TensorType, ValueType};
pub use validate::{
    BlobCatalog, BlobInfo, Checked, Referenced, Resolved, validate_referenced, validate_resolved,
};
