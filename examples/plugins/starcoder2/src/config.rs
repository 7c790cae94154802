//! What StarCoder2's `config.json` means.
//!
//! transformers' `Starcoder2Config` and `Starcoder2ForCausalLM` decide it.

use anemll_decoder::config::{Allowed, Config, Key, window_everywhere};
use anemll_decoder::frontend::{Component, Defaults, Family, Form};
use anemll_decoder::{Activation, Norm, Refusals};
use anemll_plugin_api::Result;

/// The component `starcoder2`.
pub static COMPONENT: Component = Component {
    id: "starcoder2",
    head_pieces: 8,
    families: &[Family {
        model_type: "starcoder2",
        architecture: "Starcoder2ForCausalLM",
        prefix: "starcoder2",
        section: None,
        defaults: Defaults {
            max_position_embeddings: 4096,
            norm_epsilon: 1e-5,
            norm_epsilon_key: "norm_epsilon",
            num_key_value_heads: Some(2),
            tie_word_embeddings: true,
            activation: Activation::GeluTanh,
            ..Defaults::USUAL
        },
        form,
    }],
};

const KEYS: &[Key] = &[
    Key::used("use_bias"),
    Key::refused("mlp_type", &[Allowed::Text("default")], "the MLP has no gate here"),
    Key::refused("norm_type", &[Allowed::Text("layer_norm")], "all norms are LayerNorms here"),
    Key::ignored("attention_softmax_in_fp32", "the softmax is exact enough either way"),
    Key::ignored("scale_attention_softmax_in_fp32", "the softmax is exact enough either way"),
    Key::ignored("embedding_dropout", "acts in training only"),
    Key::ignored("residual_dropout", "acts in training only"),
];

/// What Llama calls otherwise.
const MODULES: &[(&str, &str)] = &[("mlp.up_proj", "mlp.c_fc"), ("mlp.down_proj", "mlp.c_proj")];

fn form(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let bias = refusals.take(config.boolean("use_bias"))?.flatten().unwrap_or(true);
    let window = window_everywhere(config, None, context, refusals)?;
    Ok(Form {
        keys: vec![KEYS, window.keys],
        layers: window.layers,
        norm: Norm::LAYER,
        query_key_value_bias: bias,
        output_bias: bias,
        gated: false,
        mlp_bias: bias,
        modules: MODULES,
        notes: window.notes,
        ..Form::default()
    })
}
