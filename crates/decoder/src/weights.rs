//! The weights of a decoder: their tensors, shapes, roles, and names in the graph.

use anemll_plugin_api::data::WeightReference;

use crate::spec::{DecoderSpec, OutputProjection};

/// A weight of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// The embedding table.
    Embedding,
    /// A weight of a layer.
    Layer(u32, LayerWeight),
    /// Gain of the norm after the last layer.
    FinalNorm,
    /// A piece of the head, counted from 0.
    Head(usize),
}

/// A weight of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerWeight {
    /// Gain of the norm before attention.
    InputNorm,
    /// Gain of the norm before the MLP.
    MlpNorm,
    /// Gain of the norm of each query head.
    QueryNorm,
    /// Gain of the norm of each key head.
    KeyNorm,
    /// A matrix.
    Matrix(Matrix),
    /// The bias of a matrix.
    Bias(Matrix),
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
}

impl Matrix {
    /// All projections in the order in which a layer uses them.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    const fn module(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    const fn role(self) -> &'static str {
        match self {
            Self::Query => "attention.q",
            Self::Key => "attention.k",
            Self::Value => "attention.v",
            Self::Output => "attention.o",
            Self::Gate => "mlp.gate",
            Self::Up => "mlp.up",
            Self::Down => "mlp.down",
        }
    }

    /// The spaces that it reads and writes; `None` is the residual stream. The gated product keeps
    /// scales of the up projection, and attention those of the values, so these name the spaces.
    const fn spaces(self) -> (Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Query => (None, Some("attention.q")),
            Self::Key => (None, Some("attention.k")),
            Self::Value => (None, Some("attention.v")),
            Self::Output => (Some("attention.v"), None),
            Self::Gate => (None, Some("mlp.gate")),
            Self::Up => (None, Some("mlp.up")),
            Self::Down => (Some("mlp.up"), None),
        }
    }
}

const RESIDUAL: &str = "residual";
const HIDDEN: &str = "hidden_size";
const QUERIES: &str = "num_attention_heads*head_dim";
const KEYS: &str = "num_key_value_heads*head_dim";
const INNER: &str = "intermediate_size";

impl DecoderSpec {
    /// Every weight of the model, embedding first, head last.
    pub fn weights(&self) -> impl Iterator<Item = Weight> + '_ {
        let layers = (0..self.layers)
            .flat_map(|layer| self.layer_weights().map(move |weight| Weight::Layer(layer, weight)));
        let head = (0..self.head_splits.len()).map(Weight::Head);
        std::iter::once(Weight::Embedding).chain(layers).chain([Weight::FinalNorm]).chain(head)
    }

    /// Elements of all tensors that the model reads, a tied head once; saturates.
    pub fn parameters(&self) -> u64 {
        let count = |shape: Vec<u64>| {
            shape.iter().fold(1_u64, |product, size| product.saturating_mul(*size))
        };
        let of = |weight| count(self.reference(weight).shape);
        let layer = self
            .layer_weights()
            .fold(0_u64, |sum, weight| sum.saturating_add(of(Weight::Layer(0, weight))));
        let head = if self.tied_embeddings { 0 } else { of(Weight::Head(0)) };
        layer
            .saturating_mul(u64::from(self.layers))
            .saturating_add(of(Weight::Embedding))
            .saturating_add(of(Weight::FinalNorm))
            .saturating_add(head)
    }

    /// The weights of one layer in the order in which it uses them.
    pub fn layer_weights(&self) -> impl Iterator<Item = LayerWeight> + use<> {
        let mut weights = vec![LayerWeight::InputNorm];
        for matrix in Matrix::ALL {
            if matrix == Matrix::Gate {
                weights.push(LayerWeight::MlpNorm);
            }
            weights.push(LayerWeight::Matrix(matrix));
            if self.has_bias(matrix) {
                weights.push(LayerWeight::Bias(matrix));
            }
            if self.query_key_norm && matrix == Matrix::Query {
                weights.push(LayerWeight::QueryNorm);
            }
            if self.query_key_norm && matrix == Matrix::Key {
                weights.push(LayerWeight::KeyNorm);
            }
        }
        weights.into_iter()
    }

    /// Whether a projection has a bias.
    pub const fn has_bias(&self, matrix: Matrix) -> bool {
        match matrix {
            Matrix::Query | Matrix::Key | Matrix::Value => self.query_key_value_bias,
            Matrix::Output => self.output_bias,
            Matrix::Gate | Matrix::Up | Matrix::Down => self.mlp_bias,
        }
    }

    /// Rows and columns of a projection, each with what gives it in the configuration.
    fn sizes(&self, matrix: Matrix) -> [(u64, &'static str); 2] {
        let hidden = (self.hidden_size, HIDDEN);
        let queries = (self.attention_heads.saturating_mul(self.head_dimension), QUERIES);
        let keys = (self.key_value_heads.saturating_mul(self.head_dimension), KEYS);
        let inner = (self.intermediate_size, INNER);
        match matrix {
            Matrix::Query => [queries, hidden],
            Matrix::Key | Matrix::Value => [keys, hidden],
            Matrix::Output => [hidden, queries],
            Matrix::Gate | Matrix::Up => [inner, hidden],
            Matrix::Down => [hidden, inner],
        }
    }

    /// The reference to a weight: the same for every function that uses it.
    pub fn reference(&self, weight: Weight) -> WeightReference {
        let prefix = &self.tensor_prefix;
        let table = [(self.vocabulary_size, "vocab_size"), (self.hidden_size, HIDDEN)];
        let residual = || Some(RESIDUAL.to_owned());
        match weight {
            Weight::Embedding => WeightReference {
                writes: residual(),
                ..plain(format!("{prefix}embed_tokens.weight"), &table, "embedding")
            },
            Weight::FinalNorm => WeightReference {
                reads: residual(),
                ..plain(format!("{prefix}norm.weight"), &table[1..], "norm.gain")
            },
            Weight::Head(piece) => {
                let tensor = if self.tied_embeddings {
                    format!("{prefix}embed_tokens.weight")
                } else {
                    self.head_tensor.clone()
                };
                let first = self.head_splits.iter().take(piece).sum::<u64>();
                let rows = self.head_splits.get(piece).map(|rows| [first, first + rows]);
                WeightReference {
                    rows: rows.filter(|_| self.head_splits.len() > 1),
                    reads: residual(),
                    gain: Some(Box::new(self.reference(Weight::FinalNorm))),
                    ..plain(tensor, &table, "head")
                }
            }
            Weight::Layer(layer, weight) => {
                WeightReference { layer: Some(layer), ..self.layer_reference(layer, weight) }
            }
        }
    }

    fn layer_reference(&self, layer: u32, weight: LayerWeight) -> WeightReference {
        let tensor = |module: &str, kind: &str| {
            format!("{}layers.{layer}.{module}.{kind}", self.tensor_prefix)
        };
        let hidden = [(self.hidden_size, HIDDEN)];
        let head = [(self.head_dimension, "head_dim")];
        let gain = |module: &str, size: &[(u64, &'static str)], reads: String| WeightReference {
            reads: Some(reads),
            ..plain(tensor(module, "weight"), size, "norm.gain")
        };
        let space = |name: Option<&str>| match name {
            Some(name) => format!("{name}.{layer}"),
            None => RESIDUAL.to_owned(),
        };
        match weight {
            LayerWeight::InputNorm => gain("input_layernorm", &hidden, RESIDUAL.to_owned()),
            LayerWeight::MlpNorm => gain("post_attention_layernorm", &hidden, RESIDUAL.to_owned()),
            LayerWeight::QueryNorm => gain("self_attn.q_norm", &head, space(Some("attention.q"))),
            LayerWeight::KeyNorm => gain("self_attn.k_norm", &head, space(Some("attention.k"))),
            LayerWeight::Matrix(matrix) => {
                let (reads, writes) = matrix.spaces();
                let norm = match matrix {
                    Matrix::Query | Matrix::Key | Matrix::Value => Some(LayerWeight::InputNorm),
                    Matrix::Gate | Matrix::Up => Some(LayerWeight::MlpNorm),
                    Matrix::Output | Matrix::Down => None,
                };
                let norm = norm.map(|norm| self.reference(Weight::Layer(layer, norm)));
                WeightReference {
                    gain: norm.map(Box::new),
                    reads: Some(space(reads)),
                    writes: Some(space(writes)),
                    ..plain(tensor(matrix.module(), "weight"), &self.sizes(matrix), matrix.role())
                }
            }
            LayerWeight::Bias(matrix) => WeightReference {
                writes: Some(space(matrix.spaces().1)),
                ..plain(
                    tensor(matrix.module(), "bias"),
                    &self.sizes(matrix)[..1],
                    &format!("{}.bias", matrix.role()),
                )
            },
        }
    }

    /// The weight's shape in the graph: matrices of 1x1 convolutions have rank 4.
    pub fn graph_shape(&self, weight: Weight) -> Vec<u64> {
        let mut shape = self.reference(weight).shape;
        match weight {
            Weight::Head(piece) => {
                shape[0] = self.head_splits.get(piece).copied().unwrap_or_default();
                shape.extend([1, 1]);
            }
            Weight::Layer(_, LayerWeight::Matrix(matrix)) if self.is_convolution(matrix) => {
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

    /// The weight's name in the graph, in ANEMLL's style:
    /// `model_model_layers_0_self_attn_q_proj_weight`.
    pub fn graph_name(&self, weight: Weight) -> String {
        if let Weight::Head(piece) = weight {
            return format!("model_lm_head{}_{}_weight", self.head_splits.len(), piece + 1);
        }
        let tensor = self.reference(weight).tensor;
        let inner = tensor.strip_prefix(self.tensor_prefix.as_str()).unwrap_or(&tensor);
        format!("model_model_{}", inner.replace('.', "_"))
    }
}

/// A reference to a whole tensor.
fn plain(tensor: String, sizes: &[(u64, &'static str)], role: &str) -> WeightReference {
    WeightReference {
        tensor,
        shape: sizes.iter().map(|(size, _)| *size).collect(),
        dimensions: sizes.iter().map(|(_, key)| (*key).to_owned()).collect(),
        role: role.to_owned(),
        ..WeightReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let spec = DecoderSpec {
                tied_embeddings: tied,
                query_key_norm: true,
                query_key_value_bias: true,
                output_bias: true,
                mlp_bias: true,
                ..small()
            };
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
}
