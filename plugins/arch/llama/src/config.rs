//! What is Llama's own in `config.json`, and Mistral's, Ministral's, Arcee's, ERNIE's and Helium's.
//!
//! transformers' `LlamaConfig` and `LlamaForCausalLM` (and `MistralConfig`, `MistralForCausalLM`,
//! `Ministral3Config`, `Ministral3ForCausalLM`, `ArceeConfig`, `ArceeForCausalLM`, `Ernie4_5Config`,
//! `Ernie4_5ForCausalLM`, `HeliumConfig`, `HeliumForCausalLM`) decide what a key means.

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
            form: mistral_of_images,
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
        Family {
            model_type: "ernie4_5",
            architecture: "Ernie4_5ForCausalLM",
            prefix: "llama",
            section: None,
            defaults: Defaults {
                max_position_embeddings: 131_072,
                norm_epsilon: 1e-5,
                num_attention_heads: Some(16),
                vocabulary_size: Some(103_424),
                num_key_value_heads: Some(2),
                head_dim: Some(128),
                rope_theta: 500_000.0,
                tie_word_embeddings: true,
                ..Defaults::USUAL
            },
            form: ernie,
        },
        Family {
            model_type: "helium",
            architecture: "HeliumForCausalLM",
            prefix: "llama",
            section: None,
            defaults: Defaults {
                max_position_embeddings: 4096,
                norm_epsilon: 1e-8,
                num_attention_heads: Some(20),
                vocabulary_size: Some(48_000),
                num_key_value_heads: Some(20),
                head_dim: Some(128),
                rope_theta: 100_000.0,
                ..Defaults::USUAL
            },
            form: helium,
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

/// Keys for which `MistralConfig` and `Ministral3Config` do not take the same where none is given.
const OTHER_DEFAULTS: [&str; 5] =
    ["head_dim", "max_position_embeddings", "num_attention_heads", "rms_norm_eps", "vocab_size"];

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

/// The language model of one that sees images: Ministral 3's, or Mistral's, as Mistral Small 3 has it.
fn mistral_of_images(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    match refusals.take(config.text("model_type"))?.flatten().unwrap_or("mistral") {
        "ministral3" => ministral(config, context, refusals),
        "mistral" => {
            // Where these are not given, another number is taken than for Ministral.
            for key in OTHER_DEFAULTS.into_iter().filter(|key| config.get(key).is_none()) {
                refusals.push(key_missing(&config.path(key)))?;
            }
            mistral(config, context, refusals)
        }
        kind => {
            let reason = format!("= \"{kind}\": known here are \"ministral3\" and \"mistral\"");
            refusals.push(key_unsupported(&config.path("model_type"), reason))?;
            ministral(config, context, refusals)
        }
    }
}

/// Llama without a gate.
fn arcee(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    Ok(Form { gated: false, ..llama(config, context, refusals)? })
}

const ERNIE_KEYS: &[Key] = &[
    Key::used("use_bias"),
    Key::ignored("attention_bias", "`use_bias` is read instead"),
    Key::ignored("mlp_bias", "`use_bias` is read instead"),
];

const HELIUM_KEYS: &[Key] = &[Key::used("attention_bias"), Key::used("mlp_bias")];

/// Llama with one switch for all biases.
fn ernie(config: &Config<'_>, _: u64, refusals: &mut Refusals) -> Result<Form> {
    let bias = refusals.take(config.boolean("use_bias"))?.flatten().unwrap_or(false);
    Ok(Form {
        keys: vec![ERNIE_KEYS],
        query_key_value_bias: bias,
        output_bias: bias,
        mlp_bias: bias,
        positions: Positions { interleaved: true, ..Positions::default() },
        ..anemll_form()
    })
}

/// Llama whose output projection never has a bias.
fn helium(config: &Config<'_>, _: u64, refusals: &mut Refusals) -> Result<Form> {
    let bias = refusals.take(config.boolean("attention_bias"))?.flatten().unwrap_or(false);
    let mlp_bias = refusals.take(config.boolean("mlp_bias"))?.flatten().unwrap_or(false);
    Ok(Form {
        keys: vec![HELIUM_KEYS],
        query_key_value_bias: bias,
        mlp_bias,
        positions: Positions { interleaved: true, ..Positions::default() },
        ..anemll_form()
    })
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
