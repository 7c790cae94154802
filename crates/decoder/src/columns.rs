//! The state of short convolutions: the last columns that each of them has read.

use anemll_mil::{DataType, Result, TensorType, Var};

use crate::graph::{Graph, int32};
use crate::spec::CONVOLUTION_STATE_NAME;

/// The state of a function and its present content.
pub(crate) struct Columns {
    state: Var,
    /// Of the state.
    shape: [u64; 4],
    /// What the state holds now, if it was read since it was written.
    content: Option<Var>,
    /// Whether what the state holds counts, as a factor.
    counts: Option<Var>,
}

impl Columns {
    /// Declares the state, if the model has one.
    pub(crate) fn declare(graph: &mut Graph<'_>) -> Result<Option<Self>> {
        let Some(shape) = graph.spec.convolution_state_shape() else { return Ok(None) };
        let kind = TensorType::new(DataType::Float16, &shape);
        let state = graph.builder.state(CONVOLUTION_STATE_NAME, kind)?;
        Ok(Some(Self { state, shape, content: None, counts: None }))
    }

    /// Says whether what the state holds counts, by a factor of 0 or 1, (1, 1, 1, 1).
    pub(crate) fn begin(&mut self, counts: Var) {
        self.counts = Some(counts);
    }

    /// Puts the columns of earlier tokens before new ones, (1, hidden, 1, T), and keeps the last of
    /// both for the next call. Gives (1, hidden, 1, columns kept + T).
    pub(crate) fn extend(&mut self, graph: &mut Graph<'_>, layer: u32, new: Var) -> Result<Var> {
        let row = int32(graph.spec.place_among_its_kind(layer))?;
        let [_, one, kept, width] = self.shape;
        let (kept, tokens) = (int32(kept)?, int32(graph.tokens)?);
        let end = [row + 1, int32(one)?, kept, int32(width)?];
        let whole = [false, true, true, true];
        let builder = &mut graph.builder;
        let content = match self.content {
            Some(content) => content,
            None => *self.content.insert(builder.read_state(self.state)?),
        };
        let mut old = builder.slice_by_index(content, &[row, 0, 0, 0], &end, &[], &whole)?;
        if let Some(counts) = self.counts {
            old = builder.mul(old, counts)?;
        }
        let old = builder.transpose(old, &[0, 3, 1, 2])?;
        let columns = builder.concat(&[old, new], 3)?;

        let after = [1, end[3], 1, tokens + kept];
        let begin = [0, 0, 0, tokens];
        let last = builder.slice_by_index(columns, &begin, &after, &[], &[true; 4])?;
        let last = builder.transpose(last, &[0, 2, 3, 1])?;
        let begin = builder.vector_i32(&[row, 0, 0, 0])?;
        let end = builder.vector_i32(&end)?;
        let updated = builder.slice_update(content, last, begin, end, &[false; 4], &whole)?;
        builder.write_state(self.state, updated)?;
        self.content = None;
        Ok(columns)
    }
}
