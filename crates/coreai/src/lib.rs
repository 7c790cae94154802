//! Core AI assets of Core ML packages.
//!
//! [`compile`] lowers every function of a package to the dialect of Core AI and writes `X.aimodel`.
//! All is lowered before anything is written: what Core AI lacks is refused by function and operation.
//! Weights keep their stored form, tables and indices too, and equal ones are stored once for all
//! functions, [of several packages](compile_joined), too. A function whose inputs may have several shapes becomes one function for each. A package may ask for
//! the names and types that Apple's apps expect of a language model.

mod blobs;
mod compile;
mod dynamic;
mod face;
mod failure;
mod functions;
mod general;
mod interface;
mod lower;
mod reading;

pub use compile::{Compiled, compile, compile_joined};
pub use interface::Interface;
