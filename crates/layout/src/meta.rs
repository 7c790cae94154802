//! The keys of `model_info.parameters` in `meta.yaml` that a layout decides.

use crate::LayoutOptions;
use anemll_plugin_api::data::ModelDescription;
use serde_json::{Map, Value, json};

/// The names of the functions.
pub(crate) const FUNCTIONS: &str = "functions";

/// `model_type`, `context_length`, `batch_size`, `num_chunks` and `model_prefix`. The apps read
/// `model_type` from `model_info` itself, so whoever writes `meta.yaml` puts it there too.
pub fn common_keys(
    model: &ModelDescription,
    model_type: &str,
    chunks: u32,
    prefix: &str,
) -> Map<String, Value> {
    let mut keys = Map::new();
    keys.insert("model_type".to_owned(), model_type.into());
    keys.insert("context_length".to_owned(), model.context.into());
    keys.insert("batch_size".to_owned(), model.batch.into());
    keys.insert("num_chunks".to_owned(), chunks.into());
    keys.insert("model_prefix".to_owned(), prefix.into());
    keys
}

/// Sets a key such as `lut_ffn` to the bits, or to `none` for float16.
pub fn lut_key(keys: &mut Map<String, Value>, key: &str, bits: Option<u32>) {
    keys.insert(key.to_owned(), bits.map_or_else(|| "none".into(), Value::from));
}

/// Sets a key such as `ffn` to the compiled folder of the package with this stem.
pub fn file_key(keys: &mut Map<String, Value>, key: &str, stem: &str) {
    keys.insert(key.to_owned(), format!("{stem}.mlmodelc").into());
}

/// Sets what the apps need to read the head's outputs (`split_lm_head`, `vocab_size`,
/// `lm_head_chunk_sizes`, `argmax_in_model` where it is true), and `functions`.
pub fn head_keys(
    keys: &mut Map<String, Value>,
    model: &ModelDescription,
    options: &LayoutOptions,
    functions: &[&str],
) {
    keys.insert("split_lm_head".to_owned(), model.head_splits.len().into());
    keys.insert("vocab_size".to_owned(), model.vocabulary_size.into());
    keys.insert("lm_head_chunk_sizes".to_owned(), json!(model.head_splits));
    if options.argmax {
        keys.insert("argmax_in_model".to_owned(), true.into());
    }
    keys.insert(FUNCTIONS.to_owned(), json!(functions));
}

/// Sets the rows that share one table, part by part; 0 is one table for the whole tensor.
pub fn group_keys(keys: &mut Map<String, Value>, options: &LayoutOptions) {
    let groups = options.groups;
    for (part, group) in
        [("embeddings", groups.embeddings), ("ffn", groups.layers), ("lmhead", groups.head)]
    {
        if let Some(group) = group {
            keys.insert(format!("lut_{part}_per_channel"), group.into());
        }
    }
}
