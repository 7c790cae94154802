//! What a decoder-only model is: plain data that a frontend fills in.

use anemll_plugin_api::Error;
use anemll_plugin_api::data::{ModelDescription, StateInfo, StateKind};
use half::f16;

use crate::block::greatest_common_divisor;
use crate::block::{BlockSpec, DeltaNet, Mixer, Norm};
use crate::config::LARGEST_LAYERS;
use crate::embedder::Embedder;
use crate::error::key_invalid;
use crate::keys::KeyNames;
use crate::rope::Frequencies;

/// Name of the state that holds keys and values; the apps look for it.
pub const STATE_NAME: &str = "model_model_kv_cache_0";

/// Name of the state that holds keys and values of whole contexts, where layers with a window have
/// [`WINDOW_STATE_NAME`]; both names are ANEMLL's.
pub const GLOBAL_STATE_NAME: &str = "model_model_kv_cache_global";

/// Name of the state that holds the last keys and values of layers with a window.
pub const WINDOW_STATE_NAME: &str = "model_model_kv_cache_local";

/// Name of the state that holds the last columns of short convolutions.
pub const CONVOLUTION_STATE_NAME: &str = "model_model_conv_cache_0";

/// Most taps of a short convolution: each is an operation of its own.
pub(crate) const LONGEST_KERNEL: u64 = 16;

/// Name of the state of linear attention.
pub const RECURRENT_STATE_NAME: &str = "model_model_linear_cache_0";

/// Longest context that is accepted, in tokens: 2^20.
pub const LARGEST_CONTEXT: u64 = 1 << 20;

/// Most elements of all weights that are accepted: ten times those of the largest models. It keeps
/// sizes in bytes far from overflow.
pub const LARGEST_PARAMETERS: u64 = 10_000_000_000_000;

/// The sequence axis of the state is a multiple of this, which the Neural Engine wants.
const STATE_STEP: u64 = 32;

/// How the attention's output projection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputProjection {
    /// `linear` on (1, T, in).
    Linear,
    /// 1x1 `conv` on (1, in, 1, T), as the other projections.
    Convolution,
}

/// How the attention's softmax is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoftmaxForm {
    /// `reduce_max`, `sub`, `exp`, `reduce_sum`, `real_div`.
    Spelled,
    /// The `softmax` operation.
    Operation,
}

/// What the caches of layers with a window hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowCache {
    /// The whole context, as those of other layers.
    Full,
    /// The last positions alone, in a ring: those of a window and of a batch.
    Ring,
}

/// Which projections that read the same are rows of one tensor in the weight files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fusion {
    /// Each has a tensor of its own.
    None,
    /// Those of the MLP's gate and inner space (`mlp.gate_up_proj`).
    Mlp,
    /// Those, and those to queries, keys and values (`self_attn.qkv_proj`).
    All,
}

/// How `x sigmoid(x)` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiluForm {
    /// The `silu` operation.
    Operation,
    /// `h + h tanh(h)` of `h = x / 2`: the operation is off by about 1e-3 near 0 on some chips.
    Tanh,
}

/// A decoder-only transformer: an embedding, layers that add to a residual stream, a norm, a head.
///
/// Sizes are elements. [`Self::validate`] says which values go together.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderSpec {
    /// The layers, first to last.
    pub blocks: Vec<BlockSpec>,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Query heads of all layers.
    pub attention_heads: u64,
    /// Key and value heads of all layers; divides `attention_heads`.
    pub key_value_heads: u64,
    /// Width of one head; even.
    pub head_dimension: u64,
    /// Rows of the embedding and of the head.
    pub vocabulary_size: u64,
    /// All norms.
    pub norm: Norm,
    /// Epsilon of all norms; passes through float16.
    pub norm_epsilon: f64,
    /// Factor of the embedding's rows.
    pub embedding_scale: f64,
    /// Factor of the whole residual stream, which no logit shows: it keeps the stream within float16.
    pub stream_scale: f64,
    /// Factor of the logits.
    pub logit_scale: f64,
    /// Logits `x` become `cap tanh(x / cap)`.
    pub logit_cap: Option<f64>,
    /// Whether the head's weight is the embedding's.
    pub tied_embeddings: bool,
    /// Rotary frequencies that layers refer to: half as many as elements of a head are rotated.
    pub rotations: Vec<Frequencies>,
    /// Whether the elements of a head that turn together lie side by side, not half a head apart.
    pub interleaved_rotation: bool,
    /// Rows of each piece of the head; their sum is `vocabulary_size`.
    pub head_splits: Vec<u64>,
    /// Tokens that attention looks back on.
    pub context: u64,
    /// Tokens of one prefill call.
    pub batch: u64,
    /// What stands before `embed_tokens.weight` in the weight files: `model.`, or nothing in
    /// checkpoints of the base model.
    pub tensor_prefix: String,
    /// Name of the head's weight in the weight files, where it is not the embedding's.
    pub head_tensor: String,
    /// Projections that are rows of one tensor in the weight files.
    pub fusion: Fusion,
    /// Modules that the weight files do not call as Llama's do: Llama's name, behind the layer's
    /// number where it is in a layer, and theirs.
    pub modules: &'static [(&'static str, &'static str)],
    /// What keys of the configuration are called.
    pub key_names: KeyNames,
    /// Form of the attention's output projection.
    pub output_projection: OutputProjection,
    /// Form of the softmax.
    pub softmax: SoftmaxForm,
    /// Form of `x sigmoid(x)`.
    pub silu: SiluForm,
    /// What the caches of layers with a window hold.
    pub window_cache: WindowCache,
    /// What makes it a model that gives vectors; such a model has no head.
    pub embedder: Option<Embedder>,
}

impl DecoderSpec {
    /// How many layers there are.
    pub fn layers(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }

    /// A layer, which must be there.
    pub(crate) fn block(&self, layer: u32) -> &BlockSpec {
        &self.blocks[layer as usize]
    }

    /// Sequence positions that the state holds: the context rounded up to a multiple of 32 and of
    /// the batch, so that a padded last batch stays inside.
    pub fn state_length(&self) -> u64 {
        let step = least_common_multiple(STATE_STEP, self.batch.max(1));
        self.context.div_ceil(step).saturating_mul(step)
    }

    /// The window of the layers whose keys and values lie in a ring, if there are any.
    pub fn ring_window(&self) -> Option<u64> {
        self.blocks.iter().find_map(|block| self.window_in_ring(block))
    }

    /// The window of a layer, where a ring for it is asked for and shorter than the context.
    fn window_in_ring(&self, block: &BlockSpec) -> Option<u64> {
        let window = block.mixer.attention()?.window?;
        let rings = self.window_cache == WindowCache::Ring && self.keeps_keys();
        (rings && self.ring_length(window) < self.context).then_some(window)
    }

    /// Whether the keys and values of a layer lie in a ring.
    pub(crate) fn is_in_ring(&self, layer: u32) -> bool {
        self.window_in_ring(self.block(layer)).is_some()
    }

    /// Positions that a ring for this window holds: the window and a batch, rounded up to a multiple
    /// of 32. So a batch overwrites nothing that its first token sees, and padding nothing that the
    /// next token sees.
    pub fn ring_length(&self, window: u64) -> u64 {
        window.saturating_add(self.batch).div_ceil(STATE_STEP).saturating_mul(STATE_STEP)
    }

    /// Shape of the state of keys and values that lie in rings, float16: as [`Self::state_shape`], of
    /// the layers with a window. Position p stands at the remainder of p by the ring's length.
    pub fn ring_state_shape(&self) -> Option<[u64; 4]> {
        let length = self.ring_length(self.ring_window()?);
        Some([2 * self.ring_layers(), self.key_value_heads, length, self.head_dimension])
    }

    /// How many layers have their keys and values in a ring.
    pub(crate) fn ring_layers(&self) -> u64 {
        self.blocks.iter().filter(|block| self.window_in_ring(block).is_some()).count() as u64
    }

    /// Name of the state of keys and values of whole contexts.
    pub fn state_name(&self) -> &'static str {
        if self.ring_window().is_some() { GLOBAL_STATE_NAME } else { STATE_NAME }
    }

    /// Shape of the state of keys and values, float16: (2 layers, key and value heads, positions,
    /// head width), of layers with attention that lie in no ring. The key of the i-th of them is row
    /// i, its value row i + layers.
    pub fn state_shape(&self) -> [u64; 4] {
        [2 * self.cached_layers(), self.key_value_heads, self.state_length(), self.head_dimension]
    }

    /// Elements of all keys, or of all values, of a token.
    pub(crate) const fn key_value_width(&self) -> u64 {
        self.key_value_heads.saturating_mul(self.head_dimension)
    }

    /// Shape of a state of keys or values whose channels stand before positions, float16: (layers
    /// with attention, 1, key and value heads × width, 1, positions).
    pub fn channel_state_shape(&self) -> [u64; 5] {
        [self.cached_layers(), 1, self.key_value_width(), 1, self.state_length()]
    }

    /// Shape of a state of keys or values whose positions stand before the elements of heads, float16: (layers
    /// with attention, 1, key and value heads, positions, width).
    pub fn head_state_shape(&self) -> [u64; 5] {
        let [heads, width] = [self.key_value_heads, self.head_dimension];
        [self.cached_layers(), 1, heads, self.state_length(), width]
    }

    /// Shape of the state of short convolutions, float16: (layers with one, 1, taps before the
    /// present token's, width of the stream). The i-th of them has row i, the oldest column first.
    pub fn convolution_state_shape(&self) -> Option<[u64; 4]> {
        let length = self.convolution_length()?;
        let layers = self.layers_with(|mixer| mixer.short_convolution().is_some());
        Some([layers, 1, length.saturating_sub(1), self.hidden_size])
    }

    /// Shape of the state of linear attention, float16: (layers with it, value heads, key width and
    /// rows of columns, value width). Above is a head's matrix; below, the heads share the columns that
    /// the convolution needs of earlier tokens, the oldest first.
    pub fn recurrent_state_shape(&self) -> Option<[u64; 4]> {
        let delta_net = self.delta_net()?;
        let layers = self.layers_with(|mixer| mixer.delta_net().is_some());
        let [rows, _] = delta_net.column_rows();
        let rows = delta_net.key_width.saturating_add(rows);
        Some([layers, delta_net.value_heads, rows, delta_net.value_width])
    }

    /// The linear attention of the model, which is the same in all layers that have it.
    pub(crate) fn delta_net(&self) -> Option<&DeltaNet> {
        self.blocks.iter().find_map(|block| block.mixer.delta_net())
    }

    /// How many layers have such a mixer.
    fn layers_with(&self, suits: impl Fn(&Mixer) -> bool) -> u64 {
        self.blocks.iter().filter(|block| suits(&block.mixer)).count() as u64
    }

    /// The states of the model: every function with layers has all of them, since apps make the
    /// states of one function and give them to all.
    pub fn states(&self) -> Vec<StateInfo> {
        let whole = self.keeps_keys() && self.cached_layers() > 0;
        let cache = whole.then(|| StateInfo::new(self.state_name(), self.state_shape().to_vec()));
        let ring = self.ring_window().zip(self.ring_state_shape()).map(|(window, shape)| {
            StateInfo::new(WINDOW_STATE_NAME, shape.to_vec())
                .with_kind(StateKind::Ring)
                .with_window(window)
        });
        let columns = self.convolution_state_shape().map(|shape| {
            StateInfo::new(CONVOLUTION_STATE_NAME, shape.to_vec()).with_kind(StateKind::Recurrent)
        });
        let recurrent = self.recurrent_state_shape().map(|shape| {
            StateInfo::new(RECURRENT_STATE_NAME, shape.to_vec()).with_kind(StateKind::Recurrent)
        });
        cache.into_iter().chain(ring).chain(columns).chain(recurrent).collect()
    }

    /// Taps of the short convolutions, where there are any.
    pub(crate) fn convolution_length(&self) -> Option<u64> {
        let mut convolutions =
            self.blocks.iter().filter_map(|block| block.mixer.short_convolution());
        convolutions.next().map(|convolution| convolution.length)
    }

    /// Layers with attention whose caches hold whole contexts.
    pub(crate) fn cached_layers(&self) -> u64 {
        self.layers_with(|mixer| mixer.attention().is_some()) - self.ring_layers()
    }

    /// How many layers before this one have a mixer of its kind, and their states in the same place.
    pub(crate) fn place_among_its_kind(&self, layer: u32) -> u64 {
        let kind = |block: &BlockSpec| {
            (std::mem::discriminant(&block.mixer), self.window_in_ring(block).is_some())
        };
        let own = kind(self.block(layer));
        let before = &self.blocks[..layer as usize];
        before.iter().filter(|block| kind(block) == own).count() as u64
    }

    /// Remarks for the report on what float16 changes.
    pub fn notes(&self) -> Vec<String> {
        if self.norm_epsilon == 0.0 {
            return Vec::new();
        }
        let mut notes = Vec::new();
        let rounded = f16::from_f64(self.norm_epsilon).to_f64();
        let change = (rounded - self.norm_epsilon) / self.norm_epsilon;
        if rounded == 0.0 {
            notes.push(format!("the norms' epsilon {:e} is 0 in float16", self.norm_epsilon));
        } else if change.abs() > 0.01 {
            notes.push(format!(
                "the norms' epsilon {:e} is {rounded:.4e} in float16, a change of {:+.1} %",
                self.norm_epsilon,
                100.0 * change
            ));
        }
        let of_stream = f16::from_f64(self.stream_epsilon()).to_f64();
        let acts = of_stream / (self.stream_scale * self.stream_scale);
        if self.stream_scale != 1.0 && (acts / self.norm_epsilon - 1.0).abs() > 0.01 {
            notes.push(format!(
                "in norms of the scaled residual stream, the epsilon {:e} acts as {acts:.1e}",
                self.norm_epsilon
            ));
        }
        notes
    }

    /// The epsilon of norms that read the residual stream, scaled as the stream's squares are. The
    /// smallest float16 stays, lest a row of zeros is divided by zero.
    pub(crate) fn stream_epsilon(&self) -> f64 {
        if self.stream_scale == 1.0 || self.norm_epsilon == 0.0 {
            return self.norm_epsilon;
        }
        let scaled = self.norm_epsilon * self.stream_scale * self.stream_scale;
        scaled.max(f16::from_bits(1).to_f64())
    }

    /// The description that combiners and reports read. The caller fills in the names.
    pub fn describe(&self) -> ModelDescription {
        ModelDescription::default()
            .with_layers(self.layers())
            .with_hidden_size(self.hidden_size)
            .with_vocabulary_size(self.vocabulary_size)
            .with_attention_heads(self.attention_heads)
            .with_key_value_heads(self.key_value_heads)
            .with_head_dimension(self.head_dimension)
            .with_context(self.context)
            .with_batch(self.batch)
            .with_parameters(self.parameters())
            .with_tied_embeddings(self.tied_embeddings)
            .with_head_splits(self.head_splits.clone())
            .with_states(self.states())
            .with_embedding(self.embedding_output())
            .with_notes(self.notes())
    }
}

/// The error of more layers than [`LARGEST_LAYERS`].
pub(crate) fn too_many_layers(layers: u64) -> Error {
    key_invalid("num_hidden_layers", format!("is {layers}, more than {LARGEST_LAYERS}"))
}

/// Cuts `vocabulary` rows into at most `pieces`: equal ones where `pieces` divides, else multiples
/// of 8 rows and a last piece that takes the rest. A vocabulary too small for that gets fewer.
///
/// The result is empty only if one of the arguments is 0.
pub fn split_head(vocabulary: u64, pieces: u64) -> Vec<u64> {
    for pieces in (1..=pieces.min(vocabulary)).rev() {
        if vocabulary.is_multiple_of(pieces) {
            return (0..pieces).map(|_| vocabulary / pieces).collect();
        }
        let rows = vocabulary / pieces / 8 * 8;
        if rows > 0 {
            let mut splits: Vec<u64> = (1..pieces).map(|_| rows).collect();
            splits.push(vocabulary - rows * (pieces - 1));
            return splits;
        }
    }
    Vec::new()
}

fn least_common_multiple(left: u64, right: u64) -> u64 {
    (left / greatest_common_divisor(left, right)).saturating_mul(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::ShortConvolution;
    use crate::config::LARGEST_SIZE;
    use crate::testing::small;

    #[test]
    fn heads_are_split_without_losing_a_row() {
        assert_eq!(split_head(49152, 8), [6144; 8]);
        assert_eq!(split_head(32003, 8), [4000, 4000, 4000, 4000, 4000, 4000, 4000, 4003]);
        assert_eq!(split_head(20, 8), [4; 5]);
        assert_eq!(split_head(1, 8), [1]);
        for vocabulary in 1..2000 {
            for pieces in [1, 2, 8, 16] {
                let splits = split_head(vocabulary, pieces);
                assert_eq!(splits.iter().sum::<u64>(), vocabulary);
                assert!(!splits.contains(&0) && splits.len() as u64 <= pieces);
            }
        }
        assert!(split_head(0, 8).is_empty() && split_head(8, 0).is_empty());
    }

    #[test]
    fn the_state_is_a_multiple_of_32_and_of_the_batch() {
        for (context, batch, length) in
            [(512, 64, 512), (500, 64, 512), (100, 32, 128), (96, 48, 96), (65, 3, 96)]
        {
            let spec = DecoderSpec { context, batch, ..small() };
            assert_eq!(spec.state_length(), length, "{context} {batch}");
        }
    }

    #[test]
    fn states_have_rows_for_their_own_layers() {
        let mut spec = small();
        assert_eq!(spec.states(), [StateInfo::new(STATE_NAME, [4, 2, 64, 16])]);
        let convolution = ShortConvolution { length: 3, bias: false };
        spec.blocks.insert(0, spec.blocks[0].clone());
        spec.blocks[1].mixer = Mixer::ShortConvolution(convolution);
        let columns = StateInfo::new(CONVOLUTION_STATE_NAME, [1, 1, 2, 48]);
        let columns = columns.with_kind(StateKind::Recurrent);
        assert_eq!(spec.states(), [StateInfo::new(STATE_NAME, [4, 2, 64, 16]), columns]);
        assert_eq!([0, 1, 2].map(|layer| spec.place_among_its_kind(layer)), [0, 0, 1]);
    }

    #[test]
    fn layers_with_a_window_have_rings_where_these_are_shorter() {
        let mut spec = DecoderSpec { window_cache: WindowCache::Ring, ..small() };
        spec.blocks = vec![spec.blocks[0].clone(); 3];
        let with_window = |spec: &mut DecoderSpec, layer: usize, window| {
            let Mixer::Attention(attention) = &mut spec.blocks[layer].mixer else {
                panic!("attention")
            };
            attention.window = Some(window);
        };
        assert_eq!(spec.states(), [StateInfo::new(STATE_NAME, [6, 2, 64, 16])]);
        with_window(&mut spec, 1, 24);
        let ring = |rows| {
            let ring = StateInfo::new(WINDOW_STATE_NAME, [rows, 2, 32, 16]);
            ring.with_kind(StateKind::Ring).with_window(24)
        };
        let whole = StateInfo::new(GLOBAL_STATE_NAME, [4, 2, 64, 16]);
        assert_eq!(spec.states(), [whole, ring(2)]);
        assert_eq!([0, 1, 2].map(|layer| spec.place_among_its_kind(layer)), [0, 0, 1]);
        with_window(&mut spec, 0, 25);
        assert_eq!(spec.validate().unwrap_err().at.unwrap(), "config.json: sliding_window");
        with_window(&mut spec, 0, 24);
        with_window(&mut spec, 2, 24);
        assert_eq!(spec.states(), [ring(6)]);
        spec.validate().unwrap();
        // 25 and a batch of 8 take 64 positions, which is the context.
        let idle = DecoderSpec { batch: 9, ..spec };
        assert_eq!(idle.states(), [StateInfo::new(STATE_NAME, [6, 2, 288, 16])]);
    }

    /// Linear attention of 3 taps over 2 (2 x 8) + 4 x 16 channels.
    fn delta_net() -> DeltaNet {
        DeltaNet { key_heads: 2, value_heads: 4, key_width: 8, value_width: 16, taps: 3 }
    }

    #[test]
    fn columns_fill_whole_rows_below_the_matrices() {
        let mut spec = small();
        spec.blocks.push(spec.blocks[0].clone());
        spec.blocks[0].mixer = Mixer::DeltaNet(delta_net());
        spec.blocks[2].mixer = Mixer::DeltaNet(delta_net());
        // Twice 96 channels in rows of 64.
        assert_eq!(spec.recurrent_state_shape(), Some([2, 4, 8 + 3, 16]));
        spec.validate().unwrap();
        // Three columns of 96 make no whole rows of 64, those of 128 do.
        let longer = DeltaNet { taps: 4, ..delta_net() };
        assert_eq!(longer.column_rows(), [6, 128]);
        // Two columns of 51 make no whole rows of 21.
        let odd = DeltaNet { key_heads: 3, value_heads: 3, key_width: 5, value_width: 7, taps: 3 };
        assert_eq!(odd.column_rows(), [6, 63]);
        assert!(odd.column_rows()[1] >= odd.channels());
    }

    #[test]
    fn linear_attention_is_the_same_in_all_layers_and_goes_together() {
        let at = |change: fn(&mut DeltaNet)| {
            let mut spec = small();
            let mut net = delta_net();
            change(&mut net);
            spec.blocks[0].mixer = Mixer::DeltaNet(net);
            spec.validate().unwrap_err().at.unwrap()
        };
        assert_eq!(at(|net| net.value_heads = 3), "config.json: linear_num_value_heads");
        assert_eq!(at(|net| net.key_width = 0), "config.json: linear_key_head_dim");
        assert_eq!(at(|net| net.taps = 1), "config.json: linear_conv_kernel_dim");
        assert_eq!(at(|net| net.value_width = 1 << 40), "config.json: linear_value_head_dim");
        assert_eq!(at(|net| net.key_width = 1 << 30), "config.json: linear_value_head_dim");
        let mut spec = small();
        spec.blocks.push(spec.blocks[0].clone());
        spec.blocks[0].mixer = Mixer::DeltaNet(delta_net());
        spec.blocks[1].mixer = Mixer::DeltaNet(DeltaNet { taps: 4, ..delta_net() });
        assert_eq!(spec.validate().unwrap_err().at.unwrap(), "config.json: layer_types");
    }

    #[test]
    fn values_that_do_not_go_together_are_named() {
        let at = |change: fn(&mut DecoderSpec)| {
            let mut spec = small();
            change(&mut spec);
            spec.validate().unwrap_err().at.unwrap()
        };
        assert!(small().validate().is_ok());
        assert_eq!(at(|spec| spec.hidden_size = 0), "config.json: hidden_size");
        assert_eq!(at(|spec| spec.hidden_size = LARGEST_SIZE), "config.json: hidden_size");
        assert_eq!(at(|spec| spec.attention_heads = 1 << 40), "config.json: num_attention_heads");
        assert_eq!(at(|spec| spec.attention_heads = 1 << 30), "config.json: num_attention_heads");
        assert_eq!(at(|spec| spec.blocks.clear()), "config.json: num_hidden_layers");
        let many = |spec: &mut DecoderSpec| {
            spec.blocks = vec![spec.blocks[0].clone(); LARGEST_LAYERS as usize + 1];
        };
        assert_eq!(at(many), "config.json: num_hidden_layers");
        let huge = |spec: &mut DecoderSpec| {
            spec.hidden_size = 1 << 24;
            spec.blocks[0].mlp.intermediate_size = 1 << 24;
        };
        assert_eq!(at(huge), "config.json: hidden_size");
        assert_eq!(at(|spec| spec.key_value_heads = 3), "config.json: num_key_value_heads");
        assert_eq!(at(|spec| spec.head_dimension = 7), "config.json: head_dim");
        assert_eq!(at(|spec| spec.head_dimension = 8), "config.json: head_dim");
        let attention = |spec: &mut DecoderSpec, change: fn(&mut crate::block::Attention)| {
            let Mixer::Attention(attention) = &mut spec.blocks[1].mixer else {
                panic!("attention")
            };
            change(attention);
            spec.validate().unwrap_err().at.unwrap()
        };
        let window = attention(&mut small(), |attention| attention.window = Some(0));
        assert_eq!(window, "config.json: sliding_window");
        let rotation = attention(&mut small(), |attention| attention.rotation = Some(1));
        assert_eq!(rotation, "config.json: layer_types");
        let cap = attention(&mut small(), |attention| attention.score_cap = Some(-1.0));
        assert_eq!(cap, "config.json: attn_logit_softcapping");
        let convolve = |lengths: &[u64]| {
            let mut spec = small();
            for (block, length) in spec.blocks.iter_mut().zip(lengths) {
                let convolution = ShortConvolution { length: *length, bias: false };
                block.mixer = Mixer::ShortConvolution(convolution);
            }
            spec.blocks.push(small().blocks[0].clone());
            spec
        };
        assert_eq!(convolve(&[3, 3]).validate(), Ok(()));
        for lengths in [[1, 1], [LONGEST_KERNEL + 1, 3], [3, 4]] {
            let at = convolve(&lengths).validate().unwrap_err().at.unwrap();
            assert_eq!(at, "config.json: conv_L_cache");
        }
        let mut without = convolve(&[3, 3]);
        without.blocks.truncate(2);
        assert_eq!(without.validate().unwrap_err().at.unwrap(), "config.json: layer_types");
        assert_eq!(at(|spec| spec.logit_cap = Some(0.0)), "config.json: final_logit_softcapping");
        assert_eq!(at(|spec| spec.norm_epsilon = f64::NAN), "config.json: rms_norm_eps");
        assert_eq!(at(|spec| spec.norm_epsilon = -1e-5), "config.json: rms_norm_eps");
        assert_eq!(at(|spec| spec.head_splits = vec![0]), "config.json: vocab_size");
        assert_eq!(at(|spec| spec.head_splits = vec![u64::MAX, 2]), "config.json: vocab_size");
        assert_eq!(at(|spec| spec.context = 0), "--context");
        assert_eq!(at(|spec| spec.context = u64::MAX), "--context");
        assert_eq!(at(|spec| spec.batch = 0), "--batch");
        assert_eq!(at(|spec| spec.batch = spec.context + 1), "--batch");
    }

    #[test]
    fn float16_epsilons_are_remarked_on() {
        let notes = |norm_epsilon| DecoderSpec { norm_epsilon, ..small() }.notes();
        assert!(notes(1e-5).is_empty() && notes(0.0).is_empty());
        assert_eq!(
            notes(1e-6),
            ["the norms' epsilon 1e-6 is 1.0133e-6 in float16, a change of +1.3 %"]
        );
        assert_eq!(notes(1e-8), ["the norms' epsilon 1e-8 is 0 in float16"]);
        let scaled = DecoderSpec { stream_scale: 0.125, norm_epsilon: 1e-5, ..small() };
        assert!(scaled.notes().len() == 1 && scaled.notes()[0].ends_with("acts as 1.1e-5"));
        let small = DecoderSpec { stream_scale: 1.0 / 32.0, ..scaled };
        assert!(small.notes()[0].ends_with("the epsilon 1e-5 acts as 6.1e-5"));
    }
}
