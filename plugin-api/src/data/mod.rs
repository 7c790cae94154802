//! The structured data that crosses the plugin boundary, as JSON.
//!
//! Keys may be added within an ABI epoch: readers ignore keys that they do not know, and every key
//! that was added later has a default.

mod layout;
mod manifest;
mod model;
mod quantize;
mod runtime;
mod weight_reference;

pub use layout::*;
pub use manifest::*;
pub use model::*;
pub use quantize::*;
pub use runtime::*;
pub use weight_reference::*;
