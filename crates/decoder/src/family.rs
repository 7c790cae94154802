//! Families of models as data: what a plugin says of its architecture.

use anemll_plugin_api::Result;

use crate::block::{Activation, Norm, NormPlacement, QueryKeyNorm};
use crate::config::{Config, Key};
use crate::layers::Layers;
use crate::refusals::Refusals;
use crate::spec::{Fusion, OutputProjection, SiluForm, SoftmaxForm};

/// A component of an arch plugin.
#[derive(Debug)]
pub struct Component {
    /// Its id, as in the manifest.
    pub id: &'static str,
    /// Pieces of the head when the option `split_lm_head` is not given, as the apps expect them.
    pub head_pieces: u64,
    /// The families that it takes; the first one also reads models that `--arch` sends here.
    pub families: &'static [Family],
}

/// The models of one `model_type`.
#[derive(Debug)]
pub struct Family {
    /// Value of `model_type`.
    pub model_type: &'static str,
    /// Value in `architectures`.
    pub architecture: &'static str,
    /// What package names begin with, as the apps expect it.
    pub prefix: &'static str,
    /// The key under which the language model's keys stand, in models of more than text.
    pub section: Option<&'static str>,
    /// What transformers takes where `config.json` says nothing.
    pub defaults: Defaults,
    /// Reads what is the family's own, for a context of this many tokens. Keys that cannot be honoured
    /// are collected.
    pub form: fn(&Config<'_>, u64, &mut Refusals) -> Result<Form>,
}

/// What transformers takes for keys that a configuration does not have, and what keys are called.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// `max_position_embeddings`.
    pub max_position_embeddings: u64,
    /// Epsilon of the norms.
    pub norm_epsilon: f64,
    /// The key of that epsilon.
    pub norm_epsilon_key: &'static str,
    /// `num_attention_heads`; `None` is refused.
    pub num_attention_heads: Option<u64>,
    /// `vocab_size`; `None` is refused.
    pub vocabulary_size: Option<u64>,
    /// `num_key_value_heads`; `None` is `num_attention_heads`, which `null` always means.
    pub num_key_value_heads: Option<u64>,
    /// `head_dim`; `None` is `hidden_size / num_attention_heads`. Where there is a number, `null`
    /// is refused, since transformers fails on it.
    pub head_dim: Option<u64>,
    /// `rope_theta`.
    pub rope_theta: f64,
    /// `tie_word_embeddings`.
    pub tie_word_embeddings: bool,
    /// Whether, in models of more than text, `tie_word_embeddings` of the whole configuration decides, not
    /// the language model's.
    pub outer_tie: bool,
    /// The activation.
    pub activation: Activation,
    /// The key of the activation.
    pub activation_key: &'static str,
}

impl Defaults {
    /// What most configurations of transformers take: those of Llama.
    pub const USUAL: Self = Self {
        max_position_embeddings: 2048,
        norm_epsilon: 1e-6,
        norm_epsilon_key: "rms_norm_eps",
        num_attention_heads: None,
        vocabulary_size: None,
        num_key_value_heads: None,
        head_dim: None,
        rope_theta: 10_000.0,
        tie_word_embeddings: false,
        outer_tie: false,
        activation: Activation::Silu,
        activation_key: "hidden_act",
    };
}

/// What a family's configuration says beyond the sizes that all have.
#[derive(Debug, Clone)]
pub struct Form {
    /// Rules for the family's keys, before those of all families and of other architectures.
    pub keys: Vec<&'static [Key]>,
    /// In what layers differ.
    pub layers: Layers,
    /// All norms.
    pub norm: Norm,
    /// Where layers normalize.
    pub placement: NormPlacement,
    /// Whether the projections to queries, keys and values have biases.
    pub query_key_value_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether, and over what, queries and keys are normalized before the rotation.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// Factor of the scores; `None` is `1 / sqrt(head_dim)`.
    pub score_scale: Option<f64>,
    /// Bound of the scores.
    pub score_cap: Option<f64>,
    /// Whether attention's output is gated, by what `q_proj` gives behind each head's query.
    pub output_gate: bool,
    /// Whether each head has a learned score beside those of the tokens, `self_attn.sinks`, which has no value.
    pub sinks: bool,
    /// How positions are read.
    pub positions: Positions,
    /// Whether the MLP has a gate.
    pub gated: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Which projections that read the same are rows of one tensor.
    pub fusion: Fusion,
    /// What multiplies the embedding's rows.
    pub embedding_scale: EmbeddingScale,
    /// Factor of what layers add to the residual stream.
    pub residual_scale: f64,
    /// Factor of the whole stream where the option `residual_scale` is not given: below 1 where models
    /// of the family are known to pass the range of float16.
    pub stream_scale: f64,
    /// Factor of the logits.
    pub logit_scale: f64,
    /// Bound of the logits.
    pub logit_cap: Option<f64>,
    /// Form of the attention's output projection.
    pub output_projection: OutputProjection,
    /// Form of the softmax.
    pub softmax: SoftmaxForm,
    /// Form of `x sigmoid(x)`.
    pub silu: SiluForm,
    /// The inner width of the MLP, where it is not `intermediate_size`.
    pub intermediate_size: Option<u64>,
    /// Keys that the configuration calls otherwise: the usual name, by which the decoder speaks of what it
    /// finds wrong, and the family's.
    pub key_names: &'static [(&'static str, &'static str)],
    /// Modules that the weight files do not call as Llama's do: Llama's name and theirs.
    pub modules: &'static [(&'static str, &'static str)],
    /// Whether tokens see those behind them too. Such a model gives vectors, no text; windows of
    /// layers then count to both sides, the token itself among them.
    pub bidirectional: bool,
    /// Remarks for the report.
    pub notes: Vec<String>,
}

impl Default for Form {
    /// A model like Llama, written as ANEMLL writes Qwen: every projection a convolution, softmax one
    /// operation.
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            layers: Layers::default(),
            norm: Norm::RMS,
            placement: NormPlacement::Before,
            query_key_value_bias: false,
            output_bias: false,
            query_key_norm: None,
            score_scale: None,
            score_cap: None,
            output_gate: false,
            sinks: false,
            positions: Positions::default(),
            gated: true,
            mlp_bias: false,
            fusion: Fusion::None,
            embedding_scale: EmbeddingScale::Factor(1.0),
            residual_scale: 1.0,
            stream_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
            output_projection: OutputProjection::Convolution,
            softmax: SoftmaxForm::Operation,
            silu: SiluForm::Operation,
            intermediate_size: None,
            key_names: &[],
            modules: &[],
            bidirectional: false,
            notes: Vec::new(),
        }
    }
}

/// What multiplies the embedding's rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EmbeddingScale {
    /// A number.
    Factor(f64),
    /// The root of `hidden_size`.
    RootOfWidth,
}

/// How positions are read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Positions {
    /// Whether the elements of a head that turn together lie side by side (0 and 1, 2 and 3, …), not half
    /// of what turns apart.
    pub interleaved: bool,
    /// `partial_rotary_factor` where it is not given, in families that have it; others rotate heads
    /// whole.
    pub partial: Option<f64>,
    /// Whether factors for short and long texts may be given (the type `longrope`), and
    /// `original_max_position_embeddings` where the configuration does not have it.
    pub longrope: Option<u64>,
    /// The rotation of layers that have a local one.
    pub local: Option<LocalRotation>,
    /// Whether `llama_4_scaling_beta` scales queries beyond the length of pretraining. It is refused
    /// for contexts that reach there.
    pub scales_queries: bool,
    /// Whether `mrope_section` may say which pairs of a head turn by the place in an image, which all
    /// are one position in text.
    pub sections: bool,
}

/// The rotation that some layers have instead of the configuration's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LocalRotation {
    /// Of another base, without scaling.
    Base(f64),
    /// Of the same base, without scaling.
    Unscaled,
}
