//! What combiners share: package names, metadata, the split of layers, joining functions.
//!
//! The names, metadata keys and steps are those of ANEMLL 0.3.5, so that its apps find the parts.

mod checked;
mod combine;
mod combiner;
mod meta;
mod metadata;
mod model;
mod names;
mod packages;
mod split;

pub use checked::{CheckedLayout, layout_error};
pub use combine::combine;
pub use combiner::{LayoutCombiner, LayoutFunction};
pub use meta::{common_keys, file_key, head_keys, lut_key};
pub use metadata::PartMetadata;
pub use model::check_model;
pub use names::{chunk_suffix, lut_suffix, prefix};
pub use packages::{
    EVALUATE_DIRECTORY, INFER, MAIN, PREFILL, combined, part, run_step, steps, weight_file,
};
pub use split::{layer_ranges, layers_text};
