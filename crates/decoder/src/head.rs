//! The head: logits in pieces, or each piece's largest logit.

use anemll_mil::{Result, Var};

use crate::attention::cap_values;
use crate::graph::Graph;
use crate::weights::Weight;

/// Logits of (1, T, hidden) in pieces, `logits1` … `logitsn`, (1, T, rows of the piece) each.
pub(crate) fn logits(graph: &mut Graph<'_>, x: Var) -> Result<Vec<Var>> {
    let pieces = pieces(graph, x)?;
    for (place, piece) in pieces.iter().enumerate() {
        graph.builder.name_value(*piece, &format!("logits{}", place + 1))?;
    }
    Ok(pieces)
}

/// The largest logit of each piece for one token, (1, 1, hidden): `argmax_idx`, int32 (n), its
/// place within the piece, and `argmax_val`, float16 (n).
pub(crate) fn argmax(graph: &mut Graph<'_>, x: Var) -> Result<Vec<Var>> {
    let pieces = pieces(graph, x)?;
    let builder = &mut graph.builder;
    let mut indices = Vec::with_capacity(pieces.len());
    let mut values = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let index = builder.reduce_argmax(piece, -1, false)?;
        indices.push(builder.squeeze(index, &[0])?);
        let value = builder.reduce_max(piece, &[-1], false)?;
        values.push(builder.squeeze(value, &[0])?);
    }
    let outputs = [builder.concat(&indices, 0)?, builder.concat(&values, 0)?];
    builder.name_value(outputs[0], "argmax_idx")?;
    builder.name_value(outputs[1], "argmax_val")?;
    Ok(outputs.to_vec())
}

fn pieces(graph: &mut Graph<'_>, x: Var) -> Result<Vec<Var>> {
    graph.builder.scope("lm_head");
    let channels = graph.channels_of(x)?;
    let mut pieces = Vec::with_capacity(graph.spec.head_splits.len());
    for piece in 0..graph.spec.head_splits.len() {
        let weight = graph.weight(Weight::Head(piece))?;
        let piece = graph.builder.conv1x1(channels, weight, None)?;
        let piece = graph.rows_of(piece)?;
        pieces.push(match graph.spec.logit_cap {
            None => piece,
            Some(cap) => cap_values(graph, piece, 1.0, cap)?,
        });
    }
    graph.builder.end_scope();
    Ok(pieces)
}
