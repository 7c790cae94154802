//! Values of stored weights: plain ones, and those that constexpr operations make from lookup
//! tables, scales and masks.
//!
//! [`list`] names the weights of a model and what each is stored in. [`Decoder`] gives the values
//! of one as 32-bit floats, any range of them, without holding the whole, to the runtime as to
//! reports. [`Statistics`],
//! [`TableUse`] and [`Comparison`] are made from these, a piece at a time.

mod compare;
mod decode;
mod error;
mod groups;
mod list;
mod packed;
mod product;
mod source;
mod statistics;
mod table;

pub use compare::Comparison;
pub use decode::{Decoder, Palette, Values};
pub use error::DecodeError;
pub use list::{Part, Place, Weight, list};
pub use packed::unpack_into;
pub use statistics::Statistics;
pub use table::TableUse;

/// Weight files by the name under which a program refers to them, as
/// [`anemll_mlpackage::Package::weight_files`] gives them.
pub type WeightFiles = std::collections::BTreeMap<String, anemll_mlpackage::BlobFile>;
