//! The attention half of a layer: projections, rotation, cache, attention.

use anemll_mil::{Result, Var};

use crate::attention::attend;
use crate::cache::Cache;
use crate::graph::{Graph, int64};
use crate::norm::rms_norm;
use crate::rotary::Rotation;
use crate::spec::OutputProjection;
use crate::weights::{LayerWeight, Matrix, Weight};

/// What the layers of a function share.
pub(crate) struct LayerInputs {
    pub(crate) rotation: Rotation,
    pub(crate) cache: Cache,
    /// Added to the scores, (1, 1, T, C).
    pub(crate) mask: Var,
}

/// Adds a layer's attention to the residual stream: (1, T, hidden) to (1, T, hidden).
pub(crate) fn add_attention(
    graph: &mut Graph<'_>,
    inputs: &mut LayerInputs,
    residual: Var,
    layer: u32,
) -> Result<Var> {
    graph.builder.scope(&format!("layers_{layer}_self_attn"));
    let spec = graph.spec;
    let gain = Weight::Layer(layer, LayerWeight::InputNorm);
    let x = rms_norm(graph, residual, spec.hidden_size, gain)?;
    let x = graph.channels_of(x)?;
    let mut queries = project_heads(graph, x, layer, Matrix::Query, spec.attention_heads)?;
    let mut keys = project_heads(graph, x, layer, Matrix::Key, spec.key_value_heads)?;
    let values = project_heads(graph, x, layer, Matrix::Value, spec.key_value_heads)?;
    if spec.query_key_norm {
        let width = spec.head_dimension;
        let gain = |norm| Weight::Layer(layer, norm);
        queries = rms_norm(graph, queries, width, gain(LayerWeight::QueryNorm))?;
        keys = rms_norm(graph, keys, width, gain(LayerWeight::KeyNorm))?;
    }
    let queries = inputs.rotation.apply(graph, queries, spec.attention_heads)?;
    let keys = inputs.rotation.apply(graph, keys, spec.key_value_heads)?;
    let (keys, values) = inputs.cache.update(graph, layer, keys, values)?;
    let mixed = attend(graph, queries, keys, values, inputs.mask)?;
    let output = project_output(graph, mixed, layer)?;
    let sum = graph.builder.add(residual, output)?;
    graph.builder.end_scope();
    Ok(sum)
}

/// A projection cut into heads: (1, hidden, 1, T) to (1, heads, T, width).
fn project_heads(
    graph: &mut Graph<'_>,
    x: Var,
    layer: u32,
    matrix: Matrix,
    heads: u64,
) -> Result<Var> {
    let channels = graph.convolve(x, layer, matrix)?;
    let (heads, width) = (int64(heads)?, int64(graph.spec.head_dimension)?);
    // The channels of one token are its heads one after another.
    if graph.tokens == 1 {
        return graph.builder.reshape(channels, &[1, heads, 1, width]);
    }
    let shape = [1, heads, width, int64(graph.tokens)?];
    let columns = graph.builder.reshape(channels, &shape)?;
    graph.builder.transpose(columns, &[0, 1, 3, 2])
}

/// The projection of (1, T, heads * width) back to (1, T, hidden).
fn project_output(graph: &mut Graph<'_>, mixed: Var, layer: u32) -> Result<Var> {
    match graph.spec.output_projection {
        OutputProjection::Linear => {
            let weight = graph.weight(Weight::Layer(layer, LayerWeight::Matrix(Matrix::Output)))?;
            let bias = graph.bias(layer, Matrix::Output)?;
            graph.builder.linear(mixed, weight, bias)
        }
        OutputProjection::Convolution => {
            let channels = graph.channels_of(mixed)?;
            let output = graph.convolve(channels, layer, Matrix::Output)?;
            graph.rows_of(output)
        }
    }
}
