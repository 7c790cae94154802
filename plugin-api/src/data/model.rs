//! What an arch frontend is asked and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EmbeddingHead, EmbeddingOutput};

#[cfg(doc)]
use crate::codes;
use crate::{DType, Error};

/// How well a frontend suits a configuration; greater is better.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MatchRank {
    /// Not at all.
    #[default]
    None = 0,
    /// One of `architectures` is the frontend's.
    Architecture = 2,
    /// `model_type` is the frontend's.
    ModelType = 3,
    /// In a way that this version does not know, which is better than none.
    #[serde(other)]
    Unknown = 1,
}

/// A frontend's answer to a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verdict {
    /// How well the frontend suits, whatever is refused.
    pub rank: MatchRank,
    /// Why, in one line.
    pub reason: String,
    /// Everything in a configuration of this architecture that cannot be honoured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
}

impl Verdict {
    /// A frontend suits this well, for this reason.
    pub fn new(rank: MatchRank, reason: impl Into<String>) -> Self {
        Self { rank, reason: reason.into(), refusals: Vec::new() }
    }

    /// The configuration is of another architecture.
    pub fn none(reason: impl Into<String>) -> Self {
        Self::new(MatchRank::None, reason)
    }

    /// The same verdict, but for what cannot be honoured.
    #[must_use]
    pub fn with_refusals(mut self, refusals: Vec<Refusal>) -> Self {
        self.refusals = refusals;
        self
    }
}

/// Something in a configuration that a frontend cannot honour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refusal {
    /// [`codes::CONFIG_KEY_UNSUPPORTED`], [`codes::CONFIG_KEY_INVALID`] or
    /// [`codes::CONFIG_KEY_MISSING`].
    pub code: String,
    /// The key, with those that it stands in: `rope_scaling.factor`.
    pub key: String,
    /// What is wrong with it, in one line.
    pub message: String,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What stands before the key where an error is about one.
const KEY_PLACE: &str = "config.json: ";

impl Refusal {
    /// A key is refused with this code for this reason.
    pub fn new(
        code: impl Into<String>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { code: code.into(), key: key.into(), message: message.into(), hint: None }
    }

    /// The same refusal with advice for the user.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The refusal that an error tells of: one whose place is `config.json: ` and a key.
    pub fn of_error(error: &Error) -> Option<Self> {
        let key = error.at.as_deref()?.strip_prefix(KEY_PLACE)?;
        let refusal = Self::new(error.code.clone(), key, error.message.clone());
        Some(Self { hint: error.hint.clone(), ..refusal })
    }

    /// Where it is: `config.json: ` and the key.
    pub fn place(&self) -> String {
        format!("{KEY_PLACE}{}", self.key)
    }

    /// The refusals as one error: the first, with the keys of the others in its hint.
    pub fn to_error(refusals: &[Self]) -> Option<Error> {
        let first = refusals.first()?;
        let mut others: Vec<String> = Vec::new();
        for other in refusals {
            let key = format!("`{}`", other.key);
            if other.key != first.key && !others.contains(&key) {
                others.push(key);
            }
        }
        let others = (!others.is_empty()).then(|| format!("refused too: {}", others.join(", ")));
        let hints: Vec<String> = first.hint.clone().into_iter().chain(others).collect();
        let error = Error::new(first.code.clone(), first.message.clone()).with_at(first.place());
        Some(match hints.is_empty() {
            true => error,
            false => error.with_hint(hints.join("; ")),
        })
    }
}

/// A tensor of the model directory, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TensorInfo {
    /// The element type, for example `bfloat16`.
    pub dtype: DType,
    /// The shape, outermost dimension first.
    pub shape: Vec<u64>,
}

impl TensorInfo {
    /// A tensor of this type and shape.
    pub fn new(dtype: DType, shape: impl Into<Vec<u64>>) -> Self {
        Self { dtype, shape: shape.into() }
    }
}

/// A model as a frontend sees it: configuration and tensor shapes, no weights.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// What follows the last norm, where the model is to give vectors in place of logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<EmbeddingHead>,
}

impl ModelInput {
    /// A model of which the configuration is known.
    pub fn new(config: Value, context: u64, batch: u64) -> Self {
        Self { config, tensors: BTreeMap::new(), context, batch, embedding: None }
    }
}

builders! {
    impl ModelInput {
        with_tensors(tensors: BTreeMap<String, TensorInfo>);
        with_embedding(embedding: impl Into<Option<EmbeddingHead>>);
    }
}

/// What becomes of a state when tokens are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StateKind {
    /// Each token writes at its position, and a mask hides the positions that are not written yet:
    /// going back to an earlier position only takes another mask.
    #[default]
    Cache,
    /// A cache that holds the last positions alone, each at the place that its number leaves when it is
    /// divided by their count, the third size of the shape; tokens see [`StateInfo::window`] of them.
    /// Going back is possible as far as what is seen there was not overwritten.
    Ring,
    /// Each token replaces what the tokens before it left. There is no going back, and tokens that
    /// only fill up a batch must not be run. It counts as zeros where the first token of a call
    /// stands at position 0.
    Recurrent,
    /// One that this version does not know. Hosts treat it as [`Self::Recurrent`].
    #[serde(other)]
    Unknown,
}

/// A state that all functions of a model with layers share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StateInfo {
    /// The name.
    pub name: String,
    /// The shape; elements are float16.
    pub shape: Vec<u64>,
    /// What becomes of it when tokens are run.
    #[serde(default)]
    pub kind: StateKind,
    /// Of a [`StateKind::Ring`]: tokens that a token sees, itself among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

impl StateInfo {
    /// A cache of this name and shape.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<u64>>) -> Self {
        Self { name: name.into(), shape: shape.into(), kind: StateKind::Cache, window: None }
    }

    /// Its bytes in memory; saturates.
    pub fn bytes(&self) -> u64 {
        self.shape.iter().fold(2, |bytes, size| bytes.saturating_mul(*size))
    }
}

builders! {
    impl StateInfo {
        with_kind(kind: StateKind);
        with_window(window: impl Into<Option<u64>>);
    }
}

/// What a frontend says about a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// The states, each of another name.
    pub states: Vec<StateInfo>,
    /// A head's weight that is stored although the head is tied to the embedding. The host compares
    /// the two, and asks which one counts where they differ (the option `head` of the frontend).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_head: Option<StoredHead>,
    /// What vectors it gives, where that was asked for ([`ModelInput::embedding`]): its functions are
    /// then those of [`Purpose::Embed`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<EmbeddingOutput>,
    /// Remarks for the report: approximations, what was left out because it has no effect.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Remarks on what may change the numbers: keys that are not known, a context that the model was
    /// not made for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

builders! {
    impl ModelDescription {
        with_architecture(architecture: impl Into<String>);
        with_model_type(model_type: impl Into<String>);
        with_default_prefix(default_prefix: impl Into<String>);
        with_layers(layers: u32);
        with_hidden_size(hidden_size: u64);
        with_vocabulary_size(vocabulary_size: u64);
        with_attention_heads(attention_heads: u64);
        with_key_value_heads(key_value_heads: u64);
        with_head_dimension(head_dimension: u64);
        with_max_position_embeddings(max_position_embeddings: u64);
        with_context(context: u64);
        with_batch(batch: u64);
        with_parameters(parameters: u64);
        with_tied_embeddings(tied_embeddings: bool);
        with_head_splits(head_splits: impl Into<Vec<u64>>);
        with_states(states: Vec<StateInfo>);
        with_stored_head(stored_head: impl Into<Option<StoredHead>>);
        with_embedding(embedding: impl Into<Option<EmbeddingOutput>>);
        with_notes(notes: Vec<String>);
        with_warnings(warnings: Vec<String>);
    }
}

/// A head's weight beside an embedding that it is tied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredHead {
    /// Tensor of the head.
    pub head: String,
    /// Tensor of the embedding.
    pub embedding: String,
}

impl StoredHead {
    /// These two tensors.
    pub fn new(head: impl Into<String>, embedding: impl Into<String>) -> Self {
        Self { head: head.into(), embedding: embedding.into() }
    }
}

/// Layers `first` up to but without `end`, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerRange {
    /// The first layer.
    pub first: u32,
    /// One past the last layer.
    pub end: u32,
}

impl LayerRange {
    /// Layers from `first` up to but without `end`.
    pub fn new(first: u32, end: u32) -> Self {
        Self { first, end }
    }
}

/// What a function is for, which says how many tokens it takes and what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Purpose {
    /// One token; final norm after the last layer.
    Infer,
    /// A batch of tokens that fills the state; the last layer's MLP and the final norm are left
    /// out, and row 0 is given.
    Prefill,
    /// A batch of tokens, every layer whole, final norm, all rows and all logits.
    Evaluate,
    /// A batch of tokens of a text whose vector is wanted, every layer whole, final norm, all rows.
    /// The head takes the weight of each token, `pooling_weights` (1, 1, B), and what the batches
    /// before it have come to, `pooled` (1, 1, hidden), adds the weighted rows to that, as
    /// `output_pooled`, and gives the vector of what there is so far, `embedding` (1, 1, dimension).
    Embed,
    /// One that this version does not know. Frontends refuse such a function.
    #[serde(other)]
    Unknown,
}

/// One function that a frontend lowers: which pieces of the model, and what for.
///
/// A function that is only the embedding takes `(1, 1)` and `(1, B)` tokens, if nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FunctionSpec {
    /// Unique in the layout, for example `infer.01`.
    pub id: String,
    /// Whether it begins with the embedding: it takes token ids, else the residual stream.
    pub embedding: bool,
    /// Which layers it has, if any.
    #[serde(default)]
    pub layers: Option<LayerRange>,
    /// Whether it ends with the head: it gives logits, else the residual stream.
    pub head: bool,
    /// What it is for.
    pub purpose: Purpose,
    /// Whether the head gives the largest logit's index and value per piece in place of logits.
    #[serde(default)]
    pub argmax: bool,
    /// Tokens that its state holds, where they are not the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Tokens of a call, where neither one nor the model's batch of them is wanted. A function that is
    /// only the embedding then takes just as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// How keys and values are kept.
    #[serde(default, skip_serializing_if = "CacheForm::is_rows")]
    pub cache: CacheForm,
}

/// How a function keeps keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheForm {
    /// In the states of [`ModelDescription::states`].
    #[default]
    Rows,
    /// In two states, [`KEY_CACHE`] and [`VALUE_CACHE`], float16 (layers, 1, key and value heads ×
    /// width, 1, context): channels before positions. Where the context is the function's own, and less
    /// than the model's, `_` and the context stand behind the names. Other states are not asked for.
    Channels,
    /// As [`Self::Channels`], of the shape (layers, 1, key and value heads, context, width): positions before the
    /// elements of each head.
    Heads,
    /// One that this version does not know. Frontends refuse such a function.
    #[serde(other)]
    Unknown,
}

impl CacheForm {
    fn is_rows(&self) -> bool {
        *self == Self::Rows
    }
}

/// Name of the state of keys of [`CacheForm::Channels`] and [`CacheForm::Heads`].
pub const KEY_CACHE: &str = "key_cache";
/// Name of the state of values of [`CacheForm::Channels`] and [`CacheForm::Heads`].
pub const VALUE_CACHE: &str = "value_cache";

impl FunctionSpec {
    /// A function for this, with no piece of the model in it yet.
    pub fn new(id: impl Into<String>, purpose: Purpose) -> Self {
        Self {
            id: id.into(),
            embedding: false,
            layers: None,
            head: false,
            purpose,
            argmax: false,
            context: None,
            tokens: None,
            cache: CacheForm::Rows,
        }
    }
}

builders! {
    impl FunctionSpec {
        with_embedding(embedding: bool);
        with_layers(layers: impl Into<Option<LayerRange>>);
        with_head(head: bool);
        with_argmax(argmax: bool);
        with_context(context: impl Into<Option<u64>>);
        with_tokens(tokens: impl Into<Option<u64>>);
        with_cache(cache: CacheForm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn refusals_become_one_error_with_the_keys_of_all() {
        assert_eq!(Refusal::to_error(&[]), None);
        let refusal = |key: &str| {
            Refusal::new(codes::CONFIG_KEY_UNSUPPORTED, key, format!("`{key}` is too much"))
        };
        let error = Refusal::to_error(&[refusal("a.b")]).unwrap();
        assert_eq!(error.message, "`a.b` is too much");
        assert_eq!((error.at.as_deref(), &error.hint), (Some("config.json: a.b"), &None));
        assert_eq!(Refusal::of_error(&error), Some(refusal("a.b")));
        let all = [refusal("a").with_hint("use less"), refusal("b"), refusal("b"), refusal("a")];
        let error = Refusal::to_error(&all).unwrap();
        assert_eq!(error.hint.unwrap(), "use less; refused too: `b`");
        assert_eq!(Refusal::of_error(&Error::cancelled()), None);
    }

    #[test]
    fn what_a_later_version_says_is_taken_as_unknown() {
        let json = r#"{"rank": "checkpoint", "reason": "", "score": 7}"#;
        let verdict: Verdict = serde_json::from_str(json).unwrap();
        assert_eq!(verdict.rank, MatchRank::Unknown);
        assert!(MatchRank::None < verdict.rank && verdict.rank < MatchRank::Architecture);
        assert_eq!(serde_json::from_str::<Purpose>("\"draft\"").unwrap(), Purpose::Unknown);
        assert_eq!(serde_json::to_string(&MatchRank::ModelType).unwrap(), "\"model_type\"");
    }
}
