//! What is Llama's own in `config.json`, and Mistral's, Ministral's and Arcee's.
//!
//! transformers' `LlamaConfig` and `LlamaForCausalLM` (and `MistralConfig`, `MistralForCausalLM`,
//! `Ministral3Config`, `Ministral3ForCausalLM`, `ArceeConfig`, `ArceeForCausalLM`) decide what a key
//! means.

use anemll_decoder::config::{
    Allowed, Config, Key, WindowRules, window_everywhere, windows_of_layers,
};
use anemll_decoder::frontend::{Component, Defaults, Family, Form, Positions};
use anemll_decoder::{
    Activation, OutputProjection, Refusals, SoftmaxForm, key_missing, key_unsupported,
};
use anemll_plugin_api::Result;

/// The component `llama`.
pub(crate) static LLAMA: Component = Component {
    id: "llama",
    head_pieces: 8,
    families: &[
        Family {
            model_type: "llama",
            architecture: "LlamaForCausalLM",
            prefix: "llama",
            section: None,
            defaults: Defaults::USUAL,
            form: llama,
        },
        Family {
            model_type: "mistral",
            architecture: "MistralForCausalLM",
            prefix: "llama",
            section: None,
            defaults: Defaults {
                max_position_embeddings: 4096 * 32,
                num_key_value_heads: Some(8),
                ..Defaults::USUAL
            },
            form: mistral,
        },
        Family {
            model_type: "ministral3",
            architecture: "Ministral3ForCausalLM",
            prefix: "llama",
            section: None,
            defaults: MINISTRAL,
            form: ministral,
        },
        Family {
            model_type: "mistral3",
            architecture: "Mistral3ForConditionalGeneration",
            prefix: "llama",
            section: Some("text_config"),
            defaults: MINISTRAL,
            form: ministral_of_images,
        },
        Family {
            model_type: "arcee",
            architecture: "ArceeForCausalLM",
            prefix: "llama",
            section: None,
            defaults: Defaults {
                max_position_embeddings: 4096,
                norm_epsilon: 1e-5,
                activation: Activation::ReluSquared,
                ..Defaults::USUAL
            },
            form: arcee,
        },
    ],
};

/// What `Ministral3Config` takes where nothing is given.
const MINISTRAL: Defaults = Defaults {
    max_position_embeddings: 262_144,
    norm_epsilon: 1e-5,
    num_attention_heads: Some(32),
    vocabulary_size: Some(131_072),
    num_key_value_heads: Some(8),
    head_dim: Some(128),
    ..Defaults::USUAL
};

const LLAMA_KEYS: &[Key] = &[
    Key::used("attention_bias"),
    Key::used("mlp_bias"),
    Key::used("pretraining_tp"),
    Key::ignored("is_llama_config", "the model is one"),
];

/// transformers' Llama has no windows; where a configuration has one, it is another model's, and is
/// taken at its word.
const WINDOWS: WindowRules =
    WindowRules { on: true, window: None, first_layer: 0, honoured: false };

const ROPE: &str = "rope_parameters";
const OLD_ROPE: &str = "rope_scaling";

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
    Ok(Form {
        keys: vec![LLAMA_KEYS, windows.keys],
        query_key_value_bias: bias,
        output_bias: bias,
        mlp_bias,
        notes,
        ..anemll_form()
    })
}

fn mistral(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let window = window_everywhere(config, Some(MISTRAL_WINDOW), context, refusals)?;
    Ok(Form {
        keys: vec![MISTRAL_KEYS, window.keys],
        layers: window.layers,
        notes: window.notes,
        ..anemll_form()
    })
}

/// Mistral with `yarn` always, and queries that are scaled at late positions.
fn ministral(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let window = window_everywhere(config, None, context, refusals)?;
    if [ROPE, OLD_ROPE].iter().all(|key| config.get(key).is_none()) {
        refusals.push(key_missing(&config.path(ROPE)))?;
    }
    Ok(Form {
        keys: vec![MISTRAL_KEYS, window.keys],
        layers: window.layers,
        positions: Positions { scales_queries: true, ..Positions::default() },
        notes: window.notes,
        ..anemll_form()
    })
}

/// The language model of one that sees images.
fn ministral_of_images(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let kind = refusals.take(config.text("model_type"))?.flatten().unwrap_or("mistral");
    if kind != "ministral3" {
        let reason = format!("= \"{kind}\": only \"ministral3\" is known here");
        refusals.push(key_unsupported(&config.path("model_type"), reason))?;
    }
    ministral(config, context, refusals)
}

/// Llama without a gate.
fn arcee(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    Ok(Form { gated: false, ..llama(config, context, refusals)? })
}

/// The graph in the form that ANEMLL gives Llama: output projection as `linear`, softmax spelled
/// out.
fn anemll_form() -> Form {
    Form {
        output_projection: OutputProjection::Linear,
        softmax: SoftmaxForm::Spelled,
        ..Form::default()
    }
}
