//! References to the weights of a decoder: tensors, rows, shapes, roles, spaces and factors, and the
//! names of their constants.

use anemll_plugin_api::data::WeightReference;

use crate::block::{DeltaNet, NormKind, QueryKeyNorm};
use crate::spec::{DecoderSpec, Fusion, OutputProjection};
use crate::weights::{LayerWeight, Matrix, NormPlace, Weight};

const RESIDUAL: &str = "residual";
/// The norm after the last layer.
const NORM: &str = "norm";
const HIDDEN: &str = "hidden_size";
const HEAD: &str = "head_dim";
const HEADS: &str = "num_attention_heads";
const QUERIES: &str = "num_attention_heads*head_dim";
const KEYS: &str = "num_key_value_heads*head_dim";
const ATTENTION: &str = "(num_attention_heads+2*num_key_value_heads)*head_dim";
const INNER: &str = "intermediate_size";
const BOTH_INNER: &str = "2*intermediate_size";
const GATED_QUERIES: &str = "2*num_attention_heads*head_dim";
const VALUE_HEADS: &str = "linear_num_value_heads";
const VALUE_WIDTH: &str = "linear_value_head_dim";
const VALUES: &str = "linear_num_value_heads*linear_value_head_dim";
const CHANNELS: &str =
    "2*linear_num_key_heads*linear_key_head_dim+linear_num_value_heads*linear_value_head_dim";
const CONVOLUTION: &str = "3*hidden_size";

/// A dimension, and what gives it in the configuration.
type Size = (u64, &'static str);

impl DecoderSpec {
    /// Elements of all tensors that the model reads, a tied head once; saturates.
    pub fn parameters(&self) -> u64 {
        self.weights()
            .filter(|weight| !(self.tied_embeddings && matches!(weight, Weight::Head(_))))
            .map(|weight| {
                let WeightReference { mut shape, rows, .. } = self.reference(weight);
                if let (Some([first, end]), Some(size)) = (rows, shape.first_mut()) {
                    *size = end.saturating_sub(first);
                }
                shape.into_iter().fold(1, u64::saturating_mul)
            })
            .fold(0, u64::saturating_add)
    }

    /// The reference to a weight: the same for every function that uses it.
    pub fn reference(&self, weight: Weight) -> WeightReference {
        let mut reference = self.usual_reference(weight);
        for dimension in &mut reference.dimensions {
            *dimension = self.key_names.spell(dimension);
        }
        reference
    }

    /// The same, with the usual names of keys.
    fn usual_reference(&self, weight: Weight) -> WeightReference {
        let prefix = &self.tensor_prefix;
        let hidden = (self.hidden_size, HIDDEN);
        let table = [(self.vocabulary_size, "vocab_size"), hidden];
        let embedding = format!("{prefix}embed_tokens.weight");
        match weight {
            Weight::Embedding => plain(embedding, &table, "embedding")
                .with_scale(factor(self.embedding_scale * self.stream_scale))
                .with_writes(self.stream()),
            Weight::FinalNorm => {
                let tensor = format!("{prefix}{}.weight", self.stored_module(NORM));
                self.gain(tensor, hidden, 1.0).with_reads(self.stream())
            }
            Weight::FinalNormBias => {
                let tensor = format!("{prefix}{}.bias", self.stored_module(NORM));
                plain(tensor, &[hidden], "norm.bias")
            }
            Weight::Head(piece) => {
                let tensor =
                    if self.tied_embeddings { embedding } else { self.head_tensor.clone() };
                let first = self.head_splits.iter().take(piece).sum::<u64>();
                let rows = self.head_splits.get(piece).map(|rows| [first, first + rows]);
                let norm = self.stream().map(|_| Box::new(self.reference(Weight::FinalNorm)));
                plain(tensor, &table, "head")
                    .with_rows(rows.filter(|_| self.head_splits.len() > 1))
                    .with_scale(factor(self.logit_scale))
                    .with_reads(self.stream())
                    .with_gain(norm)
            }
            Weight::Dense(number) | Weight::DenseBias(number) => {
                self.dense_reference(weight, number)
            }
            Weight::Layer(layer, weight) => self.layer_reference(layer, weight).with_layer(layer),
        }
    }

    /// A weight of a layer behind the pooling.
    fn dense_reference(&self, weight: Weight, number: usize) -> WeightReference {
        let Some(layer) = self.dense_layers().get(number) else {
            return WeightReference::default();
        };
        let outputs = (layer.outputs, "out_features");
        match weight {
            Weight::DenseBias(_) => {
                let tensor = layer.bias.clone().unwrap_or_default();
                plain(tensor, &[outputs], "dense.bias")
            }
            _ => plain(layer.weight.clone(), &[outputs, (layer.inputs, "in_features")], "dense"),
        }
    }

    fn layer_reference(&self, layer: u32, weight: LayerWeight) -> WeightReference {
        let hidden = (self.hidden_size, HIDDEN);
        let tensor = |module: &str, kind: &str| self.layer_tensor(layer, module, kind);
        let space = |name: Option<&str>| match name {
            Some(name) => Some(format!("{name}.{layer}")),
            None => self.stream(),
        };
        let placement = self.block(layer).placement;
        match weight {
            LayerWeight::Norm(place) => {
                let tensor = tensor(place.module(placement), "weight");
                match place {
                    NormPlace::Input | NormPlace::Mlp => {
                        self.gain(tensor, hidden, 1.0).with_reads(self.stream())
                    }
                    NormPlace::Query => self
                        .gain(tensor, self.normed_heads(layer, Matrix::Query), 1.0)
                        .with_reads(space(Some("attention.q"))),
                    NormPlace::Key => self
                        .gain(tensor, self.normed_heads(layer, Matrix::Key), 1.0)
                        .with_reads(space(Some("attention.k"))),
                    NormPlace::MixerOutput | NormPlace::MlpOutput => {
                        self.gain(tensor, hidden, self.written_scale(layer))
                    }
                }
            }
            LayerWeight::NormBias(place) => {
                let scale = match place {
                    NormPlace::MixerOutput | NormPlace::MlpOutput => self.written_scale(layer),
                    _ => 1.0,
                };
                plain(tensor(place.module(placement), "bias"), &[hidden], "norm.bias")
                    .with_scale(factor(scale))
            }
            LayerWeight::Matrix(matrix) => {
                let order = || Some(Box::new(self.channel_order(layer)));
                let reference = self.matrix_reference(layer, matrix);
                match matrix {
                    Matrix::Gate | Matrix::Up => reference.with_row_order(order()),
                    Matrix::Down => reference.with_column_order(order()),
                    _ => reference,
                }
            }
            LayerWeight::Bias(matrix) => {
                let order = || Some(Box::new(self.channel_order(layer)));
                let ordered = matches!(matrix, Matrix::Gate | Matrix::Up);
                let (module, sizes, rows) = self.stored(layer, matrix);
                plain(tensor(module, "bias"), &sizes[..1], &format!("{}.bias", matrix.role()))
                    .with_rows(rows)
                    .with_scale(self.factor_of(layer, matrix))
                    .with_writes(space(matrix.spaces(self.block(layer).mlp.gated).1))
                    .with_row_order(ordered.then(order).flatten())
            }
            LayerWeight::Kernel
            | LayerWeight::KernelBias
            | LayerWeight::DecayBias
            | LayerWeight::DecayRate
            | LayerWeight::ReadGain
            | LayerWeight::Sinks => {
                let name = weight.own_name(&self.block(layer).mixer).unwrap_or_default();
                let tensor = format!("{}layers.{layer}.{name}", self.tensor_prefix);
                let (sizes, role) = self.own_sizes(layer, weight);
                plain(tensor, &sizes, role)
            }
        }
    }

    /// A matrix of a layer, whatever order its channels have.
    fn matrix_reference(&self, layer: u32, matrix: Matrix) -> WeightReference {
        let block = self.block(layer);
        let (reads, writes) = matrix.spaces(block.mlp.gated);
        let space =
            |name: Option<&str>| name.map_or(self.stream(), |name| Some(format!("{name}.{layer}")));
        let (module, sizes, rows) = self.stored(layer, matrix);
        let norm = matrix.norm(block.placement).filter(|_| self.stream().is_some());
        let norm = norm.map(LayerWeight::Norm);
        let norm = norm.map(|norm| self.reference(Weight::Layer(layer, norm)));
        plain(self.layer_tensor(layer, module, "weight"), &sizes, matrix.role())
            .with_rows(rows)
            .with_scale(self.factor_of(layer, matrix))
            .with_gain(norm.map(Box::new))
            .with_reads(space(reads))
            .with_writes(space(writes))
    }

    /// The matrix by which the channels of an MLP may be ordered: that of the gate, and without one that
    /// which goes up. An activation does not mix channels.
    fn channel_order(&self, layer: u32) -> WeightReference {
        let gated = self.block(layer).mlp.gated;
        let mut reference =
            self.matrix_reference(layer, if gated { Matrix::Gate } else { Matrix::Up });
        for dimension in &mut reference.dimensions {
            *dimension = self.key_names.spell(dimension);
        }
        reference
    }

    /// The name of a module's tensor in the weight files.
    fn layer_tensor(&self, layer: u32, module: &str, kind: &str) -> String {
        let module = self.stored_module(module);
        format!("{}layers.{layer}.{module}.{kind}", self.tensor_prefix)
    }

    /// Sizes and role of a weight of a mixer that is neither a norm's nor a projection's.
    fn own_sizes(&self, layer: u32, weight: LayerWeight) -> (Vec<Size>, &'static str) {
        let delta_net = self.block(layer).mixer.delta_net();
        let of = |size: fn(&DeltaNet) -> u64| delta_net.map(size).unwrap_or_default();
        let one = (1, "1");
        match weight {
            LayerWeight::DecayBias => {
                (vec![(of(|net| net.value_heads), VALUE_HEADS)], "delta.decay.bias")
            }
            LayerWeight::DecayRate => {
                (vec![(of(|net| net.value_heads), VALUE_HEADS)], "delta.rate")
            }
            LayerWeight::ReadGain => (vec![(of(|net| net.value_width), VALUE_WIDTH)], "norm.gain"),
            LayerWeight::Sinks => (vec![(self.attention_heads, HEADS)], "attention.sinks"),
            LayerWeight::KernelBias => {
                (vec![(self.hidden_size, HIDDEN)], "convolution.kernel.bias")
            }
            _ => {
                let sizes = match delta_net {
                    Some(net) => {
                        vec![(net.channels(), CHANNELS), one, (net.taps, "linear_conv_kernel_dim")]
                    }
                    None => {
                        let taps = self.convolution_length().unwrap_or_default();
                        vec![(self.hidden_size, HIDDEN), one, (taps, "conv_L_cache")]
                    }
                };
                (sizes, "convolution.kernel")
            }
        }
    }

    /// What the weight files call a module that Llama calls so.
    pub(crate) fn stored_module<'a>(&self, module: &'a str) -> &'a str {
        let other = self.modules.iter().find(|(usual, _)| *usual == module);
        other.map_or(module, |(_, stored)| stored)
    }

    /// A norm's gain times a factor.
    fn gain(&self, tensor: String, size: Size, scale: f64) -> WeightReference {
        let one = self.norm.one_plus.then_some(scale as f32);
        plain(tensor, &[size], "norm.gain").with_scale(factor(scale)).with_add(one)
    }

    /// Elements of the gain of queries or keys.
    fn normed_heads(&self, layer: u32, matrix: Matrix) -> Size {
        match self.block(layer).mixer.attention().and_then(|own| own.query_key_norm) {
            Some(QueryKeyNorm::Width) => self.sizes(layer, matrix)[0],
            _ => (self.head_dimension, HEAD),
        }
    }

    /// Elements that a projection gives for each token.
    pub(crate) fn outputs_of(&self, layer: u32, matrix: Matrix) -> u64 {
        self.sizes(layer, matrix)[0].0
    }

    /// Rows and columns of a projection.
    fn sizes(&self, layer: u32, matrix: Matrix) -> [Size; 2] {
        let hidden = (self.hidden_size, HIDDEN);
        let queries = (self.attention_heads.saturating_mul(self.head_dimension), QUERIES);
        let keys = (self.key_value_heads.saturating_mul(self.head_dimension), KEYS);
        let inner = (self.block(layer).mlp.intermediate_size, INNER);
        let mixer = &self.block(layer).mixer;
        let gated = mixer.attention().is_some_and(|attention| attention.output_gate);
        let of = |size: fn(&DeltaNet) -> u64| mixer.delta_net().map(size).unwrap_or_default();
        match matrix {
            Matrix::Query if gated => [(queries.0.saturating_mul(2), GATED_QUERIES), hidden],
            Matrix::Query => [queries, hidden],
            Matrix::DeltaQueryKeyValue => [(of(DeltaNet::channels), CHANNELS), hidden],
            Matrix::DeltaGate => [(of(DeltaNet::values), VALUES), hidden],
            Matrix::DeltaBeta | Matrix::DeltaDecay => {
                [(of(|net| net.value_heads), VALUE_HEADS), hidden]
            }
            Matrix::DeltaOutput => [hidden, (of(DeltaNet::values), VALUES)],
            Matrix::Key | Matrix::Value => [keys, hidden],
            Matrix::Output => [hidden, queries],
            Matrix::Gate | Matrix::Up => [inner, hidden],
            Matrix::Down => [hidden, inner],
            Matrix::ConvolutionGate
            | Matrix::ConvolutionOutputGate
            | Matrix::ConvolutionInput
            | Matrix::ConvolutionOutput => [hidden, hidden],
        }
    }

    /// The module whose tensor holds a projection, the tensor's rows and columns, and which of the
    /// rows are the projection's, if not all.
    fn stored(&self, layer: u32, matrix: Matrix) -> (&'static str, [Size; 2], Option<[u64; 2]>) {
        let [own, columns] = self.sizes(layer, matrix);
        let always = Matrix::CONVOLUTION.contains(&matrix);
        let is_fused = match self.fusion {
            Fusion::None => always,
            Fusion::Mlp => always || [Matrix::Gate, Matrix::Up].contains(&matrix),
            Fusion::All => true,
        };
        let fused = matrix.fused().filter(|_| is_fused);
        let Some((module, parts)) = fused else {
            return (matrix.module(), [own, columns], None);
        };
        let rows = |parts: &[Matrix]| {
            let sizes = parts.iter().map(|part| self.sizes(layer, *part)[0].0);
            sizes.fold(0, u64::saturating_add)
        };
        let before = parts.iter().position(|part| *part == matrix).unwrap_or_default();
        let first = rows(&parts[..before]);
        let name = match matrix {
            Matrix::Gate | Matrix::Up => BOTH_INNER,
            _ if always => CONVOLUTION,
            _ => ATTENTION,
        };
        let range = [first, first.saturating_add(own.0)];
        (module, [(rows(parts), name), columns], Some(range))
    }

    /// The factor of what a layer's last steps add to the residual stream.
    fn written_scale(&self, layer: u32) -> f64 {
        self.block(layer).residual_scale * self.stream_scale
    }

    /// The factor of a projection: that of what is added, unless a norm after it has that.
    fn factor_of(&self, layer: u32, matrix: Matrix) -> Option<f32> {
        let adds = matrix.adds() && !self.block(layer).placement.is_after();
        factor(if adds { self.written_scale(layer) } else { 1.0 })
    }

    /// The name of the residual stream as a space whose basis may be changed; none where a norm tells
    /// one basis from another: LayerNorm by its mean, a norm of what is added by its gain.
    fn stream(&self) -> Option<String> {
        let free = self.norm.kind == NormKind::RootMeanSquare
            && self.blocks.iter().all(|block| !block.placement.is_after());
        free.then(|| RESIDUAL.to_owned())
    }

    /// The epsilon of a norm.
    pub(crate) fn epsilon_of(&self, gain: Weight) -> f64 {
        let reads_stream = match gain {
            Weight::Layer(_, LayerWeight::Norm(place)) => {
                matches!(place, NormPlace::Input | NormPlace::Mlp)
            }
            _ => true,
        };
        if reads_stream { self.stream_epsilon() } else { self.norm_epsilon }
    }

    /// The weight's shape in the graph: matrices of 1x1 convolutions have rank 4.
    pub fn graph_shape(&self, weight: Weight) -> Vec<u64> {
        let WeightReference { mut shape, rows, .. } = self.reference(weight);
        if let (Some([first, end]), Some(size)) = (rows, shape.first_mut()) {
            *size = end.saturating_sub(first);
        }
        match weight {
            Weight::Head(_) => shape.extend([1, 1]),
            Weight::Layer(_, LayerWeight::Matrix(matrix)) if self.is_convolution(matrix) => {
                shape.extend([1, 1]);
            }
            // As factors of channels, a column for each tap.
            Weight::Layer(_, LayerWeight::Kernel) => shape.insert(0, 1),
            Weight::Layer(
                _,
                LayerWeight::KernelBias
                | LayerWeight::DecayBias
                | LayerWeight::DecayRate
                | LayerWeight::Sinks,
            ) => {
                shape.insert(0, 1);
                shape.extend([1, 1]);
            }
            _ => {}
        }
        shape
    }

    /// Whether a projection is written as a 1x1 convolution.
    pub fn is_convolution(&self, matrix: Matrix) -> bool {
        matrix != Matrix::Output || self.output_projection == OutputProjection::Convolution
    }

    /// The weight's name in the graph, in ANEMLL's style, fused or not:
    /// `model_model_layers_0_self_attn_q_proj_weight`.
    pub fn graph_name(&self, weight: Weight) -> String {
        let in_layer = |layer: u32, module: &str, kind: &str| {
            format!("model_model_layers_{layer}_{}_{kind}", module.replace('.', "_"))
        };
        match weight {
            Weight::Embedding => "model_model_embed_tokens_weight".to_owned(),
            Weight::FinalNorm => "model_model_norm_weight".to_owned(),
            Weight::FinalNormBias => "model_model_norm_bias".to_owned(),
            Weight::Dense(number) => format!("model_dense_{number}_weight"),
            Weight::DenseBias(number) => format!("model_dense_{number}_bias"),
            Weight::Head(piece) => {
                format!("model_lm_head{}_{}_weight", self.head_splits.len(), piece + 1)
            }
            Weight::Layer(layer, weight) => {
                let placement = self.block(layer).placement;
                match weight {
                    LayerWeight::Norm(place) => in_layer(layer, place.module(placement), "weight"),
                    LayerWeight::NormBias(place) => {
                        in_layer(layer, place.module(placement), "bias")
                    }
                    LayerWeight::Matrix(matrix) => in_layer(layer, matrix.module(), "weight"),
                    LayerWeight::Bias(matrix) => in_layer(layer, matrix.module(), "bias"),
                    own => {
                        let name = own.own_name(&self.block(layer).mixer).unwrap_or_default();
                        format!("model_model_layers_{layer}_{}", name.replace('.', "_"))
                    }
                }
            }
        }
    }
}

/// A reference to a whole tensor.
fn plain(tensor: String, sizes: &[Size], role: &str) -> WeightReference {
    WeightReference::new(tensor, sizes.iter().map(|(size, _)| *size).collect::<Vec<_>>(), role)
        .with_dimensions(sizes.iter().map(|(_, key)| (*key).to_owned()).collect())
}

/// A factor, where it changes something.
fn factor(scale: f64) -> Option<f32> {
    Some(scale as f32).filter(|scale| *scale != 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Mixer, Norm, NormPlacement};
    use crate::testing::small;

    #[test]
    fn references_and_names_are_as_the_files_and_the_graph_have_them() {
        let spec = small();
        let query = Weight::Layer(1, LayerWeight::Matrix(Matrix::Query));
        let reference = spec.reference(query);
        assert_eq!(reference.tensor, "model.layers.1.self_attn.q_proj.weight");
        assert_eq!(reference.shape, [64, 48]);
        assert_eq!(reference.dimensions, ["num_attention_heads*head_dim", "hidden_size"]);
        assert_eq!(
            (reference.layer, reference.writes.as_deref()),
            (Some(1), Some("attention.q.1"))
        );
        assert_eq!(spec.graph_name(query), "model_model_layers_1_self_attn_q_proj_weight");
        assert_eq!(spec.graph_shape(query), [64, 48, 1, 1]);
        let output = Weight::Layer(0, LayerWeight::Matrix(Matrix::Output));
        assert_eq!(spec.graph_shape(output), [48, 64]);
        let base = DecoderSpec { tensor_prefix: String::new(), ..small() };
        assert_eq!(base.reference(query).tensor, "layers.1.self_attn.q_proj.weight");
        assert_eq!(base.graph_name(query), spec.graph_name(query));
    }

    #[test]
    fn head_pieces_cover_the_table() {
        let mut spec = small();
        let pieces: Vec<_> =
            (0..spec.head_splits.len()).map(|piece| spec.reference(Weight::Head(piece))).collect();
        assert_eq!(pieces[0].rows, Some([0, 32]));
        assert_eq!(pieces[1].rows, Some([32, 65]));
        assert_eq!(spec.graph_shape(Weight::Head(1)), [33, 48, 1, 1]);
        assert_eq!(pieces[0].tensor, "lm_head.weight");
        spec.tied_embeddings = true;
        spec.head_splits = vec![65];
        let piece = spec.reference(Weight::Head(0));
        assert_eq!((piece.tensor.as_str(), piece.rows), ("model.embed_tokens.weight", None));
        assert_eq!(spec.graph_name(Weight::Head(0)), "model_lm_head1_1_weight");
    }

    #[test]
    fn parameters_are_the_sum_of_all_tensors() {
        for tied in [false, true] {
            let mut spec = DecoderSpec {
                tied_embeddings: tied,
                fusion: if tied { Fusion::All } else { Fusion::None },
                ..small()
            };
            for block in &mut spec.blocks {
                block.placement = NormPlacement::Both;
                block.mlp.bias = true;
                let Mixer::Attention(attention) = &mut block.mixer else { panic!("attention") };
                attention.query_key_norm = Some(QueryKeyNorm::Width);
                attention.query_key_value_bias = true;
                attention.output_bias = true;
            }
            let mut tensors: Vec<_> = spec
                .weights()
                .map(|weight| spec.reference(weight))
                .map(|reference| (reference.tensor, reference.shape))
                .collect();
            tensors.sort();
            tensors.dedup();
            let sum: u64 = tensors.iter().map(|(_, shape)| shape.iter().product::<u64>()).sum();
            assert_eq!(spec.parameters(), sum);
        }
    }

    #[test]
    fn fused_projections_are_rows_of_one_tensor() {
        let spec = DecoderSpec { fusion: Fusion::All, ..small() };
        let of = |matrix| {
            let weight = Weight::Layer(1, LayerWeight::Matrix(matrix));
            let reference = spec.reference(weight);
            (reference.tensor, reference.shape, reference.rows, spec.graph_shape(weight))
        };
        let qkv = "model.layers.1.self_attn.qkv_proj.weight".to_owned();
        let whole = vec![128, 48];
        for (matrix, rows) in
            [(Matrix::Query, [0, 64]), (Matrix::Key, [64, 96]), (Matrix::Value, [96, 128])]
        {
            let shape = vec![rows[1] - rows[0], 48, 1, 1];
            assert_eq!(of(matrix), (qkv.clone(), whole.clone(), Some(rows), shape));
        }
        assert_eq!(of(Matrix::Up).2, Some([80, 160]));
        assert_eq!(of(Matrix::Down).2, None);
        let mlp_alone = DecoderSpec { fusion: Fusion::Mlp, ..small() };
        let rows = |matrix| mlp_alone.reference(Weight::Layer(1, LayerWeight::Matrix(matrix))).rows;
        assert_eq!((rows(Matrix::Query), rows(Matrix::Gate)), (None, Some([0, 80])));
        let up = Weight::Layer(1, LayerWeight::Matrix(Matrix::Up));
        assert_eq!(spec.graph_name(up), small().graph_name(up));
    }

    #[test]
    fn factors_are_where_values_come_in() {
        let scale = |spec: &DecoderSpec, weight| {
            let reference = spec.reference(weight);
            (reference.scale, reference.add)
        };
        let output = Weight::Layer(0, LayerWeight::Matrix(Matrix::Output));
        let gain = Weight::Layer(0, LayerWeight::Norm(NormPlace::MixerOutput));
        let input = Weight::Layer(0, LayerWeight::Norm(NormPlace::Input));
        let mut spec = DecoderSpec {
            norm: Norm::RMS_ONE_PLUS,
            embedding_scale: 8.0,
            stream_scale: 0.25,
            logit_scale: 0.5,
            ..small()
        };
        spec.blocks[0].residual_scale = 0.5;
        assert_eq!(scale(&spec, Weight::Embedding), (Some(2.0), None));
        assert_eq!(scale(&spec, Weight::Head(0)), (Some(0.5), None));
        assert_eq!(scale(&spec, output), (Some(0.125), None));
        assert_eq!(scale(&spec, input), (None, Some(1.0)));
        assert_eq!(spec.epsilon_of(input), 1e-5 / 16.0);
        spec.blocks[0].placement = NormPlacement::Both;
        // Where a norm is last, its gain has the factor: (1 + w) f = w f + f.
        assert_eq!(scale(&spec, output), (None, None));
        assert_eq!(scale(&spec, gain), (Some(0.125), Some(0.125)));
        assert_eq!(spec.epsilon_of(gain), 1e-5);
    }

    #[test]
    fn the_channels_of_an_mlp_have_one_order() {
        let mut spec = small();
        spec.blocks[1].mlp.gated = false;
        let of = |layer, matrix| spec.reference(Weight::Layer(layer, LayerWeight::Matrix(matrix)));
        let name = |order: Option<Box<WeightReference>>| order.map(|order| order.tensor);
        let [gate, up] =
            ["gate", "up"].map(|name| format!("model.layers.0.mlp.{name}_proj.weight"));
        assert_eq!(name(of(0, Matrix::Gate).row_order), Some(gate.clone()));
        assert_eq!(name(of(0, Matrix::Up).row_order), Some(gate.clone()));
        assert_eq!(of(0, Matrix::Up).column_order, None);
        assert_eq!(of(0, Matrix::Down).column_order, of(0, Matrix::Gate).row_order);
        assert_eq!(of(0, Matrix::Down).row_order, None);
        let up = up.replace("layers.0", "layers.1");
        assert_eq!(name(of(1, Matrix::Up).row_order), Some(up.clone()));
        assert_eq!(name(of(1, Matrix::Down).column_order), Some(up));
        let bias = spec.reference(Weight::Layer(0, LayerWeight::Bias(Matrix::Up)));
        assert_eq!(name(bias.row_order), Some(gate));
        for matrix in [Matrix::Query, Matrix::Output] {
            assert_eq!((of(0, matrix).row_order, of(0, matrix).column_order), (None, None));
        }
    }

    #[test]
    fn an_activation_ends_the_space_of_the_up_projection() {
        let mut spec = small();
        spec.blocks[1].mlp.gated = false;
        let of = |layer, matrix| spec.reference(Weight::Layer(layer, LayerWeight::Matrix(matrix)));
        assert_eq!(of(0, Matrix::Down).reads, of(0, Matrix::Up).writes);
        assert_ne!(of(1, Matrix::Down).reads, of(1, Matrix::Up).writes);
    }

    #[test]
    fn a_scaled_stream_is_refused_where_layers_read_it_without_a_norm() {
        let mut spec = DecoderSpec { stream_scale: 0.5, ..small() };
        spec.validate().unwrap();
        spec.blocks[1].placement = NormPlacement::After;
        let error = spec.validate().unwrap_err();
        assert_eq!(error.code, anemll_plugin_api::codes::PLUGIN_OPTION_INVALID);
        assert!(error.message.contains("layer 1 reads the residual stream"), "{error}");
        DecoderSpec { stream_scale: 1.0, ..spec }.validate().unwrap();
    }

    #[test]
    fn the_stream_is_named_only_where_its_basis_may_change() {
        let named = |spec: &DecoderSpec| {
            spec.weights().any(|weight| {
                let reference = spec.reference(weight);
                [reference.reads, reference.writes].contains(&Some(RESIDUAL.to_owned()))
                    || reference.gain.is_some()
            })
        };
        let mut spec = small();
        assert!(named(&spec));
        spec.norm = Norm::LAYER;
        assert!(!named(&spec));
        spec.norm = Norm::RMS_ONE_PLUS;
        assert!(named(&spec));
        spec.blocks[1].placement = NormPlacement::After;
        assert!(!named(&spec));
    }
}
