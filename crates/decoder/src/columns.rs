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
    /// 0 where the function's first token is the first of all, else 1: (1, 1, 1, 1).
    kept: Option<Var>,
}

impl Columns {
    /// Declares the state, if the model has one.
    pub(crate) fn declare(graph: &mut Graph<'_>) -> Result<Option<Self>> {
        let Some(shape) = graph.spec.convolution_state_shape() else { return Ok(None) };
        let kind = TensorType::new(DataType::Float16, &shape);
        let state = graph.builder.state(CONVOLUTION_STATE_NAME, kind)?;
        Ok(Some(Self { state, shape, content: None, kept: None }))
    }

    /// Finds out from the causal mask, (1, 1, T, C), whether what the state holds counts.
    ///
    /// Before the first token there is nothing, whatever an earlier text has left: the state need
    /// not be emptied. The first row hides the second column exactly where its token is the first,
    /// so no position has to be compared, which the Neural Engine would not do.
    pub(crate) fn begin(&mut self, graph: &mut Graph<'_>, mask: Var) -> Result<()> {
        graph.builder.scope("first_token");
        self.kept = Some(if graph.spec.context == 1 {
            graph.builder.scalar_f16(0.0)?
        } else {
            let second =
                graph.builder.slice_by_index(mask, &[0, 0, 0, 1], &[1, 1, 1, 2], &[], &[])?;
            graph.builder.exp(second)?
        });
        graph.builder.end_scope();
        Ok(())
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
        if let Some(factor) = self.kept {
            old = builder.mul(old, factor)?;
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
