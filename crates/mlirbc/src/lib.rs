//! The container of MLIR bytecode: sections, tables, operations and blobs, written and read.
//!
//! Nothing here knows a dialect. Attributes, types and properties are bytes whose meaning is their
//! dialect's; [`Reader`] and [`Record`] read and write the primitives of which those consist.
//! A [`Document`] is all of a file but its blobs, which stay in the file ([`read()`]) or come from
//! the caller while the file is written ([`write()`]): no blob is ever held in memory here.
//!
//! Version 6 is written; 5 and 6, which have the same form, are read.

mod document;
mod dump;
mod error;
mod primitives;
mod read;
mod read_operations;
mod source;
mod write;

pub use document::{
    Block, Dialect, Document, Encoded, Operation, OperationName, Region, Resource, VERSIONS,
};
pub use dump::dump;
pub use error::{Error, Result};
pub use primitives::{Reader, Record};
pub use read::read;
pub use source::Source;
pub use write::{BLOB_ALIGNMENT, write};
