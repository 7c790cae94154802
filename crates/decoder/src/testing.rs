//! A model for this crate's own tests.

use crate::block::{Activation, Attention, BlockSpec, Mixer, Mlp, Norm, NormPlacement};
use crate::rope::{RopeScaling, frequencies};
use crate::spec::{DecoderSpec, OutputProjection, SoftmaxForm};

/// Two layers, grouped heads, sizes that all differ, an odd vocabulary.
pub(crate) fn small() -> DecoderSpec {
    DecoderSpec {
        blocks: vec![block(16, 80); 2],
        hidden_size: 48,
        attention_heads: 4,
        key_value_heads: 2,
        head_dimension: 16,
        vocabulary_size: 65,
        norm: Norm::RMS,
        norm_epsilon: 1e-5,
        embedding_scale: 1.0,
        stream_scale: 1.0,
        logit_scale: 1.0,
        logit_cap: None,
        tied_embeddings: false,
        rotations: vec![frequencies(10_000.0, 16, &RopeScaling::None).unwrap()],
        head_splits: vec![32, 33],
        context: 64,
        batch: 8,
        tensor_prefix: "model.".to_owned(),
        head_tensor: "lm_head.weight".to_owned(),
        fused_projections: false,
        output_projection: OutputProjection::Linear,
        softmax: SoftmaxForm::Spelled,
    }
}

/// A layer as Llama has it, for heads and an MLP of these widths.
fn block(head_dimension: u64, intermediate_size: u64) -> BlockSpec {
    BlockSpec {
        placement: NormPlacement::Before,
        mixer: Mixer::Attention(Attention {
            query_key_value_bias: false,
            output_bias: false,
            query_key_norm: None,
            score_scale: 1.0 / (head_dimension as f64).sqrt(),
            score_cap: None,
            rotation: Some(0),
            window: None,
        }),
        mlp: Mlp { intermediate_size, gated: true, activation: Activation::Silu, bias: false },
        residual_scale: 1.0,
    }
}
