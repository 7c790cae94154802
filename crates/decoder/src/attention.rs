//! Attention of queries over all keys and values of a layer.

use anemll_mil::{Result, Var};

use crate::graph::{Graph, int32, int64};
use crate::spec::SoftmaxForm;

/// Attention of queries (1, heads, T, width) over keys and values (key and value heads, C, width)
/// under the mask (1, 1, T, C), to rows (1, T, heads * width).
pub(crate) fn attend(
    graph: &mut Graph<'_>,
    queries: Var,
    keys: Var,
    values: Var,
    mask: Var,
) -> Result<Var> {
    let keys = repeat_heads(graph, keys)?;
    let values = repeat_heads(graph, values)?;
    let width = graph.spec.head_dimension;
    let scale = (1.0 / (width as f64).sqrt()) as f32;
    let builder = &mut graph.builder;
    let scores = builder.matmul(queries, keys, false, true)?;
    let scale = builder.scalar_f16(scale)?;
    let scores = builder.mul(scores, scale)?;
    let scores = builder.add(scores, mask)?;
    let weights = softmax(graph, scores)?;
    let builder = &mut graph.builder;
    let mixed = builder.matmul(weights, values, false, false)?;
    let rows = builder.transpose(mixed, &[0, 2, 1, 3])?;
    let inner = graph.spec.attention_heads * width;
    builder.reshape(rows, &[1, int64(graph.tokens)?, int64(inner)?])
}

/// Each head as often as queries share it: (key and value heads, C, width) to (1, heads, C, width).
fn repeat_heads(graph: &mut Graph<'_>, heads: Var) -> Result<Var> {
    let spec = graph.spec;
    let group = spec.attention_heads / spec.key_value_heads;
    if group == 1 {
        return graph.builder.expand_dims(heads, &[0]);
    }
    let apart = graph.builder.expand_dims(heads, &[1])?;
    let repeated = graph.builder.tile(apart, &[1, int32(group)?, 1, 1])?;
    let shape =
        [1, int64(spec.attention_heads)?, int64(spec.context)?, int64(spec.head_dimension)?];
    graph.builder.reshape(repeated, &shape)
}

fn softmax(graph: &mut Graph<'_>, scores: Var) -> Result<Var> {
    let builder = &mut graph.builder;
    match graph.spec.softmax {
        SoftmaxForm::Operation => builder.softmax(scores, -1),
        SoftmaxForm::Spelled => {
            let largest = builder.reduce_max(scores, &[-1], true)?;
            let shifted = builder.sub(scores, largest)?;
            let powers = builder.exp(shifted)?;
            let sum = builder.reduce_sum(powers, &[-1], true)?;
            builder.real_div(powers, sum)
        }
    }
}
