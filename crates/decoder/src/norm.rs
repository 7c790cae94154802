//! RMSNorm in the form that keeps the Neural Engine in range.

use anemll_mil::{Result, Var};

use crate::graph::{Graph, int32};
use crate::weights::Weight;

/// RMSNorm over the last axis (`size` elements), any rank, times its gain.
///
/// The values and their negatives together have mean zero, so `layer_norm` over both divides by the
/// root of the mean square, and does so in wide arithmetic where a square in float16 would overflow
/// (ANE rule ANE-053). The gain is a product of its own (ANE-039).
pub(crate) fn rms_norm(graph: &mut Graph<'_>, x: Var, size: u64, gain: Weight) -> Result<Var> {
    let shape = graph.builder.shape_of(x);
    let rank = shape.len();
    let epsilon = graph.spec.norm_epsilon as f32;
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
    if let (Some(end), Some(whole)) = (end.last_mut(), whole.last_mut()) {
        (*end, *whole) = (int32(size)?, false);
    }
    let first = builder.slice_by_index(normed, &vec![0; rank], &end, &[], &whole)?;
    let gain = graph.weight(gain)?;
    graph.builder.mul(first, gain)
}
