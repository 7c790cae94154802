//! Norms in the form that keeps the Neural Engine in range.

use anemll_mil::{Result, Var};

use crate::block::NormKind;
use crate::graph::{Graph, int32};
use crate::weights::{LayerWeight, NormPlace, Weight};

/// A norm over the last axis, any rank, times its gain, plus its bias.
pub(crate) fn normalize(graph: &mut Graph<'_>, x: Var, gain: Weight) -> Result<Var> {
    let epsilon = graph.spec.epsilon_of(gain) as f32;
    let normed = match graph.spec.norm.kind {
        NormKind::RootMeanSquare => over_root_mean_square(graph, x, epsilon)?,
        NormKind::Layer => graph.builder.layer_norm(x, &[-1], epsilon)?,
    };
    // The gain is a product of its own (ANE-039).
    let bias = graph.spec.bias_of_norm(gain);
    let gain = graph.weight(gain)?;
    let scaled = graph.builder.mul(normed, gain)?;
    match bias {
        Some(bias) => {
            let bias = graph.weight(bias)?;
            graph.builder.add(scaled, bias)
        }
        None => Ok(scaled),
    }
}

/// One of a layer's norms.
pub(crate) fn normalize_in(
    graph: &mut Graph<'_>,
    x: Var,
    layer: u32,
    place: NormPlace,
) -> Result<Var> {
    normalize(graph, x, Weight::Layer(layer, LayerWeight::Norm(place)))
}

/// Division by the root of the mean square, over the last axis, any rank.
///
/// The values and their negatives together have mean zero, so `layer_norm` over both divides by the
/// root of the mean square, and does so in wide arithmetic where a square in float16 would overflow
/// (ANE rule ANE-053).
pub(crate) fn over_root_mean_square(graph: &mut Graph<'_>, x: Var, epsilon: f32) -> Result<Var> {
    let shape = graph.builder.shape_of(x);
    let rank = shape.len();
    let builder = &mut graph.builder;
    let minus_one = builder.scalar_f16(-1.0)?;
    let negated = builder.mul(x, minus_one)?;
    let both = builder.concat(&[x, negated], -1)?;
    let normed = builder.layer_norm(both, &[-1], epsilon)?;
    // Only the last axis is cut: the mask leaves the others whole.
    let mut end = vec![0; rank];
    let mut whole = vec![true; rank];
    for (place, dimension) in shape.iter().enumerate() {
        end[place] = int32(dimension.fixed().unwrap_or_default())?;
    }
    if let Some(whole) = whole.last_mut() {
        *whole = false;
    }
    builder.slice_by_index(normed, &vec![0; rank], &end, &[], &whole)
}
