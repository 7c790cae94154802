//! What is in a package, a model file or a compiled model.

pub mod features;
pub mod findings;
pub mod html;
pub mod open;
mod report;
pub mod terminal_text;
pub(crate) use terminal_text::operations_text;
pub mod weights;

pub use report::{Inspection, SCHEMA, Scope, check_function, minimum_system};
