//! What an arch frontend is asked and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How well a frontend suits a configuration; greater is better.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MatchRank {
    /// Not at all.
    #[default]
    None,
    /// One of `architectures` is the frontend's.
    Architecture,
    /// `model_type` is the frontend's.
    ModelType,
}

/// A frontend's answer to a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How well it suits.
    pub rank: MatchRank,
    /// Why, in one line.
    pub reason: String,
}

/// A tensor of the model directory, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// The element type by name, for example `bfloat16`.
    pub dtype: String,
    /// The shape, outermost dimension first.
    pub shape: Vec<u64>,
}

/// A model as a frontend sees it: configuration and tensor shapes, no weights.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ModelInput {
    /// `config.json`.
    pub config: Value,
    /// The tensors of the weight files by name; empty when only the configuration is known.
    #[serde(default)]
    pub tensors: BTreeMap<String, TensorInfo>,
    /// Tokens that the state holds.
    pub context: u64,
    /// Tokens of one prefill call.
    pub batch: u64,
}

/// The state that all functions of a model share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StateInfo {
    /// The name, for example `model_model_kv_cache_0`.
    pub name: String,
    /// The shape; elements are float16.
    pub shape: Vec<u64>,
}

/// What a frontend says about a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelDescription {
    /// The first of `architectures`, for example `LlamaForCausalLM`.
    pub architecture: String,
    /// `model_type` of the configuration.
    pub model_type: String,
    /// The prefix of package names when the user gives none.
    pub default_prefix: String,
    /// Transformer layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Rows of the embedding.
    pub vocabulary_size: u64,
    /// Query heads.
    pub attention_heads: u64,
    /// Key and value heads.
    pub key_value_heads: u64,
    /// Width of one head.
    pub head_dimension: u64,
    /// The longest context that the model was made for.
    pub max_position_embeddings: u64,
    /// Tokens that the state holds.
    pub context: u64,
    /// Tokens of one prefill call.
    pub batch: u64,
    /// Elements of all weights, tied ones once.
    pub parameters: u64,
    /// Whether the head uses the embedding's weight.
    pub tied_embeddings: bool,
    /// Rows of each piece of the head; their sum is the vocabulary.
    pub head_splits: Vec<u64>,
    /// The shared state.
    pub state: StateInfo,
    /// A head's weight that is stored although the head is tied to the embedding. The host compares
    /// the two, and asks which one counts where they differ (the option `head` of the frontend).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_head: Option<StoredHead>,
    /// Remarks for the report: approximations, what was left out because it has no effect.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Remarks on what may change the numbers: keys that are not known, a context that the model was
    /// not made for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A head's weight beside an embedding that it is tied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHead {
    /// Tensor of the head.
    pub head: String,
    /// Tensor of the embedding.
    pub embedding: String,
}

/// Layers `first` up to but without `end`, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LayerRange {
    /// The first layer.
    pub first: u32,
    /// One past the last layer.
    pub end: u32,
}

/// What a function is for, which says how many tokens it takes and what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// One token; final norm after the last layer.
    Infer,
    /// A batch of tokens that fills the state; the last layer's MLP and the final norm are left
    /// out, and row 0 is given.
    Prefill,
    /// A batch of tokens, every layer whole, final norm, all rows and all logits.
    Evaluate,
}

/// One function that a frontend lowers: which pieces of the model, and what for.
///
/// A function that is only the embedding takes `(1, 1)` and `(1, B)` tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FunctionSpec {
    /// Unique in the layout, for example `infer.01`.
    pub id: String,
    /// Whether it begins with the embedding (takes `input_ids`, not `hidden_states`).
    pub embedding: bool,
    /// Which layers it has, if any.
    #[serde(default)]
    pub layers: Option<LayerRange>,
    /// Whether it ends with the head (gives logits, not `output_hidden_states`).
    pub head: bool,
    /// What it is for.
    pub purpose: Purpose,
    /// Whether the head gives the largest logit's index and value per piece in place of logits.
    #[serde(default)]
    pub argmax: bool,
}
