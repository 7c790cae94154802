//! Attention of queries over all keys and values of a layer.

use anemll_mil::{Result, Var};

use crate::activations::logistic;
use crate::block::Attention;
use crate::cache::Content;
use crate::graph::{Graph, int32, int64};
use crate::spec::SoftmaxForm;
use crate::weights::{LayerWeight, Weight};

/// Attention of queries (1, heads, T, width) over the keys and values that are kept, of n positions,
/// under the mask (1, 1, T, n), times what the gate lets through, (1, heads, T, width), if there is
/// one: rows (1, T, heads * width). Sinks are the layer's.
pub(crate) fn attend(
    graph: &mut Graph<'_>,
    (attention, layer): (&Attention, u32),
    (queries, gate): (Var, Option<Var>),
    content: Content,
    (mask, positions): (Var, u64),
) -> Result<Var> {
    let width = graph.spec.head_dimension;
    let channels_first = content.channels_first;
    let own = if channels_first { [width, positions] } else { [positions, width] };
    let keys = repeat_heads(graph, content.keys, own)?;
    let values = repeat_heads(graph, content.values, own)?;
    let scores = graph.builder.matmul(queries, keys, false, !channels_first)?;
    let scores = match attention.score_cap {
        None => {
            let scale = graph.builder.scalar_f16(attention.score_scale as f32)?;
            graph.builder.mul(scores, scale)?
        }
        Some(cap) => cap_values(graph, scores, attention.score_scale, cap)?,
    };
    let scores = graph.builder.add(scores, mask)?;
    let weights = match attention.sinks {
        false => softmax(graph, scores)?,
        true => {
            let sinks = graph.weight(Weight::Layer(layer, LayerWeight::Sinks))?;
            softmax_with_sinks(graph, scores, sinks)?
        }
    };
    let mut mixed = graph.builder.matmul(weights, values, false, channels_first)?;
    if let Some(gate) = gate {
        let share = logistic(graph, gate)?;
        mixed = graph.builder.mul(mixed, share)?;
    }
    let builder = &mut graph.builder;
    let rows = builder.transpose(mixed, &[0, 2, 1, 3])?;
    let inner = graph.spec.attention_heads * width;
    builder.reshape(rows, &[1, int64(graph.tokens)?, int64(inner)?])
}

/// `cap tanh(scale x / cap)`: values between `-cap` and `cap`.
pub(crate) fn cap_values(graph: &mut Graph<'_>, x: Var, scale: f64, cap: f64) -> Result<Var> {
    let builder = &mut graph.builder;
    let inner = builder.scalar_f16((scale / cap) as f32)?;
    let x = builder.mul(x, inner)?;
    let bounded = builder.tanh(x)?;
    let cap = builder.scalar_f16(cap as f32)?;
    builder.mul(bounded, cap)
}

/// Each head as often as queries share it: (key and value heads, …) to (1, heads, …), where the rest is
/// the head's `own` axes.
fn repeat_heads(graph: &mut Graph<'_>, heads: Var, own: [u64; 2]) -> Result<Var> {
    let spec = graph.spec;
    let group = spec.attention_heads / spec.key_value_heads;
    if group == 1 {
        return graph.builder.expand_dims(heads, &[0]);
    }
    let apart = graph.builder.expand_dims(heads, &[1])?;
    let repeated = graph.builder.tile(apart, &[1, int32(group)?, 1, 1])?;
    let shape = [1, int64(spec.attention_heads)?, int64(own[0])?, int64(own[1])?];
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

/// The softmax of the scores (1, heads, T, n) and one more of each head, (1, heads, 1, 1), whose share is
/// left out.
fn softmax_with_sinks(graph: &mut Graph<'_>, scores: Var, sinks: Var) -> Result<Var> {
    let builder = &mut graph.builder;
    let largest = builder.reduce_max(scores, &[-1], true)?;
    let largest = builder.maximum(largest, sinks)?;
    let shifted = builder.sub(scores, largest)?;
    let powers = builder.exp(shifted)?;
    let sum = builder.reduce_sum(powers, &[-1], true)?;
    let sink = builder.sub(sinks, largest)?;
    let sink = builder.exp(sink)?;
    let sum = builder.add(sum, sink)?;
    builder.real_div(powers, sum)
}
