//! A layer: its mixer and its MLP, each with its norms, added to the residual stream.

use anemll_mil::{Error, Result, Var};

use crate::attention::attend;
use crate::block::{Attention, Mixer, NormPlacement, QueryKeyNorm};
use crate::cache::{Cache, Content};
use crate::columns::Columns;
use crate::convolution::short_convolution;
use crate::delta_net::{DeltaInputs, delta_net};
use crate::graph::{Graph, int32, int64};
use crate::mask::Masks;
use crate::mlp::mlp;
use crate::norm::normalize_in;
use crate::ring::Ring;
use crate::rotary::Rotations;
use crate::spec::OutputProjection;
use crate::weights::{LayerWeight, Matrix, NormPlace, Weight};

/// What the layers of a function share.
pub(crate) struct LayerInputs {
    pub(crate) rotations: Rotations,
    pub(crate) cache: Cache,
    pub(crate) ring: Option<Ring>,
    pub(crate) masks: Masks,
    pub(crate) columns: Option<Columns>,
    pub(crate) delta: Option<DeltaInputs>,
}

/// Adds a layer to the residual stream, (1, T, hidden) to (1, T, hidden); without its MLP where only
/// the state matters.
pub(crate) fn add_layer(
    graph: &mut Graph<'_>,
    inputs: &mut LayerInputs,
    residual: Var,
    layer: u32,
    with_mlp: bool,
) -> Result<Var> {
    let placement = graph.spec.block(layer).placement;
    let mixer = &graph.spec.block(layer).mixer;
    let mixer_scope = match mixer {
        Mixer::Attention(_) => format!("layers_{layer}_self_attn"),
        Mixer::ShortConvolution(_) => format!("layers_{layer}_conv"),
        Mixer::DeltaNet(_) => format!("layers_{layer}_linear_attn"),
    };
    let mlp_scope = format!("layers_{layer}_mlp");

    graph.builder.scope(&mixer_scope);
    let x = match placement.is_before() {
        true => normalize_in(graph, residual, layer, NormPlace::Input)?,
        false => residual,
    };
    let mut output = match mixer {
        Mixer::Attention(attention) => self_attention(graph, attention, inputs, x, layer)?,
        Mixer::ShortConvolution(convolution) => {
            let columns = inputs
                .columns
                .as_mut()
                .ok_or_else(|| Error::new("a short convolution has no state".to_owned()))?;
            short_convolution(graph, *convolution, columns, x, layer)?
        }
        Mixer::DeltaNet(net) => {
            let inputs = inputs
                .delta
                .as_mut()
                .ok_or_else(|| Error::new("linear attention has no state".to_owned()))?;
            delta_net(graph, *net, inputs, x, layer)?
        }
    };
    if placement.is_after() {
        output = normalize_in(graph, output, layer, NormPlace::MixerOutput)?;
    }
    let sum = graph.builder.add(residual, output)?;
    graph.builder.end_scope();
    if !with_mlp {
        return Ok(sum);
    }

    graph.builder.scope(&mlp_scope);
    let x = match placement {
        NormPlacement::Parallel => x,
        NormPlacement::After => sum,
        NormPlacement::Before | NormPlacement::Both => {
            normalize_in(graph, sum, layer, NormPlace::Mlp)?
        }
    };
    let mut output = mlp(graph, x, layer)?;
    if placement.is_after() {
        output = normalize_in(graph, output, layer, NormPlace::MlpOutput)?;
    }
    let sum = graph.builder.add(sum, output)?;
    graph.builder.end_scope();
    Ok(sum)
}

/// Attention: projections, norms, rotation, cache, attention, projection back.
fn self_attention(
    graph: &mut Graph<'_>,
    attention: &Attention,
    inputs: &mut LayerInputs,
    x: Var,
    layer: u32,
) -> Result<Var> {
    let spec = graph.spec;
    let x = graph.channels_of(x)?;
    let query = (Matrix::Query, spec.attention_heads);
    let key = (Matrix::Key, spec.key_value_heads);
    let value = (Matrix::Value, spec.key_value_heads);
    let (mut queries, mut keys, values);
    let mut gate = None;
    if attention.query_key_norm == Some(QueryKeyNorm::Width) {
        queries = project_normed(graph, x, layer, query, NormPlace::Query)?;
        keys = project_normed(graph, x, layer, key, NormPlace::Key)?;
        values = project_heads(graph, x, layer, value)?;
    } else {
        queries = project_heads(graph, x, layer, query)?;
        if attention.output_gate {
            let [query, behind] = halves(graph, queries)?;
            (queries, gate) = (query, Some(behind));
        }
        keys = project_heads(graph, x, layer, key)?;
        values = project_heads(graph, x, layer, value)?;
    }
    if attention.query_key_norm == Some(QueryKeyNorm::Head) {
        queries = normalize_in(graph, queries, layer, NormPlace::Query)?;
        keys = normalize_in(graph, keys, layer, NormPlace::Key)?;
    }
    if let Some(rotation) = inputs.rotations.of(attention.rotation) {
        queries = rotation.apply(graph, queries, spec.attention_heads)?;
        keys = rotation.apply(graph, keys, spec.key_value_heads)?;
    }
    let (content, mask) = match inputs.ring.as_mut().filter(|_| spec.is_in_ring(layer)) {
        Some(ring) => {
            let [keys, values] = ring.update(graph, layer, [keys, values])?;
            (Content { keys, values, channels_first: false }, ring.mask()?)
        }
        None => {
            let content = inputs.cache.update(graph, layer, keys, values)?;
            (content, (inputs.masks.of(attention.window), spec.context))
        }
    };
    let mixed = attend(graph, (attention, layer), (queries, gate), content, mask)?;
    project_output(graph, mixed, layer)
}

/// Each head's query and the gate behind it, (1, heads, T, width) each, of (1, heads, T, 2 width).
fn halves(graph: &mut Graph<'_>, both: Var) -> Result<[Var; 2]> {
    let (heads, tokens) = (int32(graph.spec.attention_heads)?, int32(graph.tokens)?);
    let width = int32(graph.spec.head_dimension)?;
    let half = |graph: &mut Graph<'_>, from: i32| {
        let (begin, end) = ([0, 0, 0, from], [1, heads, tokens, from + width]);
        let whole = [true, true, true, from > 0];
        graph.builder.slice_by_index(both, &begin, &end, &[], &whole)
    };
    Ok([half(graph, 0)?, half(graph, width)?])
}

/// A projection cut into heads: (1, hidden, 1, T) to (1, heads, T, width); twice the width where a
/// gate stands behind each head's query.
fn project_heads(
    graph: &mut Graph<'_>,
    x: Var,
    layer: u32,
    (matrix, heads): (Matrix, u64),
) -> Result<Var> {
    let channels = graph.convolve(x, layer, matrix)?;
    let width = graph.spec.outputs_of(layer, matrix) / heads;
    let (heads, width) = (int64(heads)?, int64(width)?);
    // The channels of one token are its heads one after another.
    if graph.tokens == 1 {
        return graph.builder.reshape(channels, &[1, heads, 1, width]);
    }
    let shape = [1, heads, width, int64(graph.tokens)?];
    let columns = graph.builder.reshape(channels, &shape)?;
    graph.builder.transpose(columns, &[0, 1, 3, 2])
}

/// A projection that is normalized over all heads and then cut into them: (1, hidden, 1, T) to
/// (1, heads, T, width).
fn project_normed(
    graph: &mut Graph<'_>,
    x: Var,
    layer: u32,
    (matrix, heads): (Matrix, u64),
    norm: NormPlace,
) -> Result<Var> {
    let channels = graph.convolve(x, layer, matrix)?;
    let rows = graph.rows_of(channels)?;
    let rows = normalize_in(graph, rows, layer, norm)?;
    let (heads, width) = (int64(heads)?, int64(graph.spec.head_dimension)?);
    if graph.tokens == 1 {
        return graph.builder.reshape(rows, &[1, heads, 1, width]);
    }
    let rows = graph.builder.reshape(rows, &[1, int64(graph.tokens)?, heads, width])?;
    graph.builder.transpose(rows, &[0, 2, 1, 3])
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
