//! Families of models as data: what a plugin says of its architecture.

use anemll_plugin_api::Result;

use crate::config::{Config, Key};
use crate::refusals::Refusals;
use crate::spec::{OutputProjection, SoftmaxForm};

/// A component of an arch plugin.
#[derive(Debug)]
pub struct Component {
    /// Its id, as in the manifest.
    pub id: &'static str,
    /// What package names begin with, as the apps expect it.
    pub prefix: &'static str,
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
    /// What transformers takes where `config.json` says nothing.
    pub defaults: Defaults,
    /// Reads what is the family's own, for a context of this many tokens. Keys that cannot be honoured
    /// are collected.
    pub form: fn(&Config<'_>, u64, &mut Refusals) -> Result<Form>,
}

/// What transformers takes for keys that a configuration does not have.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// `max_position_embeddings`.
    pub max_position_embeddings: u64,
    /// `rms_norm_eps`.
    pub rms_norm_eps: f64,
    /// `num_key_value_heads`; `None` is `num_attention_heads`, which `null` always means.
    pub num_key_value_heads: Option<u64>,
    /// `head_dim`; `None` is `hidden_size / num_attention_heads`. Where there is a number, `null`
    /// is refused, since transformers fails on it.
    pub head_dim: Option<u64>,
}

/// What a family's configuration says beyond the sizes that all have.
#[derive(Debug, Clone)]
pub struct Form {
    /// Rules for the family's keys, before those of all families and of other architectures.
    pub keys: Vec<&'static [Key]>,
    /// Whether the projections to queries, keys and values have biases.
    pub query_key_value_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Whether queries and keys are normalized per head before the rotation.
    pub query_key_norm: bool,
    /// Form of the attention's output projection.
    pub output_projection: OutputProjection,
    /// Form of the softmax.
    pub softmax: SoftmaxForm,
    /// Remarks for the report.
    pub notes: Vec<String>,
}
