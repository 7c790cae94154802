//! What is Qwen2's own in `config.json`.
//!
//! transformers' `Qwen2Config` and `Qwen2ForCausalLM` decide what a key means.

use anemll_decoder::Refusals;
use anemll_decoder::config::{Allowed, Config, Key, WindowRules, windows_of_layers};
use anemll_decoder::frontend::{Component, Defaults, Family, Form};
use anemll_plugin_api::Result;

/// The component `qwen2_5`.
pub(crate) static QWEN2_5: Component = Component {
    id: "qwen2_5",
    head_pieces: 16,
    families: &[Family {
        model_type: "qwen2",
        architecture: "Qwen2ForCausalLM",
        prefix: "qwen25",
        section: None,
        defaults: Defaults {
            max_position_embeddings: 32768,
            num_key_value_heads: Some(32),
            ..Defaults::USUAL
        },
        form,
    }],
};

const FIXED_BIASES: &str =
    "the biases of this architecture are fixed: on queries, keys and values, nowhere else";

const KEYS: &[Key] = &[
    // The weight files decide: a bias that is missing is an error, one too many a remark.
    Key::ignored("attention_bias", FIXED_BIASES),
    Key::refused("mlp_bias", &[Allowed::False], FIXED_BIASES),
    Key::refused("qkv_bias", &[Allowed::True], FIXED_BIASES),
];

/// What `Qwen2Config` takes where nothing is given.
const WINDOWS: WindowRules =
    WindowRules { on: false, window: Some(4096), first_layer: 28, honoured: true };

fn form(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let windows = windows_of_layers(config, WINDOWS, context, refusals)?;
    Ok(Form {
        keys: vec![KEYS, windows.keys],
        layers: windows.layers,
        query_key_value_bias: true,
        notes: windows.notes,
        ..Form::default()
    })
}
