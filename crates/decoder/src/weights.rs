//! The weights of a decoder: which there are, and how tensors are called.

use crate::block::{Mixer, NormPlacement};
use crate::spec::DecoderSpec;

/// A weight of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// The embedding table.
    Embedding,
    /// A weight of a layer.
    Layer(u32, LayerWeight),
    /// Gain of the norm after the last layer.
    FinalNorm,
    /// Bias of that norm.
    FinalNormBias,
    /// A piece of the head, counted from 0.
    Head(usize),
    /// The matrix of a layer behind the pooling, counted from 0.
    Dense(usize),
    /// The bias of a layer behind the pooling.
    DenseBias(usize),
}

/// A weight of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerWeight {
    /// The gain of a norm.
    Norm(NormPlace),
    /// The bias of a norm.
    NormBias(NormPlace),
    /// A matrix.
    Matrix(Matrix),
    /// The bias of a matrix.
    Bias(Matrix),
    /// The taps of a convolution over time, for each channel.
    Kernel,
    /// The bias of a short convolution.
    KernelBias,
    /// What is added to a value head's decay before the softplus.
    DecayBias,
    /// The logarithm of the rate at which a value head decays.
    DecayRate,
    /// The gain of the norm of what linear attention reads, one for all heads.
    ReadGain,
    /// The score of each head of attention that has no value.
    Sinks,
}

/// What a norm of a layer is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NormPlace {
    /// What the mixer reads.
    Input,
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// What the mixer gives.
    MixerOutput,
    /// What the MLP reads.
    Mlp,
    /// What the MLP gives.
    MlpOutput,
}

impl NormPlace {
    /// What the norm is called in the weight files, behind the layer's number: models that normalize
    /// after the mixer have other names for the norm before the MLP.
    pub(crate) const fn module(self, placement: NormPlacement) -> &'static str {
        match self {
            Self::Input => "input_layernorm",
            Self::Query => "self_attn.q_norm",
            Self::Key => "self_attn.k_norm",
            Self::Mlp if placement.is_after() => "pre_feedforward_layernorm",
            Self::Mlp | Self::MixerOutput => "post_attention_layernorm",
            Self::MlpOutput => "post_feedforward_layernorm",
        }
    }
}

/// A projection of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// To queries.
    Query,
    /// To keys.
    Key,
    /// To values.
    Value,
    /// From attention back to the residual stream.
    Output,
    /// To the MLP's gate.
    Gate,
    /// To the MLP's inner space.
    Up,
    /// From the MLP back to the residual stream.
    Down,
    /// To the gate of what a short convolution reads.
    ConvolutionGate,
    /// To the gate of what it gives.
    ConvolutionOutputGate,
    /// To what it reads.
    ConvolutionInput,
    /// From a short convolution back to the residual stream.
    ConvolutionOutput,
    /// To the queries, keys and values of linear attention.
    DeltaQueryKeyValue,
    /// To the gate of what linear attention reads.
    DeltaGate,
    /// To how far each value head replaces what it has.
    DeltaBeta,
    /// To how fast each value head decays.
    DeltaDecay,
    /// From linear attention back to the residual stream.
    DeltaOutput,
}

/// The module of a short convolution's taps.
const KERNEL: &str = "conv.conv";
/// The module of the taps of linear attention.
const DELTA_KERNEL: &str = "linear_attn.conv1d";

impl LayerWeight {
    /// What a weight of a mixer that is neither a norm's nor a projection's is called behind the layer's
    /// number, as stored and in the graph.
    pub(crate) fn own_name(self, mixer: &Mixer) -> Option<String> {
        let kernel = if mixer.delta_net().is_some() { DELTA_KERNEL } else { KERNEL };
        match self {
            Self::Kernel => Some(format!("{kernel}.weight")),
            Self::KernelBias => Some(format!("{kernel}.bias")),
            Self::DecayBias => Some("linear_attn.dt_bias".to_owned()),
            Self::DecayRate => Some("linear_attn.A_log".to_owned()),
            Self::ReadGain => Some("linear_attn.norm.weight".to_owned()),
            Self::Sinks => Some("self_attn.sinks".to_owned()),
            Self::Norm(_) | Self::NormBias(_) | Self::Matrix(_) | Self::Bias(_) => None,
        }
    }
}

impl Matrix {
    /// The projections of attention in the order in which a layer uses them.
    pub const ATTENTION: [Self; 4] = [Self::Query, Self::Key, Self::Value, Self::Output];

    /// Those of a short convolution.
    pub const CONVOLUTION: [Self; 4] = [
        Self::ConvolutionGate,
        Self::ConvolutionOutputGate,
        Self::ConvolutionInput,
        Self::ConvolutionOutput,
    ];

    /// Those of linear attention.
    pub const DELTA: [Self; 5] = [
        Self::DeltaQueryKeyValue,
        Self::DeltaGate,
        Self::DeltaBeta,
        Self::DeltaDecay,
        Self::DeltaOutput,
    ];

    /// Those of the MLP.
    pub const MLP: [Self; 3] = [Self::Gate, Self::Up, Self::Down];

    pub(crate) const fn module(self) -> &'static str {
        match self {
            Self::ConvolutionGate => "conv.in_gate_proj",
            Self::ConvolutionOutputGate => "conv.out_gate_proj",
            Self::ConvolutionInput => "conv.in_proj",
            Self::ConvolutionOutput => "conv.out_proj",
            Self::DeltaQueryKeyValue => "linear_attn.in_proj_qkv",
            Self::DeltaGate => "linear_attn.in_proj_z",
            Self::DeltaBeta => "linear_attn.in_proj_b",
            Self::DeltaDecay => "linear_attn.in_proj_a",
            Self::DeltaOutput => "linear_attn.out_proj",
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    pub(crate) const fn role(self) -> &'static str {
        match self {
            Self::ConvolutionGate => "convolution.gate",
            Self::ConvolutionOutputGate => "convolution.output_gate",
            Self::ConvolutionInput => "convolution.input",
            Self::ConvolutionOutput => "convolution.o",
            Self::DeltaQueryKeyValue => "delta.qkv",
            Self::DeltaGate => "delta.gate",
            Self::DeltaBeta => "delta.beta",
            Self::DeltaDecay => "delta.decay",
            Self::DeltaOutput => "delta.o",
            Self::Query => "attention.q",
            Self::Key => "attention.k",
            Self::Value => "attention.v",
            Self::Output => "attention.o",
            Self::Gate => "mlp.gate",
            Self::Up => "mlp.up",
            Self::Down => "mlp.down",
        }
    }

    /// The spaces that it reads and writes; `None` is the residual stream. The product with a gate
    /// keeps scales of the up projection, and attention those of the values, so these name the spaces.
    /// Without a gate the activation stands between, and what it gives is another space.
    pub(crate) const fn spaces(self, gated: bool) -> (Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Query => (None, Some("attention.q")),
            Self::Key => (None, Some("attention.k")),
            Self::Value => (None, Some("attention.v")),
            Self::Output => (Some("attention.v"), None),
            Self::Gate => (None, Some("mlp.gate")),
            Self::Up => (None, Some("mlp.up")),
            Self::Down if gated => (Some("mlp.up"), None),
            Self::Down => (Some("mlp.activation"), None),
            Self::ConvolutionGate => (None, Some("convolution.gate")),
            Self::ConvolutionOutputGate => (None, Some("convolution.output_gate")),
            Self::ConvolutionInput => (None, Some("convolution.input")),
            Self::ConvolutionOutput => (Some("convolution.output"), None),
            Self::DeltaQueryKeyValue => (None, Some("delta.qkv")),
            Self::DeltaGate => (None, Some("delta.gate")),
            Self::DeltaBeta => (None, Some("delta.beta")),
            Self::DeltaDecay => (None, Some("delta.decay")),
            Self::DeltaOutput => (Some("delta.output"), None),
        }
    }

    /// The module whose tensor holds it where projections are fused, and all that it holds, in the
    /// order of its rows. Those of a short convolution always are.
    pub(crate) const fn fused(self) -> Option<(&'static str, &'static [Self])> {
        const ATTENTION: &[Matrix] = &[Matrix::Query, Matrix::Key, Matrix::Value];
        const MLP: &[Matrix] = &[Matrix::Gate, Matrix::Up];
        const CONVOLUTION: &[Matrix] =
            &[Matrix::ConvolutionGate, Matrix::ConvolutionOutputGate, Matrix::ConvolutionInput];
        match self {
            Self::ConvolutionGate | Self::ConvolutionOutputGate | Self::ConvolutionInput => {
                Some(("conv.in_proj", CONVOLUTION))
            }
            Self::Query | Self::Key | Self::Value => Some(("self_attn.qkv_proj", ATTENTION)),
            Self::Gate | Self::Up => Some(("mlp.gate_up_proj", MLP)),
            Self::Output
            | Self::Down
            | Self::ConvolutionOutput
            | Self::DeltaQueryKeyValue
            | Self::DeltaGate
            | Self::DeltaBeta
            | Self::DeltaDecay
            | Self::DeltaOutput => None,
        }
    }

    /// Whether it gives what is added to the residual stream.
    pub(crate) const fn adds(self) -> bool {
        matches!(self, Self::Output | Self::Down | Self::ConvolutionOutput | Self::DeltaOutput)
    }

    /// The norm through which it reads the residual stream.
    pub(crate) const fn norm(self, placement: NormPlacement) -> Option<NormPlace> {
        match (self, placement) {
            (_, NormPlacement::After) => None,
            (matrix, _) if matrix.adds() => None,
            (Self::Gate | Self::Up, NormPlacement::Before | NormPlacement::Both) => {
                Some(NormPlace::Mlp)
            }
            _ => Some(NormPlace::Input),
        }
    }
}

impl DecoderSpec {
    /// Every weight of the model, embedding first, head last, or what is behind the pooling.
    pub fn weights(&self) -> impl Iterator<Item = Weight> + '_ {
        let layers = (0..self.layers()).flat_map(|layer| {
            self.layer_weights(layer).map(move |weight| Weight::Layer(layer, weight))
        });
        let bias = self.bias_of_norm(Weight::FinalNorm);
        let pieces = if self.embedder.is_some() { 0 } else { self.head_splits.len() };
        let head = (0..pieces).map(Weight::Head);
        let dense = self.dense_layers().iter().enumerate().flat_map(|(number, layer)| {
            let bias = layer.bias.is_some().then_some(Weight::DenseBias(number));
            std::iter::once(Weight::Dense(number)).chain(bias)
        });
        std::iter::once(Weight::Embedding)
            .chain(layers)
            .chain([Weight::FinalNorm])
            .chain(bias)
            .chain(head)
            .chain(dense)
    }

    /// The weights of one layer in the order in which it uses them.
    pub fn layer_weights(&self, layer: u32) -> impl Iterator<Item = LayerWeight> + use<> {
        let block = self.block(layer);
        let placement = block.placement;
        let mut weights = Vec::new();
        let normed = |weights: &mut Vec<LayerWeight>, place| {
            weights.push(LayerWeight::Norm(place));
            if self.norm_has_bias(place) {
                weights.push(LayerWeight::NormBias(place));
            }
        };
        if placement.is_before() {
            normed(&mut weights, NormPlace::Input);
        }
        let multiplied = |weights: &mut Vec<LayerWeight>, matrix| {
            weights.push(LayerWeight::Matrix(matrix));
            if self.has_bias(layer, matrix) {
                weights.push(LayerWeight::Bias(matrix));
            }
        };
        match &block.mixer {
            Mixer::Attention(attention) => {
                for matrix in Matrix::ATTENTION {
                    if matrix == Matrix::Output && attention.sinks {
                        weights.push(LayerWeight::Sinks);
                    }
                    multiplied(&mut weights, matrix);
                    match matrix {
                        Matrix::Query if attention.query_key_norm.is_some() => {
                            normed(&mut weights, NormPlace::Query);
                        }
                        Matrix::Key if attention.query_key_norm.is_some() => {
                            normed(&mut weights, NormPlace::Key);
                        }
                        _ => {}
                    }
                }
            }
            Mixer::ShortConvolution(convolution) => {
                for matrix in Matrix::CONVOLUTION {
                    if matrix == Matrix::ConvolutionOutput {
                        weights.push(LayerWeight::Kernel);
                        weights.extend(convolution.bias.then_some(LayerWeight::KernelBias));
                    }
                    multiplied(&mut weights, matrix);
                }
            }
            Mixer::DeltaNet(_) => {
                for matrix in Matrix::DELTA {
                    match matrix {
                        Matrix::DeltaGate => weights.push(LayerWeight::Kernel),
                        Matrix::DeltaOutput => weights.push(LayerWeight::ReadGain),
                        _ => {}
                    }
                    multiplied(&mut weights, matrix);
                    if matrix == Matrix::DeltaDecay {
                        weights.extend([LayerWeight::DecayBias, LayerWeight::DecayRate]);
                    }
                }
            }
        }
        if placement.is_after() {
            normed(&mut weights, NormPlace::MixerOutput);
        }
        if Matrix::Up.norm(placement) == Some(NormPlace::Mlp) {
            normed(&mut weights, NormPlace::Mlp);
        }
        for matrix in Matrix::MLP {
            if block.mlp.gated || matrix != Matrix::Gate {
                multiplied(&mut weights, matrix);
            }
        }
        if placement.is_after() {
            normed(&mut weights, NormPlace::MlpOutput);
        }
        weights.into_iter()
    }

    /// Whether a projection of a layer has a bias.
    pub fn has_bias(&self, layer: u32, matrix: Matrix) -> bool {
        let block = self.block(layer);
        let attention = block.mixer.attention();
        match matrix {
            Matrix::Query | Matrix::Key | Matrix::Value => {
                attention.is_some_and(|attention| attention.query_key_value_bias)
            }
            Matrix::Output => attention.is_some_and(|attention| attention.output_bias),
            Matrix::Gate | Matrix::Up | Matrix::Down => block.mlp.bias,
            Matrix::ConvolutionGate
            | Matrix::ConvolutionOutputGate
            | Matrix::ConvolutionInput
            | Matrix::ConvolutionOutput => {
                block.mixer.short_convolution().is_some_and(|convolution| convolution.bias)
            }
            Matrix::DeltaQueryKeyValue
            | Matrix::DeltaGate
            | Matrix::DeltaBeta
            | Matrix::DeltaDecay
            | Matrix::DeltaOutput => false,
        }
    }

    /// The bias behind the gain of a norm, if there is one.
    pub(crate) fn bias_of_norm(&self, gain: Weight) -> Option<Weight> {
        match gain {
            Weight::FinalNorm => self.norm.bias.then_some(Weight::FinalNormBias),
            Weight::Layer(layer, LayerWeight::Norm(place)) => {
                let bias = Weight::Layer(layer, LayerWeight::NormBias(place));
                self.norm_has_bias(place).then_some(bias)
            }
            _ => None,
        }
    }

    const fn norm_has_bias(&self, place: NormPlace) -> bool {
        self.norm.bias && !matches!(place, NormPlace::Query | NormPlace::Key)
    }
}
