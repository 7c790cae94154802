//! What combiners share: package names, metadata, the split of layers, joining functions.
//!
//! The names, metadata keys and steps are those of ANEMLL 0.3.5, so that its apps find the parts.

pub mod anemll;
pub mod apple;
mod checked;
mod combine;
mod combiner;
mod embed;
mod meta;
mod metadata;
mod model;
mod options;
mod packages;
mod prefix;
mod split;
mod verify;

pub use checked::{CheckedLayout, file_name_problem, layout_error};
pub use combine::combine;
pub use combiner::{LayoutCombiner, LayoutFunction};
pub use embed::{embed_in_chunks, embed_whole, is_embedding};
pub use meta::{common_keys, file_key, group_keys, head_keys, lut_key};
pub use metadata::PartMetadata;
pub use model::check_model;
pub use options::{LayoutOptions, Parts};
pub use packages::{EVALUATE_DIRECTORY, INFER, MAIN, PREFILL, called, combined, evaluation, part};
pub use prefix::prefix;
pub use split::{in_words, layer_ranges, layers_text};
pub use verify::Verify;
