//! Linear attention: projections, a convolution over time, the gated delta rule, a norm and a gate.

use anemll_mil::{Result, Var};

use crate::activations::{logistic, silu, softplus};
use crate::block::DeltaNet;
use crate::convolution::convolve;
use crate::delta_rule::{Tokens, Triangles, delta_rule};
use crate::graph::{Graph, int32, int64};
use crate::norm::over_root_mean_square;
use crate::recurrence::{Earlier, Recurrence};
use crate::weights::{LayerWeight, Matrix, Weight};

/// Factor of the values and so of the matrices, which keeps small ones out of float16's subnormals;
/// the norm of what is read undoes it.
const VALUE_SCALE: f64 = 16.0;
/// What is added to the square of the length of queries and keys.
const LENGTH_EPSILON: f64 = 1e-6;
/// The smallest normal float16.
const SMALLEST_NORMAL: f64 = 1.0 / 16384.0;
/// The least logarithm of a decay: its power is 0 in float16, and sums of it stay in range.
const LEAST_DECAY: f32 = -64.0;

/// What layers with linear attention share.
pub(crate) struct DeltaInputs {
    pub(crate) recurrence: Recurrence,
    pub(crate) triangles: Option<Triangles>,
}

/// Linear attention with its projections: (1, T, hidden) to (1, T, hidden).
pub(crate) fn delta_net(
    graph: &mut Graph<'_>,
    net: DeltaNet,
    inputs: &mut DeltaInputs,
    x: Var,
    layer: u32,
) -> Result<Var> {
    let x = graph.channels_of(x)?;
    let new = graph.convolve(x, layer, Matrix::DeltaQueryKeyValue)?;
    let Earlier { matrices, columns } = inputs.recurrence.read(graph, net, layer)?;
    let columns = graph.builder.concat(&[columns, new], 3)?;
    let mixed = convolve(graph, columns, layer, [net.channels(), net.taps])?;
    let mixed = silu(graph, mixed)?;

    let [queries, keys] = queries_and_keys(graph, net, mixed)?;
    let values = part(graph, mixed, [2 * net.keys(), net.channels(), net.channels()])?;
    let factor = graph.builder.scalar_f16(VALUE_SCALE as f32)?;
    let values = graph.builder.mul(values, factor)?;
    let values = heads(graph, values, [net.value_heads, net.value_width])?;
    let beta = graph.convolve(x, layer, Matrix::DeltaBeta)?;
    let beta = logistic(graph, beta)?;
    let shape = [1, int64(net.value_heads)?, int64(graph.tokens)?, 1];
    let beta = graph.builder.reshape(beta, &shape)?;
    let decays = decays(graph, net, x, layer)?;
    let tokens = Tokens { queries, keys, values, decays, beta };
    let (read, matrices) = delta_rule(graph, inputs.triangles.as_ref(), tokens, matrices)?;
    inputs.recurrence.write(graph, net, layer, &Earlier { matrices, columns })?;

    let read = normalize(graph, net, read, layer)?;
    let gate = graph.convolve(x, layer, Matrix::DeltaGate)?;
    let gate = silu(graph, gate)?;
    let gated = graph.builder.mul(read, gate)?;
    let output = graph.convolve(gated, layer, Matrix::DeltaOutput)?;
    graph.rows_of(output)
}

/// Queries and keys of length 1 for each value head, (1, value heads, T, key width) each.
fn queries_and_keys(graph: &mut Graph<'_>, net: DeltaNet, mixed: Var) -> Result<[Var; 2]> {
    let width = net.key_width as f64;
    let both = part(graph, mixed, [0, 2 * net.keys(), net.channels()])?;
    // The epsilon would be nothing in float16, so vectors are made longer first.
    let mut scale = 1.0;
    while LENGTH_EPSILON * scale * scale < SMALLEST_NORMAL * width {
        scale *= 2.0;
    }
    let factor = graph.builder.scalar_f16(scale as f32)?;
    let both = graph.builder.mul(both, factor)?;
    let both = heads(graph, both, [2 * net.key_heads, net.key_width])?;
    let epsilon = LENGTH_EPSILON * scale * scale / width;
    let both = over_root_mean_square(graph, both, epsilon as f32)?;
    let factor = graph.builder.scalar_f16(width.sqrt().recip() as f32)?;
    let both = graph.builder.mul(both, factor)?;
    let queries = shared(graph, net, both, 0)?;
    let keys = shared(graph, net, both, net.key_heads)?;
    Ok([queries, keys])
}

/// The key heads of (1, 2 key heads, T, key width) from `first` on, each as often as value heads share
/// it.
fn shared(graph: &mut Graph<'_>, net: DeltaNet, both: Var, first: u64) -> Result<Var> {
    let (tokens, width) = (graph.tokens, net.key_width);
    let begin = [0, int32(first)?, 0, 0];
    let end = [1, int32(first + net.key_heads)?, int32(tokens)?, int32(width)?];
    let whole = [true, false, true, true];
    let x = graph.builder.slice_by_index(both, &begin, &end, &whole, &whole)?;
    let group = net.value_heads / net.key_heads;
    if group == 1 {
        return Ok(x);
    }
    let (tokens, width) = (int64(tokens)?, int64(width)?);
    let apart = graph.builder.reshape(x, &[int64(net.key_heads)?, 1, tokens, width])?;
    let repeated = graph.builder.tile(apart, &[1, int32(group)?, 1, 1])?;
    graph.builder.reshape(repeated, &[1, int64(net.value_heads)?, tokens, width])
}

/// Logarithms of the decays, (1, value heads, 1, T): `-exp(rate) softplus(x + bias)`.
fn decays(graph: &mut Graph<'_>, net: DeltaNet, x: Var, layer: u32) -> Result<Var> {
    let own = |weight| Weight::Layer(layer, weight);
    let x = graph.convolve(x, layer, Matrix::DeltaDecay)?;
    let bias = graph.weight(own(LayerWeight::DecayBias))?;
    let x = graph.builder.add(x, bias)?;
    let speed = softplus(graph, x)?;
    let rate = graph.weight(own(LayerWeight::DecayRate))?;
    let builder = &mut graph.builder;
    let rate = builder.exp(rate)?;
    let minus_one = builder.scalar_f16(-1.0)?;
    let rate = builder.mul(rate, minus_one)?;
    let decays = builder.mul(speed, rate)?;
    let least = builder.scalar_f16(LEAST_DECAY)?;
    let decays = builder.maximum(decays, least)?;
    let shape = [1, int64(net.value_heads)?, 1, int64(graph.tokens)?];
    graph.builder.reshape(decays, &shape)
}

/// What is read, normalized for each head, with the gain: (1, value heads, T, value width) to
/// (1, values, 1, T).
fn normalize(graph: &mut Graph<'_>, net: DeltaNet, read: Var, layer: u32) -> Result<Var> {
    // Values are larger than they should be, and queries are not shortened by the root of their width.
    let scale = VALUE_SCALE * (net.key_width as f64).sqrt();
    let epsilon = graph.spec.norm_epsilon * scale * scale;
    let normed = over_root_mean_square(graph, read, epsilon as f32)?;
    let gain = graph.weight(Weight::Layer(layer, LayerWeight::ReadGain))?;
    let mut normed = graph.builder.mul(normed, gain)?;
    if graph.tokens > 1 {
        normed = graph.builder.transpose(normed, &[0, 1, 3, 2])?;
    }
    let shape = [1, int64(net.values())?, 1, int64(graph.tokens)?];
    graph.builder.reshape(normed, &shape)
}

/// Channels cut into heads: (1, heads * width, 1, T) to (1, heads, T, width).
fn heads(graph: &mut Graph<'_>, x: Var, [heads, width]: [u64; 2]) -> Result<Var> {
    let (heads, width) = (int64(heads)?, int64(width)?);
    if graph.tokens == 1 {
        return graph.builder.reshape(x, &[1, heads, 1, width]);
    }
    let columns = graph.builder.reshape(x, &[1, heads, width, int64(graph.tokens)?])?;
    graph.builder.transpose(columns, &[0, 1, 3, 2])
}

/// Channels `from` to before `end` of (1, all, 1, T).
fn part(graph: &mut Graph<'_>, x: Var, [from, end, all]: [u64; 3]) -> Result<Var> {
    let begin = [0, int32(from)?, 0, 0];
    let to_the_last = end == all;
    let end = [1, int32(end)?, 1, int32(graph.tokens)?];
    let whole = [true, to_the_last, true, true];
    graph.builder.slice_by_index(x, &begin, &end, &[true, false, true, true], &whole)
}
