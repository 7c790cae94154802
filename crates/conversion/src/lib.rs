//! Finished conversions: what is in them, and how they are run.
//!
//! A conversion says so itself, in [`FILE`] ([`Description`], docs/reference/run.md). Of one that has
//! no such file, made by ANEMLL, it is found out from meta.yaml. Either is checked as a whole, since
//! others may have made it: no name leaves the directory, every call is of a function that is there.

mod check;
mod conversion;
mod description;
mod joined;

pub use conversion::{Conversion, Form, META, REPORT, comment, locate, source_sha256};
pub use description::{
    Description, Embedding, FILE, FunctionEntry, HeadNames, InputNames, LargestNames, PackageEntry,
    Ring, SCHEMA, shipped,
};
pub use joined::joined;
