//! Applying rotary positions: which rows of the tables, and the rotation of heads.

use anemll_mil::{Result, Var};

use crate::graph::{Graph, int32, int64};
use crate::rope::RopeTables;

/// Cosines and sines of the function's positions, (1, 1, T, head width / 2) each.
#[derive(Clone, Copy)]
pub(crate) struct Rotation {
    cosine: Var,
    sine: Var,
}

impl Rotation {
    /// Gathers the rows of int32 positions (T) from the tables, which become constants.
    pub(crate) fn gather(
        graph: &mut Graph<'_>,
        positions: Var,
        tables: &RopeTables,
    ) -> Result<Self> {
        graph.builder.scope("rotary");
        let indices = graph.indices(positions, tables.shape[1])?;
        let cosine =
            graph.builder.table_f16("model_model_rotary_cos", &tables.shape, &tables.cosine)?;
        let cosine = Self::rows(graph, cosine, indices)?;
        let sine =
            graph.builder.table_f16("model_model_rotary_sin", &tables.shape, &tables.sine)?;
        let sine = Self::rows(graph, sine, indices)?;
        graph.builder.end_scope();
        Ok(Self { cosine, sine })
    }

    fn rows(graph: &mut Graph<'_>, table: Var, indices: Var) -> Result<Var> {
        let (tokens, width) = (graph.tokens, graph.spec.head_dimension);
        let rows = graph.builder.gather(table, indices, 1)?;
        let rows = graph.builder.reshape(rows, &[1, 1, int64(tokens)?, int64(width)?])?;
        // Both halves of a row are equal.
        first_half(graph, rows, 1)
    }

    /// Rotates `heads` heads, (1, heads, T, width): `x1 cos - x2 sin | x2 cos + x1 sin`.
    pub(crate) fn apply(self, graph: &mut Graph<'_>, x: Var, heads: u64) -> Result<Var> {
        let first = first_half(graph, x, heads)?;
        let second = second_half(graph, x, heads)?;
        let builder = &mut graph.builder;
        let first_cosine = builder.mul(first, self.cosine)?;
        let second_sine = builder.mul(second, self.sine)?;
        let left = builder.sub(first_cosine, second_sine)?;
        let second_cosine = builder.mul(second, self.cosine)?;
        let first_sine = builder.mul(first, self.sine)?;
        let right = builder.add(second_cosine, first_sine)?;
        builder.concat(&[left, right], -1)
    }
}

/// The first half of the last axis of (1, heads, T, width).
fn first_half(graph: &mut Graph<'_>, x: Var, heads: u64) -> Result<Var> {
    let end = [1, int32(heads)?, int32(graph.tokens)?, int32(graph.spec.head_dimension / 2)?];
    graph.builder.slice_by_index(x, &[0; 4], &end, &[], &[true, true, true, false])
}

/// The second half of the last axis of (1, heads, T, width).
fn second_half(graph: &mut Graph<'_>, x: Var, heads: u64) -> Result<Var> {
    let begin = [0, 0, 0, int32(graph.spec.head_dimension / 2)?];
    let end = [1, int32(heads)?, int32(graph.tokens)?, int32(graph.spec.head_dimension)?];
    graph.builder.slice_by_index(x, &begin, &end, &[], &[true; 4])
}
