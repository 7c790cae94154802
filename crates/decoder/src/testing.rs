//! A model for this crate's own tests.

use crate::rope::{RopeScaling, frequencies};
use crate::spec::{DecoderSpec, OutputProjection, SoftmaxForm};

/// Two layers, grouped heads, sizes that all differ, an odd vocabulary.
pub(crate) fn small() -> DecoderSpec {
    DecoderSpec {
        layers: 2,
        hidden_size: 48,
        attention_heads: 4,
        key_value_heads: 2,
        head_dimension: 16,
        intermediate_size: 80,
        vocabulary_size: 65,
        norm_epsilon: 1e-5,
        query_key_value_bias: false,
        output_bias: false,
        mlp_bias: false,
        query_key_norm: false,
        tied_embeddings: false,
        rope: frequencies(10_000.0, 16, &RopeScaling::None).unwrap(),
        head_splits: vec![32, 33],
        context: 64,
        batch: 8,
        tensor_prefix: "model.".to_owned(),
        head_tensor: "lm_head.weight".to_owned(),
        output_projection: OutputProjection::Linear,
        softmax: SoftmaxForm::Spelled,
    }
}
