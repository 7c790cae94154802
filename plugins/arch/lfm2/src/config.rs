//! What is LFM2's own in `config.json`.
//!
//! transformers' `Lfm2Config` and `Lfm2ForCausalLM` decide what a key means.

use anemll_decoder::config::{Allowed, Config, Key, layer_count, layer_kinds};
use anemll_decoder::frontend::{Component, Defaults, Family, Form, LayerForm, LayerMixer, Layers};
use anemll_decoder::{QueryKeyNorm, Refusals, ShortConvolution, key_invalid, key_unsupported};
use anemll_plugin_api::Result;

/// The component `lfm2`.
pub(crate) static LFM2: Component = Component {
    id: "lfm2",
    head_pieces: 8,
    families: &[Family {
        model_type: "lfm2",
        architecture: "Lfm2ForCausalLM",
        prefix: "lfm2",
        section: None,
        defaults: Defaults {
            max_position_embeddings: 128_000,
            norm_epsilon: 1e-5,
            norm_epsilon_key: "norm_eps",
            num_attention_heads: Some(32),
            vocabulary_size: Some(65536),
            num_key_value_heads: Some(8),
            rope_theta: 1_000_000.0,
            tie_word_embeddings: true,
            ..Defaults::USUAL
        },
        form,
    }],
};

const TYPES: &str = "layer_types";
const ATTENTION: &str = "full_attention";
const CONVOLUTION: &str = "conv";
const INDICES: &str = "full_attn_idxs";
const LENGTH: &str = "conv_L_cache";
const BIAS: &str = "conv_bias";
const INNER: &str = "intermediate_size";
const INNER_FIRST: &str = "block_ff_dim";
const ADJUST: &str = "block_auto_adjust_ff_dim";
const MULTIPLIER: &str = "block_ffn_dim_multiplier";
const MULTIPLE: &str = "block_multiple_of";
const TIED: &str = "tie_word_embeddings";
const TIED_FIRST: &str = "tie_embedding";

const UNREAD: &str = "transformers does not read it for this architecture";

const KEYS: &[Key] = &[
    Key::used(TYPES),
    Key::used(INDICES),
    Key::used(LENGTH),
    Key::used(BIAS),
    Key::used(INNER_FIRST),
    Key::used(ADJUST),
    Key::used(MULTIPLIER),
    Key::used(MULTIPLE),
    Key::used(TIED_FIRST),
    Key::refused("theta", &[], "give it as `rope_theta`"),
    Key::refused("hidden_act", &[Allowed::Text("silu")], "the MLP's activation is silu here"),
    Key::refused(
        "attention_bias",
        &[Allowed::False],
        "this architecture's attention has no biases",
    ),
    Key::refused("mlp_bias", &[Allowed::False], "this architecture's MLP has no biases"),
    Key::refused("use_qk_norm", &[Allowed::True], "queries and keys always have norms here"),
    Key::refused("qk_norm", &[Allowed::True], "queries and keys always have norms here"),
    Key::ignored("block_dim", UNREAD),
    Key::ignored("block_mlp_init_scale", "acts in training only"),
    Key::ignored("block_norm_eps", UNREAD),
    Key::ignored("block_out_init_scale", "acts in training only"),
    Key::ignored("block_use_swiglu", UNREAD),
    Key::ignored("block_use_xavier_init", "acts in training only"),
    Key::ignored("conv_dim", UNREAD),
    Key::ignored("conv_dim_out", UNREAD),
    Key::ignored("conv_use_xavier_init", "acts in training only"),
    Key::ignored("num_heads", UNREAD),
    Key::ignored("use_pos_enc", UNREAD),
];

/// The width of the MLP, where this key gives it.
const NAMES: &[(&str, &str)] = &[(INNER, INNER_FIRST)];

/// What Llama calls otherwise.
const MODULES: &[(&str, &str)] = &[
    ("norm", "embedding_norm"),
    ("input_layernorm", "operator_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_norm", "self_attn.q_layernorm"),
    ("self_attn.k_norm", "self_attn.k_layernorm"),
    ("self_attn.o_proj", "self_attn.out_proj"),
    ("mlp.gate_proj", "feed_forward.w1"),
    ("mlp.up_proj", "feed_forward.w3"),
    ("mlp.down_proj", "feed_forward.w2"),
];

fn form(config: &Config<'_>, _: u64, refusals: &mut Refusals) -> Result<Form> {
    let attention = refusals.take(attention(config))?.unwrap_or_default();
    let length = refusals.take(config.size(LENGTH))?.flatten().unwrap_or(3);
    let bias = refusals.take(config.boolean(BIAS))?.flatten().unwrap_or(false);
    let convolution = ShortConvolution { length, bias };
    let layer = |attends: &bool| match attends {
        true => LayerForm::default(),
        false => {
            LayerForm { mixer: LayerMixer::ShortConvolution(convolution), ..LayerForm::default() }
        }
    };
    refusals.take(check_head(config))?;
    let inner = refusals.take(intermediate_size(config))?;
    Ok(Form {
        keys: vec![KEYS],
        layers: Layers::Each(attention.iter().map(layer).collect()),
        query_key_norm: Some(QueryKeyNorm::Head),
        // Where it is refused, any will do.
        intermediate_size: Some(inner.unwrap_or(1)),
        key_names: if config.get(INNER_FIRST).is_some() { NAMES } else { &[] },
        modules: MODULES,
        ..Form::default()
    })
}

/// Which layers have attention: `layer_types` says it, or else `full_attn_idxs`, or else all have.
fn attention(config: &Config<'_>) -> Result<Vec<bool>> {
    if config.get(TYPES).is_some() {
        let kinds = layer_kinds(config, TYPES, &[ATTENTION, CONVOLUTION])?;
        return Ok(kinds.iter().map(|kind| *kind == ATTENTION).collect());
    }
    let layers = layer_count(config);
    let Some(indices) = config.numbers(INDICES)? else { return Ok(vec![true; layers as usize]) };
    if let Some(other) = indices.iter().find(|index| !(0..layers).any(|it| it as f64 == **index)) {
        let reason = format!("has {other}, but the last of the {layers} layers is {}", layers - 1);
        return Err(key_invalid(&config.path(INDICES), reason));
    }
    Ok((0..layers).map(|layer| indices.contains(&(layer as f64))).collect())
}

/// `tie_embedding` comes first in transformers; the decoder reads the usual key.
fn check_head(config: &Config<'_>) -> Result<()> {
    let usual = config.boolean(TIED)?.unwrap_or(true);
    match config.boolean(TIED_FIRST)? {
        Some(first) if first != usual => Err(key_unsupported(
            &config.path(TIED_FIRST),
            format!("= {first} contradicts `{}`, which is {usual}", config.path(TIED)),
        )
        .with_hint("give both the same value")),
        _ => Ok(()),
    }
}

/// The inner width of the MLP: two thirds of what is given, times a factor, rounded up to a multiple,
/// unless that is switched off.
fn intermediate_size(config: &Config<'_>) -> Result<u64> {
    let given = match config.size(INNER_FIRST)? {
        Some(size) => size,
        None => config.size(INNER)?.unwrap_or(12288),
    };
    if !config.boolean(ADJUST)?.unwrap_or(true) {
        return Ok(given);
    }
    let size = 2 * given / 3;
    let multiple = config.size(MULTIPLE)?.unwrap_or(256);
    if config.is_null(MULTIPLIER) {
        return Ok(size);
    }
    let multiplier = config.positive(MULTIPLIER)?.unwrap_or(1.0);
    let scaled = (multiplier * size as f64) as u64;
    Ok(scaled.div_ceil(multiple).saturating_mul(multiple))
}
