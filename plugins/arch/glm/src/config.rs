//! What is GLM's own in `config.json`.
//!
//! transformers' `GlmConfig`, `GlmForCausalLM`, `Glm4Config` and `Glm4ForCausalLM` decide what a key means.

use anemll_decoder::config::{Allowed, Config, Key};
use anemll_decoder::frontend::{Component, Defaults, Family, Form, Positions};
use anemll_decoder::{Fusion, NormPlacement, Refusals};
use anemll_plugin_api::Result;

/// The component `glm`.
pub(crate) static GLM: Component = Component {
    id: "glm",
    head_pieces: 16,
    families: &[
        Family {
            model_type: "glm4",
            architecture: "Glm4ForCausalLM",
            prefix: "glm4",
            section: None,
            defaults: DEFAULTS,
            form: glm4,
        },
        Family {
            model_type: "glm",
            architecture: "GlmForCausalLM",
            prefix: "glm",
            section: None,
            defaults: DEFAULTS,
            form: glm,
        },
    ],
};

const DEFAULTS: Defaults = Defaults {
    max_position_embeddings: 131_072,
    norm_epsilon: 1.5625e-7,
    num_attention_heads: Some(32),
    vocabulary_size: Some(151_552),
    num_key_value_heads: Some(2),
    head_dim: Some(128),
    ..Defaults::USUAL
};

const BIAS: &str = "attention_bias";

const KEYS: &[Key] = &[
    Key::used(BIAS),
    Key::refused("mlp_bias", &[Allowed::False], "this architecture's MLP has no biases"),
];

/// `partial_rotary_factor` where none is given.
const ROTATED: f64 = 0.5;

/// What Gemma's layers, which also normalize before and after, call otherwise.
const MODULES: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_self_attn_layernorm"),
    ("pre_feedforward_layernorm", "post_attention_layernorm"),
    ("post_feedforward_layernorm", "post_mlp_layernorm"),
];

/// Llama with a fused MLP and a half of each head that turns, by neighbours. The output projection never
/// has a bias.
fn glm(config: &Config<'_>, _: u64, refusals: &mut Refusals) -> Result<Form> {
    let bias = refusals.take(config.boolean(BIAS))?.flatten().unwrap_or(true);
    Ok(Form {
        keys: vec![KEYS],
        query_key_value_bias: bias,
        positions: Positions { interleaved: true, partial: Some(ROTATED), ..Positions::default() },
        fusion: Fusion::Mlp,
        ..Form::default()
    })
}

/// The same with norms before and after attention and MLP.
fn glm4(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let form = glm(config, context, refusals)?;
    Ok(Form { placement: NormPlacement::Both, modules: MODULES, ..form })
}
