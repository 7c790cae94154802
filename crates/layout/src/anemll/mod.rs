//! The names that ANEMLL 0.3.5 gives, written and read: packages, values, keys of `meta.yaml`.
//!
//! They stand here alone. What was converted by this program says in a description of its own how it
//! is run; for what was not, [`run_order`] finds it out from these names.

mod keys;
mod meta;
mod stems;
mod values;

pub use keys::{FUNCTIONS, HEAD_SIZES, KEYS, OPTIONS, SHARED, SOURCE};
pub use meta::run_order;
pub use stems::{
    COMBINED, EMBEDDINGS, HEAD, INFER, PREFILL, Stem, WHOLE, WHOLE_COMBINED, WHOLE_FULL,
    WHOLE_PREFILL, lut_suffix, rotating, stem,
};
pub use values::{
    EMBEDDING, INPUT_MASK, INPUT_POSITION, INPUT_POSITIONS, INPUT_TOKENS, LARGEST_INDEX,
    LARGEST_VALUE, POOLED, POOLED_OUTPUT, POOLING_WEIGHTS, feeds, head_sizes, is_cache, logits,
};
