//! A model for this crate's own tests.

use crate::block::{BlockSpec, Norm};
use crate::keys::KeyNames;
use crate::rope::{RopeScaling, frequencies};
use crate::spec::{DecoderSpec, Fusion, OutputProjection, SiluForm, SoftmaxForm, WindowCache};

/// Two layers, grouped heads, sizes that all differ, an odd vocabulary.
pub(crate) fn small() -> DecoderSpec {
    DecoderSpec {
        blocks: vec![BlockSpec::llama(16, 80); 2],
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
        fusion: Fusion::None,
        interleaved_rotation: false,
        modules: &[],
        key_names: KeyNames::default(),
        output_projection: OutputProjection::Linear,
        softmax: SoftmaxForm::Spelled,
        silu: SiluForm::Operation,
        window_cache: WindowCache::Full,
        embedder: None,
    }
}
