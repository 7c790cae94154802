//! The MLP of a layer.

use anemll_mil::{Result, Var};

use crate::activations::activate;
use crate::graph::Graph;
use crate::weights::Matrix;

/// The MLP of a layer: (1, T, hidden) to (1, T, hidden).
pub(crate) fn mlp(graph: &mut Graph<'_>, x: Var, layer: u32) -> Result<Var> {
    let spec = &graph.spec.block(layer).mlp;
    let x = graph.channels_of(x)?;
    let inner = if spec.gated {
        let gate = graph.convolve(x, layer, Matrix::Gate)?;
        let up = graph.convolve(x, layer, Matrix::Up)?;
        let gate = activate(graph, gate, spec.activation)?;
        graph.builder.mul(gate, up)?
    } else {
        let up = graph.convolve(x, layer, Matrix::Up)?;
        activate(graph, up, spec.activation)?
    };
    let down = graph.convolve(inner, layer, Matrix::Down)?;
    graph.rows_of(down)
}
