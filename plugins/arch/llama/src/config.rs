//! `config.json` of a Llama model as a decoder's specification.
//!
//! transformers' `LlamaConfig` and `LlamaForCausalLM` decide what a key means.

use anemll_decoder::config::{
    Config, GENERIC_KEYS, Key, OTHER_ARCHITECTURES, check_keys, read_rope,
};
use anemll_decoder::rope::frequencies;
use anemll_decoder::{
    DecoderSpec, OutputProjection, SoftmaxForm, key_invalid, key_unsupported, split_head,
    tensor_prefix,
};
use anemll_plugin_api::Result;
use anemll_plugin_api::data::ModelInput;

/// `max_position_embeddings` of `LlamaConfig` when a configuration gives none.
const DEFAULT_LONGEST: u64 = 2048;
/// `rms_norm_eps` of `LlamaConfig` when a configuration gives none.
const DEFAULT_EPSILON: f64 = 1e-6;

/// Every key that is about this architecture. Keys of any model and keys of other architectures
/// stand in the tables of [`anemll_decoder::config`]; a key that no table names is remarked on.
const KEYS: &[Key] = &[
    Key::used("architectures"),
    Key::used("attention_bias"),
    Key::used("head_dim"),
    Key::used("hidden_act"),
    Key::used("hidden_size"),
    Key::used("intermediate_size"),
    Key::used("max_position_embeddings"),
    Key::used("mlp_bias"),
    Key::used("model_type"),
    Key::used("num_attention_heads"),
    Key::used("num_hidden_layers"),
    Key::used("num_key_value_heads"),
    Key::used("original_max_position_embeddings"),
    Key::used("partial_rotary_factor"),
    Key::used("pretraining_tp"),
    Key::used("rms_norm_eps"),
    Key::used("rope_parameters"),
    Key::used("rope_scaling"),
    Key::used("rope_theta"),
    Key::used("tie_word_embeddings"),
    Key::used("vocab_size"),
    Key::ignored("is_llama_config", "the model is one"),
];

/// Where windows are switched off, their length does not matter.
const UNUSED_WINDOW: &[Key] = &[Key::ignored("sliding_window", "`use_sliding_window` is false")];

/// A Llama model: its specification, and what else the description says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Llama {
    pub(crate) spec: DecoderSpec,
    pub(crate) architecture: String,
    pub(crate) model_type: String,
    pub(crate) max_position_embeddings: u64,
    pub(crate) notes: Vec<String>,
}

/// Reads a configuration for a context, a batch and `head_pieces` pieces of the head.
///
/// # Errors
/// The first key that is missing, has a wrong type or value, or cannot be honoured.
pub(crate) fn read(model: &ModelInput, head_pieces: u64) -> Result<Llama> {
    let config = Config::new(&model.config)?;
    let window: &[Key] =
        if config.boolean("use_sliding_window")? == Some(false) { UNUSED_WINDOW } else { &[] };
    let mut notes = check_keys(&config, &[KEYS, window, GENERIC_KEYS, OTHER_ARCHITECTURES])?;

    let hidden_size = config.required_size("hidden_size")?;
    let attention_heads = config.required_size("num_attention_heads")?;
    let key_value_heads = config.size("num_key_value_heads")?.unwrap_or(attention_heads);
    let head_dimension = match config.size("head_dim")? {
        Some(width) => width,
        None => hidden_size / attention_heads,
    };
    let vocabulary_size = config.required_size("vocab_size")?;
    activation(&config)?;
    if let Some(ranks) = config.size("pretraining_tp")?.filter(|ranks| *ranks > 1) {
        notes.push(format!(
            "config.json: `pretraining_tp` = {ranks} only changes the order of sums and was ignored"
        ));
    }

    let max_position_embeddings = config.size("max_position_embeddings")?.unwrap_or_else(|| {
        notes.push(default_note("max_position_embeddings", DEFAULT_LONGEST));
        DEFAULT_LONGEST
    });
    let norm_epsilon = config.number("rms_norm_eps")?.unwrap_or_else(|| {
        notes.push(default_note("rms_norm_eps", DEFAULT_EPSILON));
        DEFAULT_EPSILON
    });
    let rope = read_rope(&config, max_position_embeddings, model.context)?;
    notes.extend(rope.notes);
    if model.context > max_position_embeddings {
        notes.push(format!(
            "the context of {} goes beyond `max_position_embeddings` = {max_position_embeddings}; the model \
             was not made for positions after that",
            model.context
        ));
    }

    let head_splits = split_head(vocabulary_size, head_pieces);
    if (head_splits.len() as u64) < head_pieces {
        notes.push(format!(
            "the head has {} pieces, not {head_pieces}: `vocab_size` = {vocabulary_size} is too small",
            head_splits.len()
        ));
    }
    let bias = config.boolean("attention_bias")?.unwrap_or(false);
    let spec = DecoderSpec {
        layers: layers(&config)?,
        hidden_size,
        attention_heads,
        key_value_heads,
        head_dimension,
        intermediate_size: config.required_size("intermediate_size")?,
        vocabulary_size,
        norm_epsilon,
        query_key_value_bias: bias,
        output_bias: bias,
        mlp_bias: config.boolean("mlp_bias")?.unwrap_or(false),
        query_key_norm: false,
        tied_embeddings: config.boolean("tie_word_embeddings")?.unwrap_or(false),
        rope: frequencies(rope.base, head_dimension, &rope.scaling)?,
        head_splits,
        context: model.context,
        batch: model.batch,
        tensor_prefix: tensor_prefix(&model.tensors).to_owned(),
        output_projection: OutputProjection::Linear,
        softmax: SoftmaxForm::Spelled,
    };
    spec.validate()?;
    notes.extend(spec.notes());
    let architecture = architecture(&config, &mut notes)?;
    let model_type = config.text("model_type")?.unwrap_or("llama").to_owned();
    Ok(Llama { spec, architecture, model_type, max_position_embeddings, notes })
}

fn default_note(key: &str, value: impl std::fmt::Display) -> String {
    format!("config.json: `{key}` is not given; {value} is taken, as transformers does")
}

fn layers(config: &Config<'_>) -> Result<u32> {
    let layers = config.required_size("num_hidden_layers")?;
    u32::try_from(layers)
        .map_err(|_| key_invalid("num_hidden_layers", format!("is {layers}, which is too many")))
}

fn activation(config: &Config<'_>) -> Result<()> {
    match config.text("hidden_act")? {
        // Two names of one function in transformers.
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => Err(key_unsupported(
            "hidden_act",
            format!("= \"{other}\": the activation is silu here"),
        )),
    }
}

fn architecture(config: &Config<'_>, notes: &mut Vec<String>) -> Result<String> {
    const NAME: &str = "LlamaForCausalLM";
    let given = config.texts("architectures")?;
    if !given.is_empty() && !given.contains(&NAME) {
        notes.push(format!("config.json: `architectures` = {given:?} is read as {NAME}"));
    }
    Ok(NAME.to_owned())
}
