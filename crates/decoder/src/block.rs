//! What one layer of a decoder is.

/// A layer: a mixer of tokens and an MLP, each added to the residual stream.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSpec {
    /// Where the layer normalizes.
    pub placement: NormPlacement,
    /// What mixes tokens.
    pub mixer: Mixer,
    /// What works on each token alone.
    pub mlp: Mlp,
    /// Factor of what mixer and MLP add to the residual stream.
    pub residual_scale: f64,
}

impl BlockSpec {
    /// A layer as Llama has it, for heads of `head_dimension` and an MLP of `intermediate_size`
    /// elements: RMSNorms before attention and a gated MLP, no biases, no window.
    pub fn llama(head_dimension: u64, intermediate_size: u64) -> Self {
        Self {
            placement: NormPlacement::Before,
            mixer: Mixer::Attention(Attention {
                query_key_value_bias: false,
                output_bias: false,
                query_key_norm: None,
                score_scale: 1.0 / (head_dimension as f64).sqrt(),
                score_cap: None,
                rotation: Some(0),
                window: None,
                output_gate: false,
                sinks: false,
            }),
            mlp: Mlp { intermediate_size, gated: true, activation: Activation::Silu, bias: false },
            residual_scale: 1.0,
        }
    }
}

/// Where a layer normalizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// What mixer and MLP read: `x + mixer(norm(x))`, then `x + mlp(norm(x))`.
    Before,
    /// What mixer and MLP give: `x + norm(mixer(x))`, then `x + norm(mlp(x))`.
    After,
    /// What they read and what they give.
    Both,
    /// What both read, once: `x + mixer(norm(x)) + mlp(norm(x))`.
    Parallel,
}

impl NormPlacement {
    /// Whether mixer and MLP read the residual stream through a norm.
    pub const fn is_before(self) -> bool {
        !matches!(self, Self::After)
    }

    /// Whether what they give is normalized.
    pub const fn is_after(self) -> bool {
        matches!(self, Self::After | Self::Both)
    }
}

/// The norms of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Norm {
    /// What is taken out of a vector.
    pub kind: NormKind,
    /// Whether the gain is 1 and what the weight files hold.
    pub one_plus: bool,
    /// Whether there is a bias behind the gain; norms of queries and keys have none.
    pub bias: bool,
}

/// What a norm takes out of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// The root of the mean square: RMSNorm.
    RootMeanSquare,
    /// The mean, then the standard deviation: LayerNorm.
    Layer,
}

impl Norm {
    /// RMSNorm with a gain, as most models have it.
    pub const RMS: Self = Self { kind: NormKind::RootMeanSquare, one_plus: false, bias: false };
    /// RMSNorm with a gain of one and a weight.
    pub const RMS_ONE_PLUS: Self = Self { one_plus: true, ..Self::RMS };
    /// LayerNorm with a gain and a bias.
    pub const LAYER: Self = Self { kind: NormKind::Layer, one_plus: false, bias: true };
}

/// What mixes tokens.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mixer {
    /// Attention over what the cache of keys and values holds.
    Attention(Attention),
    /// A short convolution over time.
    ShortConvolution(ShortConvolution),
    /// Linear attention by the gated delta rule.
    DeltaNet(DeltaNet),
}

impl Mixer {
    /// The attention, if it is that.
    pub const fn attention(&self) -> Option<&Attention> {
        match self {
            Self::Attention(attention) => Some(attention),
            Self::ShortConvolution(_) | Self::DeltaNet(_) => None,
        }
    }

    /// The short convolution, if it is that.
    pub const fn short_convolution(&self) -> Option<&ShortConvolution> {
        match self {
            Self::ShortConvolution(convolution) => Some(convolution),
            Self::Attention(_) | Self::DeltaNet(_) => None,
        }
    }

    /// The linear attention, if it is that.
    pub const fn delta_net(&self) -> Option<&DeltaNet> {
        match self {
            Self::DeltaNet(delta_net) => Some(delta_net),
            Self::Attention(_) | Self::ShortConvolution(_) => None,
        }
    }
}

/// A causal convolution over time of each channel alone, between two gates: three projections of
/// `x` give `b`, `c` and `v`, and the mixer gives the projection of `c * convolve(b * v)`. What it
/// needs of earlier tokens, the last columns of `b * v`, is a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortConvolution {
    /// Taps of the kernel, the present token's among them; the same in all layers.
    pub length: u64,
    /// Whether the projections and the convolution have biases.
    pub bias: bool,
}

/// Gated DeltaNet: each value head keeps a matrix of keys by values. A token lets it decay, replaces what
/// the matrix has for its key by its value, as far as `beta` says, and reads it with its query.
///
/// Queries, keys and values come from one projection and a short convolution over time; queries and
/// keys have unit length. What is read is normalized for each head and gated. The matrix and the last
/// columns before the convolution are a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaNet {
    /// Heads of queries and keys.
    pub key_heads: u64,
    /// Heads of values, a multiple of `key_heads`: consecutive ones share a key head.
    pub value_heads: u64,
    /// Width of a query's and a key's head.
    pub key_width: u64,
    /// Width of a value's head.
    pub value_width: u64,
    /// Taps of the convolution's kernel, the present token's among them.
    pub taps: u64,
}

impl DeltaNet {
    /// Elements of all keys of a token.
    pub const fn keys(&self) -> u64 {
        self.key_heads.saturating_mul(self.key_width)
    }

    /// Elements of all values of a token.
    pub const fn values(&self) -> u64 {
        self.value_heads.saturating_mul(self.value_width)
    }

    /// Rows of each value head that the last columns take in the state, and the channels of a column
    /// with what fills the last row up.
    pub(crate) fn column_rows(&self) -> [u64; 2] {
        let (kept, values) = (self.taps.saturating_sub(1).max(1), self.values().max(1));
        // As many channels as make whole rows.
        let step = values / greatest_common_divisor(values, kept);
        let channels = self.channels().div_ceil(step).saturating_mul(step);
        [kept.saturating_mul(channels) / values, channels]
    }

    /// Channels of the convolution: queries, keys, values.
    pub const fn channels(&self) -> u64 {
        self.keys().saturating_mul(2).saturating_add(self.values())
    }
}

/// Grouped-query attention. Heads and their width are the model's: all layers share one state.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Whether the projections to queries, keys and values have biases.
    pub query_key_value_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// Whether, and over what, queries and keys are normalized before the rotation.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// Factor of the scores, `1 / sqrt(head_dim)` in most models.
    pub score_scale: f64,
    /// Scores `s` become `cap tanh(s / cap)` before the mask.
    pub score_cap: Option<f64>,
    /// Which of the model's rotations turns queries and keys; none has no positions (NoPE).
    pub rotation: Option<usize>,
    /// Tokens that a token sees, itself among them; `None` is all before it.
    pub window: Option<u64>,
    /// Whether each head's output is multiplied by the logistic function of a gate, which the
    /// projection to queries gives behind each head's query.
    pub output_gate: bool,
    /// Whether each head has a sink: a learned score that is one of those of the softmax, and has no
    /// value, so that a token may look at nothing.
    pub sinks: bool,
}

/// Over what queries and keys are normalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// Each head alone, all with one gain.
    Head,
    /// All heads together.
    Width,
}

/// What works on each token alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// Its inner width.
    pub intermediate_size: u64,
    /// Whether the inner values are multiplied by a gate; else the activation is between two
    /// projections.
    pub gated: bool,
    /// The activation: of the gate, where there is one.
    pub activation: Activation,
    /// Whether its projections have biases.
    pub bias: bool,
}

/// An activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(x)`.
    Silu,
    /// Gaussian error linear unit.
    Gelu,
    /// The same, by its approximation with tanh.
    GeluTanh,
    /// The square of the positive part.
    ReluSquared,
}

impl Activation {
    /// The activation that transformers calls so.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Self::Silu),
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Some(Self::GeluTanh),
            "relu2" => Some(Self::ReluSquared),
            _ => None,
        }
    }
}

/// The largest number that divides both.
pub(crate) const fn greatest_common_divisor(left: u64, right: u64) -> u64 {
    let (mut divisor, mut rest) = (left, right);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    divisor
}
