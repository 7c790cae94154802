//! The head of a model that gives vectors: weighted rows added up, layers behind that, length 1.

use anemll_mil::{DataType, Result, TensorType, Var};
use anemll_plugin_api::data::DenseActivation;

use crate::graph::Graph;
use crate::norm::over_root_mean_square;
use crate::weights::Weight;

/// The smallest mean square that is told from 0: the smallest number of float16.
const EPSILON: f32 = 1.0 / (1 << 24) as f32;

/// What the head takes beside hidden states.
pub(crate) struct PoolingInputs {
    /// The weight of each token, (1, 1, T).
    weights: Var,
    /// What the batches before have come to, (1, 1, hidden).
    pooled: Var,
}

impl PoolingInputs {
    pub(crate) fn declare(graph: &mut Graph<'_>) -> Result<Self> {
        let (tokens, width) = (graph.tokens, graph.spec.hidden_size);
        let kind = |size| TensorType::new(DataType::Float16, &[1, 1, size]);
        let weights = graph.builder.input("pooling_weights", kind(tokens))?;
        let pooled = graph.builder.input("pooled", kind(width))?;
        Ok(Self { weights, pooled })
    }
}

/// The sum of all weighted rows so far, and the vector that it is: of (1, T, hidden), `output_pooled`
/// (1, 1, hidden) and `embedding` (1, 1, dimension).
///
/// Which tokens count, and how much, is a matter of the weights: the last one alone, or each as much as
/// the others. Tokens that only fill up the batch weigh nothing.
pub(crate) fn vector(
    graph: &mut Graph<'_>,
    hidden: Var,
    inputs: &PoolingInputs,
) -> Result<Vec<Var>> {
    graph.builder.scope("pooling");
    let sum = graph.builder.matmul(inputs.weights, hidden, false, false)?;
    let pooled = graph.builder.add(inputs.pooled, sum)?;
    graph.builder.end_scope();
    let mut vector = pooled;
    for number in 0..graph.spec.dense_layers().len() {
        vector = dense(graph, vector, number)?;
    }
    vector = match graph.spec.embedder.as_ref().is_some_and(|embedder| embedder.normalize) {
        true => unit(graph, vector)?,
        // An output of its own, even where it is the sum.
        false => graph.builder.identity(vector)?,
    };
    graph.builder.name_value(pooled, "output_pooled")?;
    graph.builder.name_value(vector, "embedding")?;
    Ok(vec![pooled, vector])
}

/// A layer behind the pooling.
fn dense(graph: &mut Graph<'_>, x: Var, number: usize) -> Result<Var> {
    let layer = &graph.spec.dense_layers()[number];
    let (activation, has_bias) = (layer.activation, layer.bias.is_some());
    graph.builder.scope(&format!("dense_{number}"));
    let weight = graph.weight(Weight::Dense(number))?;
    let bias = match has_bias {
        true => Some(graph.weight(Weight::DenseBias(number))?),
        false => None,
    };
    let mut x = graph.builder.linear(x, weight, bias)?;
    if activation == DenseActivation::Tanh {
        x = graph.builder.tanh(x)?;
    }
    graph.builder.end_scope();
    Ok(x)
}

/// A vector of length 1: divided by the root of its mean square, which no square in float16 exceeds,
/// and by the root of its width.
fn unit(graph: &mut Graph<'_>, x: Var) -> Result<Var> {
    graph.builder.scope("normalize");
    let width = graph.spec.embedding_output().map_or(1, |output| output.dimension);
    let normed = over_root_mean_square(graph, x, EPSILON)?;
    let factor = graph.builder.scalar_f16((width as f64).sqrt().recip() as f32)?;
    let unit = graph.builder.mul(normed, factor)?;
    graph.builder.end_scope();
    Ok(unit)
}
