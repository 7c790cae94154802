//! Core AI programs: functions of the versioned dialect `aicode` in a container of MLIR bytecode.
//!
//! What the dialect consists of stands in tables: operations ([`OPERATIONS`]), element types
//! ([`ElementType`]), and the records of attributes and types. [`BlockBuilder`] makes operations with
//! the types of their results and, where they need one, the body that says what they mean.
//! [`verify`] refuses what loaders only crash on. [`asset`] writes and reads `X.aimodel`.

pub mod asset;
mod attribute;
mod bodies;
mod builder;
mod decode;
mod element;
mod encode;
mod operations;
mod program;
mod records;
mod text;
mod types;
mod verify;

pub use attribute::{Attribute, choice};
pub use bodies::block;
pub use builder::{BlockBuilder, Value, Window};
pub use element::ElementType;
pub use operations::{OPERATIONS, OperationDefinition, find};
pub use program::{Blob, Block, Function, Operation, Port, Program};
pub use text::text;
pub use types::{DYNAMIC, Layout, Memory, TensorType, Type};
pub use verify::{Error, verify};

/// The lowest version of the dialect that has all that the functions use: what
/// [`Program::version`] is to be.
pub fn needed_version(functions: &[Function]) -> u32 {
    encode::needed_version(functions)
}
