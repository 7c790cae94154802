//! What is EXAONE 4's own in `config.json`.
//!
//! transformers' `Exaone4Config` and `Exaone4ForCausalLM` decide what a key means.

use anemll_decoder::config::{Allowed, Config, Key, windows_by_pattern};
use anemll_decoder::frontend::{Component, Defaults, Family, Form};
use anemll_decoder::{NormPlacement, QueryKeyNorm, Refusals};
use anemll_plugin_api::Result;

/// The component `exaone4`.
pub(crate) static EXAONE4: Component = Component {
    id: "exaone4",
    head_pieces: 16,
    families: &[Family {
        model_type: "exaone4",
        architecture: "Exaone4ForCausalLM",
        prefix: "exaone4",
        section: None,
        defaults: Defaults {
            norm_epsilon: 1e-5,
            num_attention_heads: Some(32),
            vocabulary_size: Some(102_400),
            num_key_value_heads: Some(32),
            ..Defaults::USUAL
        },
        form,
    }],
};

const PATTERN: &str = "sliding_window_pattern";
const TYPES: &str = "layer_types";
const WINDOW: &str = "sliding_window";
const NO_BIASES: &str = "the projections of this architecture have no biases";

const KEYS: &[Key] = &[
    Key::used(PATTERN),
    Key::refused("attention_bias", &[Allowed::False], NO_BIASES),
    Key::refused("mlp_bias", &[Allowed::False], NO_BIASES),
    Key::ignored("cache_implementation", "the converted model keeps its keys and values itself"),
];

/// `sliding_window` and `sliding_window_pattern` where none is given.
const USUAL_WINDOW: u64 = 4096;
const FULL_EVERY: u64 = 4;

fn form(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    // Where the layers are listed, the pattern is for people, such as "LLLG".
    let every = match config.get(TYPES) {
        Some(_) => FULL_EVERY,
        None => refusals.take(config.size(PATTERN))?.flatten().unwrap_or(FULL_EVERY),
    };
    let mut windows = windows_by_pattern(config, every, USUAL_WINDOW, context, refusals)?;
    // Without a window all layers rotate.
    if !config.is_null(WINDOW) {
        windows = windows.with_rotation_in_windows_alone();
    }
    Ok(Form {
        keys: vec![KEYS, windows.keys],
        layers: windows.layers,
        placement: NormPlacement::After,
        query_key_norm: Some(QueryKeyNorm::Head),
        notes: windows.notes,
        ..Form::default()
    })
}
