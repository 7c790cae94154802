//! Short convolutions over time, between two gates.

use anemll_mil::{Result, Var};

use crate::block::ShortConvolution;
use crate::columns::Columns;
use crate::graph::{Graph, int32};
use crate::weights::{LayerWeight, Matrix, Weight};

/// A short convolution with its projections: (1, T, hidden) to (1, T, hidden).
pub(crate) fn short_convolution(
    graph: &mut Graph<'_>,
    convolution: ShortConvolution,
    columns: &mut Columns,
    x: Var,
    layer: u32,
) -> Result<Var> {
    let x = graph.channels_of(x)?;
    let gate = graph.convolve(x, layer, Matrix::ConvolutionGate)?;
    let output_gate = graph.convolve(x, layer, Matrix::ConvolutionOutputGate)?;
    let input = graph.convolve(x, layer, Matrix::ConvolutionInput)?;
    let gated = graph.builder.mul(gate, input)?;
    let columns = columns.extend(graph, layer, gated)?;
    let width = graph.spec.hidden_size;
    let mut mixed = convolve(graph, columns, layer, [width, convolution.length])?;
    if convolution.bias {
        let bias = graph.weight(Weight::Layer(layer, LayerWeight::KernelBias))?;
        mixed = graph.builder.add(mixed, bias)?;
    }
    let gated = graph.builder.mul(output_gate, mixed)?;
    let output = graph.convolve(gated, layer, Matrix::ConvolutionOutput)?;
    graph.rows_of(output)
}

/// Each channel alone, by the layer's kernel: (1, width, 1, taps - 1 + T) to (1, width, 1, T).
///
/// A product for each tap and their sum: the Neural Engine does not take a convolution of so many
/// groups (ANE rule ANE-024), nor tables for its weights.
pub(crate) fn convolve(
    graph: &mut Graph<'_>,
    columns: Var,
    layer: u32,
    [width, taps]: [u64; 2],
) -> Result<Var> {
    let kernel = graph.weight(Weight::Layer(layer, LayerWeight::Kernel))?;
    let (width, tokens) = (int32(width)?, int32(graph.tokens)?);
    let mut sum = None;
    for tap in 0..int32(taps)? {
        let seen = along(graph, columns, width, [tap, tap + tokens])?;
        let factor = along(graph, kernel, width, [tap, tap + 1])?;
        let product = graph.builder.mul(seen, factor)?;
        sum = Some(match sum {
            None => product,
            Some(sum) => graph.builder.add(sum, product)?,
        });
    }
    Ok(sum.unwrap_or(columns))
}

/// Columns `from` to before `end` of (1, width, 1, n).
fn along(graph: &mut Graph<'_>, x: Var, width: i32, [from, end]: [i32; 2]) -> Result<Var> {
    let whole = [true, true, true, false];
    graph.builder.slice_by_index(x, &[0, 0, 0, from], &[1, width, 1, end], &[], &whole)
}
