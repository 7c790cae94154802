//! What is Qwen3's own in `config.json`.
//!
//! transformers' `Qwen3Config` and `Qwen3ForCausalLM` decide what a key means.

use anemll_decoder::config::{Allowed, Config, Key, WindowRules, windows_of_layers};
use anemll_decoder::frontend::{Component, Defaults, Family, Form};
use anemll_decoder::{QueryKeyNorm, Refusals};
use anemll_plugin_api::Result;

/// The component `qwen3`.
pub(crate) static QWEN3: Component = Component {
    id: "qwen3",
    head_pieces: 16,
    families: &[Family {
        model_type: "qwen3",
        architecture: "Qwen3ForCausalLM",
        prefix: "qwen",
        section: None,
        defaults: Defaults {
            max_position_embeddings: 32768,
            num_key_value_heads: Some(32),
            head_dim: Some(128),
            ..Defaults::USUAL
        },
        form,
    }],
};

const KEYS: &[Key] = &[
    Key::used("attention_bias"),
    Key::refused("mlp_bias", &[Allowed::False], "this architecture's MLP has no biases"),
    Key::refused("use_qk_norm", &[Allowed::True], "queries and keys always have norms here"),
    Key::refused("qk_norm", &[Allowed::True], "queries and keys always have norms here"),
];

/// What `Qwen3Config` takes where nothing is given.
const WINDOWS: WindowRules =
    WindowRules { on: false, window: Some(4096), first_layer: 28, honoured: true };

fn form(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let windows = windows_of_layers(config, WINDOWS, context, refusals)?;
    let bias = refusals.take(config.boolean("attention_bias"))?.flatten().unwrap_or(false);
    Ok(Form {
        keys: vec![KEYS, windows.keys],
        layers: windows.layers,
        query_key_value_bias: bias,
        output_bias: bias,
        query_key_norm: Some(QueryKeyNorm::Head),
        notes: windows.notes,
        ..Form::default()
    })
}
