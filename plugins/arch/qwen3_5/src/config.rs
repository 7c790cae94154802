//! What is Qwen3.5's own in `config.json`.
//!
//! transformers' `Qwen3_5TextConfig` and `Qwen3_5ForCausalLM` decide what a key means.

use anemll_decoder::config::{Allowed, Config, Key, layer_count, layer_kinds};
use anemll_decoder::frontend::{
    Component, Defaults, Family, Form, LayerForm, LayerMixer, Layers, Positions,
};
use anemll_decoder::{DeltaNet, Norm, QueryKeyNorm, Refusals, SiluForm};
use anemll_plugin_api::Result;

const DEFAULTS: Defaults = Defaults {
    max_position_embeddings: 32768,
    num_attention_heads: Some(16),
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    vocabulary_size: Some(248_320),
    outer_tie: true,
    ..Defaults::USUAL
};

/// The component `qwen3_5`.
pub(crate) static QWEN3_5: Component = Component {
    id: "qwen3_5",
    head_pieces: 16,
    families: &[
        Family {
            model_type: "qwen3_5_text",
            architecture: "Qwen3_5ForCausalLM",
            prefix: "qwen35",
            section: None,
            defaults: DEFAULTS,
            form,
        },
        Family {
            model_type: "qwen3_5",
            architecture: "Qwen3_5ForConditionalGeneration",
            prefix: "qwen35",
            section: Some("text_config"),
            defaults: DEFAULTS,
            form,
        },
    ],
};

const TYPES: &str = "layer_types";
const FULL: &str = "full_attention";
const LINEAR: &str = "linear_attention";
const INTERVAL: &str = "full_attention_interval";
const BIAS: &str = "attention_bias";
const TAPS: &str = "linear_conv_kernel_dim";
const KEY_WIDTH: &str = "linear_key_head_dim";
const VALUE_WIDTH: &str = "linear_value_head_dim";
const KEY_HEADS: &str = "linear_num_key_heads";
const VALUE_HEADS: &str = "linear_num_value_heads";

/// What says which layers attend, where they are not listed.
const NAMES: &[(&str, &str)] = &[(TYPES, INTERVAL)];

const FURTHER: &str = "the layers that predict further tokens are left out";

const KEYS: &[Key] = &[
    Key::used(TYPES),
    Key::used(INTERVAL),
    Key::used(BIAS),
    Key::used(TAPS),
    Key::used(KEY_WIDTH),
    Key::used(VALUE_WIDTH),
    Key::used(KEY_HEADS),
    Key::used(VALUE_HEADS),
    Key::refused("attn_output_gate", &[Allowed::True], "attention always has a gate here"),
    Key::refused(
        "hidden_act",
        &[Allowed::Text("silu"), Allowed::Text("swish")],
        "convolutions and gates have silu here",
    ),
    Key::refused("mlp_bias", &[Allowed::False], "this architecture's MLP has no biases"),
    Key::refused("use_qk_norm", &[Allowed::True], "queries and keys always have norms here"),
    Key::refused("qk_norm", &[Allowed::True], "queries and keys always have norms here"),
    Key::ignored("mamba_ssm_dtype", "states are 16-bit floats in Core ML"),
    Key::ignored("mtp_num_hidden_layers", FURTHER),
    Key::ignored("mtp_use_dedicated_embeddings", FURTHER),
];

fn form(config: &Config<'_>, _: u64, refusals: &mut Refusals) -> Result<Form> {
    let attends = refusals.take(attention(config))?.unwrap_or_default();
    let bias = refusals.take(config.boolean(BIAS))?.flatten().unwrap_or(false);
    let mut size = |key, usual| {
        let given = refusals.take(config.size(key))?.flatten();
        Ok::<_, anemll_plugin_api::Error>(given.unwrap_or(usual))
    };
    let delta_net = DeltaNet {
        key_heads: size(KEY_HEADS, 16)?,
        value_heads: size(VALUE_HEADS, 32)?,
        key_width: size(KEY_WIDTH, 128)?,
        value_width: size(VALUE_WIDTH, 128)?,
        taps: size(TAPS, 4)?,
    };
    let layer = |attends: &bool| match attends {
        true => LayerForm::default(),
        false => LayerForm { mixer: LayerMixer::DeltaNet(delta_net), ..LayerForm::default() },
    };
    Ok(Form {
        keys: vec![KEYS],
        layers: Layers::Each(attends.iter().map(layer).collect()),
        norm: Norm::RMS_ONE_PLUS,
        query_key_norm: Some(QueryKeyNorm::Head),
        query_key_value_bias: bias,
        output_bias: bias,
        output_gate: true,
        positions: Positions { partial: Some(0.25), sections: true, ..Positions::default() },
        silu: SiluForm::Tanh,
        key_names: if config.get(TYPES).is_some() { &[] } else { NAMES },
        ..Form::default()
    })
}

/// Which layers have full attention: `layer_types` says it, or else every so many.
fn attention(config: &Config<'_>) -> Result<Vec<bool>> {
    if config.get(TYPES).is_some() {
        let kinds = layer_kinds(config, TYPES, &[FULL, LINEAR])?;
        return Ok(kinds.iter().map(|kind| *kind == FULL).collect());
    }
    let interval = config.size(INTERVAL)?.unwrap_or(4);
    Ok((1..=layer_count(config)).map(|layer| layer % interval == 0).collect())
}
