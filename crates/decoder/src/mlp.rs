//! The gated MLP.

use anemll_mil::{Result, Var};

use crate::graph::Graph;
use crate::norm::rms_norm;
use crate::weights::{LayerWeight, Matrix, Weight};

/// Adds a layer's MLP to the residual stream: (1, T, hidden) to (1, T, hidden).
pub(crate) fn add_mlp(graph: &mut Graph<'_>, residual: Var, layer: u32) -> Result<Var> {
    graph.builder.scope(&format!("layers_{layer}_mlp"));
    let gain = Weight::Layer(layer, LayerWeight::MlpNorm);
    let x = rms_norm(graph, residual, graph.spec.hidden_size, gain)?;
    let x = graph.channels_of(x)?;
    let gate = graph.convolve(x, layer, Matrix::Gate)?;
    let up = graph.convolve(x, layer, Matrix::Up)?;
    let gate = graph.builder.silu(gate)?;
    let inner = graph.builder.mul(gate, up)?;
    let down = graph.convolve(inner, layer, Matrix::Down)?;
    let rows = graph.rows_of(down)?;
    let sum = graph.builder.add(residual, rows)?;
    graph.builder.end_scope();
    Ok(sum)
}
