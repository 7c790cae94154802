//! Models that give vectors in place of logits.

use serde::{Deserialize, Serialize};

/// What becomes of the hidden states of a model that gives vectors, behind its last norm: the host
/// weighs the tokens, the model adds them up, and this follows, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbeddingHead {
    /// How much each token counts, which the host sees to.
    #[serde(default)]
    pub pooling: Pooling,
    /// Layers behind the pooling, first to last.
    #[serde(default)]
    pub dense: Vec<DenseLayer>,
    /// Whether vectors get length 1.
    #[serde(default)]
    pub normalize: bool,
}

builders! {
    impl EmbeddingHead {
        with_pooling(pooling: Pooling);
        with_dense(dense: Vec<DenseLayer>);
        with_normalize(normalize: bool);
    }
}

/// How much the tokens of a text count in its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pooling {
    /// The first alone.
    First,
    /// All the same.
    Mean,
    /// The last alone.
    Last,
    /// One that this version does not know. It is refused.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A linear layer behind the pooling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DenseLayer {
    /// The tensor of its matrix, (outputs, inputs).
    pub weight: String,
    /// The tensor of its bias, (outputs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<String>,
    /// Elements that it takes.
    pub inputs: u64,
    /// Elements that it gives.
    pub outputs: u64,
    /// What follows it.
    #[serde(default)]
    pub activation: DenseActivation,
}

impl DenseLayer {
    /// A layer of this matrix, (outputs, inputs), without a bias and without an activation.
    pub fn new(weight: impl Into<String>, inputs: u64, outputs: u64) -> Self {
        Self {
            weight: weight.into(),
            bias: None,
            inputs,
            outputs,
            activation: DenseActivation::Identity,
        }
    }
}

builders! {
    impl DenseLayer {
        with_bias(bias: impl Into<Option<String>>);
        with_activation(activation: DenseActivation);
    }
}

/// What follows a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DenseActivation {
    /// Nothing.
    #[default]
    Identity,
    /// The hyperbolic tangent.
    Tanh,
    /// One that this version does not know. Frontends refuse it.
    #[serde(other)]
    Unknown,
}

/// What a frontend says of a model that gives vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbeddingOutput {
    /// Elements of a vector.
    pub dimension: u64,
    /// Whether tokens see those behind them too: a text must then go through in one call, and batch
    /// and context of the description are the same.
    #[serde(default)]
    pub bidirectional: bool,
}

impl EmbeddingOutput {
    /// Vectors of so many elements, of a model whose tokens see those before them.
    pub fn new(dimension: u64) -> Self {
        Self { dimension, bidirectional: false }
    }
}

builders! {
    impl EmbeddingOutput {
        with_bidirectional(bidirectional: bool);
    }
}
