//! What is Cohere's own in `config.json`.
//!
//! transformers' `CohereConfig`, `CohereForCausalLM`, `Cohere2Config` and `Cohere2ForCausalLM` decide what
//! a key means.

use anemll_decoder::config::{Allowed, Config, Key, windows_by_pattern};
use anemll_decoder::frontend::{Component, Defaults, Family, Form, Positions};
use anemll_decoder::{Norm, NormPlacement, Refusals, key_invalid};
use anemll_plugin_api::Result;

const DEFAULTS: Defaults = Defaults {
    max_position_embeddings: 8192,
    norm_epsilon: 1e-5,
    norm_epsilon_key: "layer_norm_eps",
    num_attention_heads: Some(64),
    vocabulary_size: Some(256_000),
    tie_word_embeddings: true,
    ..Defaults::USUAL
};

/// The component `cohere`.
pub(crate) static COHERE: Component = Component {
    id: "cohere",
    head_pieces: 16,
    families: &[
        Family {
            model_type: "cohere2",
            architecture: "Cohere2ForCausalLM",
            prefix: "cohere2",
            section: None,
            defaults: DEFAULTS,
            form: cohere2,
        },
        Family {
            model_type: "cohere",
            architecture: "CohereForCausalLM",
            prefix: "cohere",
            section: None,
            defaults: DEFAULTS,
            form: cohere,
        },
    ],
};

const BIAS: &str = "attention_bias";
const LOGITS: &str = "logit_scale";
const PATTERN: &str = "sliding_window_pattern";
const ALWAYS: &str = "every model of this architecture is made so";

const KEYS: &[Key] = &[
    Key::used(BIAS),
    Key::used(LOGITS),
    Key::refused("mlp_bias", &[Allowed::False], "this architecture's MLP has no biases"),
    Key::refused("use_embedding_sharing", &[Allowed::True], ALWAYS),
    Key::refused("use_gated_activation", &[Allowed::True], ALWAYS),
    Key::refused("use_parallel_block", &[Allowed::True], ALWAYS),
    Key::refused("position_embedding_type", &[Allowed::Text("rope_gptj")], ALWAYS),
    Key::ignored("cache_implementation", "the converted model keeps its keys and values itself"),
    Key::ignored("use_parallel_embedding", "says how a model is spread over machines"),
];

const KEYS_OF_WINDOWS: &[Key] = &[
    Key::used(PATTERN),
    Key::ignored("_sliding_window_pattern", "`layer_types` or the pattern is read instead"),
    Key::ignored("layer_switch", "`layer_types` or the pattern is read instead"),
    Key::ignored("order_of_interleaved_layers", "`layer_types` or the pattern is read instead"),
];

/// `logit_scale` where none is given.
const USUAL_SCALE: f64 = 0.0625;
/// `sliding_window` and `sliding_window_pattern` where none is given.
const USUAL_WINDOW: u64 = 4096;
const FULL_EVERY: u64 = 4;

fn cohere(config: &Config<'_>, _: u64, refusals: &mut Refusals) -> Result<Form> {
    let bias = refusals.take(config.boolean(BIAS))?.flatten().unwrap_or(false);
    if config.is_null(LOGITS) {
        // transformers multiplies with it, and fails.
        refusals.push(key_invalid(&config.path(LOGITS), "is null; the logits need a factor"))?;
    }
    let scale = refusals.take(config.positive(LOGITS))?.flatten().unwrap_or(USUAL_SCALE);
    Ok(Form {
        keys: vec![KEYS],
        norm: Norm { bias: false, ..Norm::LAYER },
        placement: NormPlacement::Parallel,
        query_key_value_bias: bias,
        output_bias: bias,
        positions: Positions { interleaved: true, ..Positions::default() },
        logit_scale: scale,
        ..Form::default()
    })
}

/// Layers that see all know no positions.
fn cohere2(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let every = refusals.take(config.size(PATTERN))?.flatten().unwrap_or(FULL_EVERY);
    let windows = windows_by_pattern(config, every, USUAL_WINDOW, context, refusals)?
        .with_rotation_in_windows_alone();
    let mut form = cohere(config, context, refusals)?;
    form.keys.extend([KEYS_OF_WINDOWS, windows.keys]);
    form.layers = windows.layers;
    form.notes = windows.notes;
    Ok(form)
}
