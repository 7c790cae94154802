//! Applying rotary positions: which rows of the tables, and the rotation of heads.

use anemll_mil::{Result, Var};

use crate::graph::{Graph, int32, int64};
use crate::rope::RopeTables;

/// The rotations that the layers of a function have, in the order of the specification's.
pub(crate) struct Rotations(Vec<Option<Rotation>>);

impl Rotations {
    /// Gathers the rows of int32 positions (T) from the tables, which become constants.
    pub(crate) fn gather(
        graph: &mut Graph<'_>,
        positions: Var,
        tables: &[Option<RopeTables>],
    ) -> Result<Self> {
        let gather = |(place, tables): (usize, &Option<RopeTables>)| {
            let tables = tables.as_ref()?;
            Some(Rotation::gather(graph, positions, tables, place))
        };
        let rotations = tables.iter().enumerate().map(gather).map(Option::transpose);
        Ok(Self(rotations.collect::<Result<_>>()?))
    }

    /// The rotation of a layer, if it has one.
    pub(crate) fn of(&self, place: Option<usize>) -> Option<Rotation> {
        self.0.get(place?).copied().flatten()
    }
}

/// Cosines and sines of the function's positions, (1, 1, T, rotated width / 2) each.
#[derive(Clone, Copy)]
pub(crate) struct Rotation {
    cosine: Var,
    sine: Var,
    /// How many of a head's elements are rotated, from the first on.
    width: u64,
}

impl Rotation {
    fn gather(
        graph: &mut Graph<'_>,
        positions: Var,
        tables: &RopeTables,
        place: usize,
    ) -> Result<Self> {
        let number = if place == 0 { String::new() } else { (place + 1).to_string() };
        graph.builder.scope(&format!("rotary{number}"));
        let [_, rows, width] = tables.shape;
        let indices = graph.indices(positions, rows)?;
        let name = |what: &str| format!("model_model_rotary{number}_{what}");
        let cosine = graph.builder.table_f16(&name("cos"), &tables.shape, &tables.cosine)?;
        let cosine = Self::rows(graph, cosine, indices, width)?;
        let sine = graph.builder.table_f16(&name("sin"), &tables.shape, &tables.sine)?;
        let sine = Self::rows(graph, sine, indices, width)?;
        graph.builder.end_scope();
        Ok(Self { cosine, sine, width })
    }

    fn rows(graph: &mut Graph<'_>, table: Var, indices: Var, width: u64) -> Result<Var> {
        let tokens = graph.tokens;
        let rows = graph.builder.gather(table, indices, 1)?;
        let rows = graph.builder.reshape(rows, &[1, 1, int64(tokens)?, int64(width)?])?;
        // Both halves of a row are equal.
        part(graph, rows, [1, width], 0, width / 2)
    }

    /// Rotates `heads` heads, (1, heads, T, width): `x1 cos - x2 sin | x2 cos + x1 sin`, and what
    /// is not rotated behind it. `x1` and `x2` are halves, or, where pairs lie side by side, the first and
    /// second ones of them.
    pub(crate) fn apply(self, graph: &mut Graph<'_>, x: Var, heads: u64) -> Result<Var> {
        let whole = graph.spec.head_dimension;
        let half = self.width / 2;
        // Queries and keys are put in the same order, which no score tells from another.
        let [first, second] = match graph.spec.interleaved_rotation {
            true => [0, 1].map(|from| every_second(graph, x, heads, from, self.width)),
            false => [(0, half), (half, self.width)]
                .map(|(from, end)| part(graph, x, [heads, whole], from, end)),
        };
        let (first, second) = (first?, second?);
        let builder = &mut graph.builder;
        let first_cosine = builder.mul(first, self.cosine)?;
        let second_sine = builder.mul(second, self.sine)?;
        let left = builder.sub(first_cosine, second_sine)?;
        let second_cosine = builder.mul(second, self.cosine)?;
        let first_sine = builder.mul(first, self.sine)?;
        let right = builder.add(second_cosine, first_sine)?;
        if self.width == whole {
            return builder.concat(&[left, right], -1);
        }
        let rest = part(graph, x, [heads, whole], self.width, whole)?;
        graph.builder.concat(&[left, right, rest], -1)
    }
}

/// Elements `from` to `end` of the last axis of (1, heads, T, width).
fn part(
    graph: &mut Graph<'_>,
    x: Var,
    [heads, width]: [u64; 2],
    from: u64,
    end: u64,
) -> Result<Var> {
    let begin = [0, 0, 0, int32(from)?];
    let to_the_last = end == width;
    let end = [1, int32(heads)?, int32(graph.tokens)?, int32(end)?];
    graph.builder.slice_by_index(x, &begin, &end, &[], &[true, true, true, to_the_last])
}

/// Every second element of the last axis of (1, heads, T, …), from `from` to before `end`.
fn every_second(graph: &mut Graph<'_>, x: Var, heads: u64, from: i32, end: u64) -> Result<Var> {
    let end = [1, int32(heads)?, int32(graph.tokens)?, int32(end)?];
    let bounds: [&[i32]; 3] = [&[0, 0, 0, from], &end, &[1, 1, 1, 2]];
    graph.builder.slice_by_index_in_steps(x, bounds, &[], &[true, true, true, false])
}
