//! Models that give vectors in place of logits: what is asked for.

use anemll_plugin_api::data::{DenseLayer, EmbeddingHead};

/// A model that gives the vector of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedder {
    /// Layers behind the pooling, first to last.
    pub dense: Vec<DenseLayer>,
    /// Whether vectors get length 1.
    pub normalize: bool,
    /// Whether tokens see those behind them too. A text then goes through in one call.
    pub bidirectional: bool,
}

impl Embedder {
    /// What is asked for, of a model whose tokens see each other so.
    pub(crate) fn new(head: &EmbeddingHead, bidirectional: bool) -> Self {
        Self { dense: head.dense.clone(), normalize: head.normalize, bidirectional }
    }
}
