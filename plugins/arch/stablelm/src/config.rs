//! What is StableLM's own in `config.json`.
//!
//! transformers' `StableLmConfig` and `StableLmForCausalLM` decide what a key means.

use anemll_decoder::config::{Allowed, Config, Key};
use anemll_decoder::frontend::{Component, Defaults, Family, Form, Positions};
use anemll_decoder::{Norm, NormPlacement, Refusals};
use anemll_plugin_api::Result;

/// The component `stablelm`.
pub(crate) static STABLELM: Component = Component {
    id: "stablelm",
    head_pieces: 8,
    families: &[Family {
        model_type: "stablelm",
        architecture: "StableLmForCausalLM",
        prefix: "stablelm",
        section: None,
        defaults: Defaults {
            max_position_embeddings: 4096,
            norm_epsilon: 1e-5,
            norm_epsilon_key: "layer_norm_eps",
            num_key_value_heads: Some(32),
            ..Defaults::USUAL
        },
        form,
    }],
};

const BIAS: &str = "use_qkv_bias";
const PARALLEL: &str = "use_parallel_residual";

const KEYS: &[Key] = &[
    Key::used(BIAS),
    Key::used(PARALLEL),
    Key::refused(
        "qk_layernorm",
        &[Allowed::False],
        "a separate norm for each head is not supported",
    ),
    Key::refused("mlp_bias", &[Allowed::False], "this architecture's MLP has no biases"),
];

/// `partial_rotary_factor` where none is given.
const ROTATED: f64 = 0.25;

fn form(config: &Config<'_>, _: u64, refusals: &mut Refusals) -> Result<Form> {
    let bias = refusals.take(config.boolean(BIAS))?.flatten().unwrap_or(false);
    let parallel = refusals.take(config.boolean(PARALLEL))?.flatten().unwrap_or(false);
    Ok(Form {
        keys: vec![KEYS],
        norm: Norm::LAYER,
        placement: if parallel { NormPlacement::Parallel } else { NormPlacement::Before },
        query_key_value_bias: bias,
        positions: Positions { partial: Some(ROTATED), ..Positions::default() },
        ..Form::default()
    })
}
