//! What is Llama's own in `config.json`, and Mistral's where it is the same model.
//!
//! transformers' `LlamaConfig` and `LlamaForCausalLM` (and `MistralConfig`, `MistralForCausalLM`)
//! decide what a key means.

use anemll_decoder::config::{
    Allowed, Config, Key, WindowRules, window_everywhere, windows_of_layers,
};
use anemll_decoder::frontend::{Component, Defaults, Family, Form};
use anemll_decoder::{OutputProjection, Refusals, SoftmaxForm};
use anemll_plugin_api::Result;

/// The component `llama`.
pub(crate) static LLAMA: Component = Component {
    id: "llama",
    prefix: "llama",
    head_pieces: 8,
    families: &[
        Family {
            model_type: "llama",
            architecture: "LlamaForCausalLM",
            defaults: Defaults {
                max_position_embeddings: 2048,
                rms_norm_eps: 1e-6,
                num_key_value_heads: None,
                head_dim: None,
            },
            form: llama,
        },
        Family {
            model_type: "mistral",
            architecture: "MistralForCausalLM",
            defaults: Defaults {
                max_position_embeddings: 4096 * 32,
                rms_norm_eps: 1e-6,
                num_key_value_heads: Some(8),
                head_dim: None,
            },
            form: mistral,
        },
    ],
};

const LLAMA_KEYS: &[Key] = &[
    Key::used("attention_bias"),
    Key::used("mlp_bias"),
    Key::used("pretraining_tp"),
    Key::ignored("is_llama_config", "the model is one"),
];

/// transformers' Llama has no windows; where a configuration has one, it is another model's, and is
/// taken at its word.
const WINDOWS: WindowRules = WindowRules { on: true, window: None, first_layer: 0 };

/// `sliding_window` of `MistralConfig` where none is given.
const MISTRAL_WINDOW: u64 = 4096;

const NO_BIASES: &str = "the projections of this architecture have no biases";

const MISTRAL_KEYS: &[Key] = &[
    Key::refused("attention_bias", &[Allowed::False], NO_BIASES),
    Key::refused("mlp_bias", &[Allowed::False], NO_BIASES),
];

fn llama(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let windows = windows_of_layers(config, WINDOWS, context, refusals)?;
    let mut notes = windows.notes;
    let ranks = refusals.take(config.size("pretraining_tp"))?.flatten();
    if let Some(ranks) = ranks.filter(|ranks| *ranks > 1) {
        notes.push(format!(
            "config.json: `pretraining_tp` = {ranks} only changes the order of sums and was ignored"
        ));
    }
    let bias = refusals.take(config.boolean("attention_bias"))?.flatten().unwrap_or(false);
    let mlp_bias = refusals.take(config.boolean("mlp_bias"))?.flatten().unwrap_or(false);
    Ok(form(vec![LLAMA_KEYS, windows.keys], bias, mlp_bias, notes))
}

fn mistral(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let window = window_everywhere(config, MISTRAL_WINDOW, context, refusals)?;
    Ok(form(vec![MISTRAL_KEYS, window.keys], false, false, window.notes))
}

/// The graph in the form that ANEMLL gives Llama: output projection as `linear`, softmax spelled
/// out.
fn form(keys: Vec<&'static [Key]>, attention: bool, mlp: bool, notes: Vec<String>) -> Form {
    Form {
        keys,
        query_key_value_bias: attention,
        output_bias: attention,
        mlp_bias: mlp,
        query_key_norm: false,
        output_projection: OutputProjection::Linear,
        softmax: SoftmaxForm::Spelled,
        notes,
    }
}
