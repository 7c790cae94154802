//! The state of layers with a window, where it holds the last positions alone: position p stands at the
//! place that is left when p is divided by the ring's length.
//!
//! Which places a token sees, and where a batch is written, follow from the causal mask: columns of the
//! context, of which those a length apart are one place, are folded by sums of ones and zeros. Only a
//! single token's place is reckoned with integers, as the places of other caches are.

use anemll_mil::{DataType, Error, Result, TensorType, Var};

use crate::graph::{Graph, int32, int64};
use crate::mask::OUT_OF_SIGHT;
use crate::spec::WINDOW_STATE_NAME;

/// The state of a function and its present content.
pub(crate) struct Ring {
    state: Var,
    /// Of the state.
    shape: [u64; 4],
    /// Tokens that a token sees.
    window: u64,
    /// The first token's position, int32 (1).
    position: Var,
    /// What is added to scores, (1, 1, T, length), and where tokens are written.
    begun: Option<(Var, Place)>,
    /// What the state holds now, once it has been read.
    content: Option<Var>,
}

/// Where tokens are written.
#[derive(Clone, Copy)]
enum Place {
    /// One token: from this place to before that, int32 (1) each.
    One(Var, Var),
    /// A batch, which may go over the end: 1 where a token is written, (1, 1, T, length), and 1 where
    /// none is, (1, 1, length, 1).
    Many(Var, Var),
}

impl Ring {
    /// Declares the state, if the model has one. `position` is the first token's, int32 (1).
    pub(crate) fn declare(graph: &mut Graph<'_>, position: Var) -> Result<Option<Self>> {
        let spec = graph.spec;
        let Some((window, shape)) = spec.ring_window().zip(spec.ring_state_shape()) else {
            return Ok(None);
        };
        let kind = TensorType::new(DataType::Float16, &shape);
        let state = graph.builder.state(WINDOW_STATE_NAME, kind)?;
        Ok(Some(Self { state, shape, window, position, begun: None, content: None }))
    }

    /// Finds out what tokens see and where they are written, of the causal mask (1, 1, T, C).
    pub(crate) fn begin(&mut self, graph: &mut Graph<'_>, causal: Var) -> Result<()> {
        graph.builder.scope(&format!("window_{}_ring", self.window));
        // 1 where a row sees a column, 0 where the mask is minus infinity.
        let seen = graph.builder.exp(causal)?;
        let mask = self.mask_of(graph, seen)?;
        let place = match graph.tokens {
            1 => self.place_of_one(graph)?,
            _ => self.place_of_many(graph, seen)?,
        };
        graph.builder.end_scope();
        self.begun = Some((mask, place));
        Ok(())
    }

    /// What is added to scores, (1, 1, T, length), and the length.
    pub(crate) fn mask(&self) -> Result<(Var, u64)> {
        let [_, _, length, _] = self.shape;
        self.begun.map(|(mask, _)| (mask, length)).ok_or_else(not_begun)
    }

    /// Writes a layer's new keys and values, (1, key and value heads, T, width) each, and returns all
    /// that its ring has, (key and value heads, length, width) each.
    pub(crate) fn update(
        &mut self,
        graph: &mut Graph<'_>,
        layer: u32,
        [keys, values]: [Var; 2],
    ) -> Result<[Var; 2]> {
        let key_row = int32(graph.spec.place_among_its_kind(layer))?;
        let value_row = key_row + int32(graph.spec.ring_layers())?;
        self.write(graph, key_row, keys)?;
        let content = self.write(graph, value_row, values)?;
        let keys = self.row(graph, content, key_row)?;
        let values = self.row(graph, content, value_row)?;
        Ok([graph.builder.squeeze(keys, &[0])?, graph.builder.squeeze(values, &[0])?])
    }

    /// A row sees the columns up to its own, without those that are seen `window` further on: these
    /// columns are no more than a window, and no two of them are one place.
    fn mask_of(&self, graph: &mut Graph<'_>, seen: Var) -> Result<Var> {
        let (tokens, context) = (int32(graph.tokens)?, int32(graph.spec.context)?);
        let window = int32(self.window)?;
        let rest = context - window;
        let builder = &mut graph.builder;
        let whole = [true, true, true, false];
        let end = [1, 1, tokens, rest];
        let front = builder.slice_by_index(seen, &[0; 4], &end, &[], &whole)?;
        let end = [1, 1, tokens, context];
        let ahead = builder.slice_by_index(seen, &[0, 0, 0, window], &end, &[], &[true; 4])?;
        let back = builder.slice_by_index(seen, &[0, 0, 0, rest], &end, &[], &[true; 4])?;
        let front = builder.sub(front, ahead)?;
        let columns = builder.concat(&[front, back], -1)?;
        let places = self.fold(graph, columns)?;
        let one = graph.builder.scalar_f16(1.0)?;
        let hidden = graph.builder.sub(one, places)?;
        let low = graph.builder.scalar_f16(OUT_OF_SIGHT)?;
        graph.builder.mul(hidden, low)
    }

    fn place_of_one(&self, graph: &mut Graph<'_>) -> Result<Place> {
        let [_, _, length, _] = self.shape;
        let length = graph.builder.scalar_i32(int32(length)?)?;
        // The remainder, without the operation of that name, which no engine has.
        let rounds = graph.builder.floor_div(self.position, length)?;
        let before = graph.builder.mul(rounds, length)?;
        let first = graph.builder.sub(self.position, before)?;
        let one = graph.builder.scalar_i32(1)?;
        Ok(Place::One(first, graph.builder.add(first, one)?))
    }

    /// The place of each token is the one column that its row sees and the row before does not: the
    /// first row sees one more than the first column behind it says.
    fn place_of_many(&self, graph: &mut Graph<'_>, seen: Var) -> Result<Place> {
        let (tokens, context) = (int32(graph.tokens)?, int32(graph.spec.context)?);
        let builder = &mut graph.builder;
        let whole = [true, true, false, true];
        let (begin, end) = ([0, 0, 0, 1], [1, 1, 1, context]);
        let before = builder.slice_by_index(seen, &begin, &end, &[], &whole)?;
        let first = builder.slice_by_index(seen, &[0; 4], &[1; 4], &[], &[false; 4])?;
        let zero = builder.scalar_f16(0.0)?;
        let none = builder.mul(first, zero)?;
        let before = builder.concat(&[before, none], -1)?;
        let end = [1, 1, tokens - 1, context];
        let earlier = builder.slice_by_index(seen, &[0; 4], &end, &[], &whole)?;
        let earlier = builder.concat(&[before, earlier], 2)?;
        let own = builder.sub(seen, earlier)?;
        let places = self.fold(graph, own)?;
        let taken = graph.builder.reduce_sum(places, &[2], true)?;
        let taken = graph.builder.transpose(taken, &[0, 1, 3, 2])?;
        let one = graph.builder.scalar_f16(1.0)?;
        let free = graph.builder.sub(one, taken)?;
        Ok(Place::Many(places, free))
    }

    /// Columns of the context to places of the ring, by sums of those that are a length apart:
    /// (1, 1, T, C) to (1, 1, T, length).
    fn fold(&self, graph: &mut Graph<'_>, columns: Var) -> Result<Var> {
        let ([_, _, length, _], context) = (self.shape, graph.spec.context);
        let rounds = context.div_ceil(length);
        let lacking = rounds.saturating_mul(length) - context;
        let tokens = graph.tokens;
        let mut columns = columns;
        if lacking > 0 {
            let builder = &mut graph.builder;
            let (end, whole) = ([1, 1, int32(tokens)?, int32(lacking)?], [true, true, true, false]);
            let first = builder.slice_by_index(columns, &[0; 4], &end, &[], &whole)?;
            let zero = builder.scalar_f16(0.0)?;
            let beyond = builder.mul(first, zero)?;
            columns = builder.concat(&[columns, beyond], -1)?;
        }
        let shape = [1, int64(tokens)?, int64(rounds)?, int64(length)?];
        let columns = graph.builder.reshape(columns, &shape)?;
        let places = graph.builder.reduce_sum(columns, &[2], true)?;
        graph.builder.transpose(places, &[0, 2, 1, 3])
    }

    /// Replaces the new positions of one row, as the caches of whole contexts do: read, update, write at
    /// once, read again. A batch is put into the row before, which is then written whole: what would go
    /// over the end stands at the beginning.
    fn write(&mut self, graph: &mut Graph<'_>, row: i32, new: Var) -> Result<Var> {
        let (_, place) = self.begun.ok_or_else(not_begun)?;
        let content = match self.content {
            Some(content) => content,
            None => graph.builder.read_state(self.state)?,
        };
        let updated = match place {
            Place::One(first, end) => {
                let builder = &mut graph.builder;
                let zero = builder.vector_i32(&[0])?;
                let (own, next) = (builder.vector_i32(&[row])?, builder.vector_i32(&[row + 1])?);
                let begin = builder.concat(&[own, zero, first, zero], 0)?;
                let end = builder.concat(&[next, zero, end, zero], 0)?;
                let whole = [false, true, false, true];
                builder.slice_update(content, new, begin, end, &[false; 4], &whole)?
            }
            Place::Many(places, free) => {
                let old = self.row(graph, content, row)?;
                let old = graph.builder.mul(old, free)?;
                let new = graph.builder.matmul(places, new, true, false)?;
                let new = graph.builder.add(old, new)?;
                let (begin, end) = self.bounds(row)?;
                let begin = graph.builder.vector_i32(&begin)?;
                let end = graph.builder.vector_i32(&end)?;
                let whole = [false, true, true, true];
                graph.builder.slice_update(content, new, begin, end, &[false; 4], &whole)?
            }
        };
        graph.builder.write_state(self.state, updated)?;
        let content = graph.builder.read_state(self.state)?;
        self.content = Some(content);
        Ok(content)
    }

    /// One row of the state: (1, key and value heads, length, width).
    fn row(&self, graph: &mut Graph<'_>, content: Var, row: i32) -> Result<Var> {
        let (begin, end) = self.bounds(row)?;
        let whole = [false, true, true, true];
        graph.builder.slice_by_index(content, &begin, &end, &[], &whole)
    }

    /// Where a row of the state begins and ends.
    fn bounds(&self, row: i32) -> Result<([i32; 4], [i32; 4])> {
        let [_, heads, length, width] = self.shape;
        Ok(([row, 0, 0, 0], [row + 1, int32(heads)?, int32(length)?, int32(width)?]))
    }
}

fn not_begun() -> Error {
    Error::new("a ring is used before its mask is made".to_owned())
}
