//! Decoder-only transformers as MIL functions for the Neural Engine.
//!
//! A frontend reads its configuration with [`config`], fills in a [`DecoderSpec`], and [`lower`]s
//! the functions that a combiner asks for; [`frontend`] does so for families whose differences are
//! data. A model is a list of layers ([`BlockSpec`]); architectures differ by what stands in it, not
//! by copies of the graph. The parts that are most likely to get other forms stand alone:
//! `attention` (scores and softmax), `mask` (windows), `rotary` (rows of the tables and rotation),
//! `convolution` (short ones over time), `delta_rule` (linear attention), and of the states `cache` (keys
//! and values), `ring` (the last of them, where windows see no more), `columns` (what short convolutions
//! keep) and `recurrence` (what linear attention keeps).

mod activations;
mod attention;
mod block;
mod cache;
mod choices;
mod columns;
pub mod config;
mod convolution;
mod delta_net;
mod delta_rule;
mod embedder;
mod embedding;
mod error;
mod family;
mod first_token;
pub mod frontend;
mod function;
mod graph;
mod head;
mod keys;
mod layer;
mod layers;
mod mask;
mod mlp;
mod names;
mod norm;
mod pooling;
mod quantized;
mod reading;
mod recurrence;
mod references;
mod refusals;
mod ring;
pub mod rope;
mod rotary;
mod spec;
mod tensors;
#[cfg(test)]
mod testing;
mod validation;
mod vectors;
mod weights;

pub use block::{
    Activation, Attention, BlockSpec, DeltaNet, Mixer, Mlp, Norm, NormKind, NormPlacement,
    QueryKeyNorm, ShortConvolution,
};
pub use embedder::Embedder;
pub use error::{key_invalid, key_missing, key_unsupported};
pub use function::lower;
pub use keys::KeyNames;
pub use names::TensorNames;
pub use refusals::Refusals;
pub use spec::{
    CONVOLUTION_STATE_NAME, DecoderSpec, Fusion, GLOBAL_STATE_NAME, LARGEST_CONTEXT,
    LARGEST_PARAMETERS, OutputProjection, RECURRENT_STATE_NAME, STATE_NAME, SiluForm, SoftmaxForm,
    WINDOW_STATE_NAME, WindowCache, split_head,
};
pub use tensors::{Remarks, check_input};
pub use weights::{LayerWeight, Matrix, NormPlace, Weight};
