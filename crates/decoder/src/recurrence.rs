//! The state of linear attention: a matrix for each head, and the last columns before the convolution.

use anemll_mil::{DataType, Result, TensorType, Var};

use crate::block::DeltaNet;
use crate::graph::{Graph, int32, int64};
use crate::spec::RECURRENT_STATE_NAME;

/// The state of a function and its present content.
///
/// One state holds both, since functions with three states fail on some systems (ANE rule ANE-046):
/// [`crate::DecoderSpec::recurrent_state_shape`] says how.
pub(crate) struct Recurrence {
    state: Var,
    /// Of the state.
    shape: [u64; 4],
    /// What the state holds now, if it was read since it was written.
    content: Option<Var>,
    /// Whether what the state holds counts, as a factor.
    counts: Option<Var>,
}

/// What a layer has of earlier tokens.
pub(crate) struct Earlier {
    /// The matrices, (1, value heads, key width, value width).
    pub(crate) matrices: Var,
    /// The last columns before the convolution, (1, channels, 1, taps - 1).
    pub(crate) columns: Var,
}

impl Recurrence {
    /// Declares the state, if the model has one.
    pub(crate) fn declare(graph: &mut Graph<'_>) -> Result<Option<Self>> {
        let Some(shape) = graph.spec.recurrent_state_shape() else { return Ok(None) };
        let kind = TensorType::new(DataType::Float16, &shape);
        let state = graph.builder.state(RECURRENT_STATE_NAME, kind)?;
        Ok(Some(Self { state, shape, content: None, counts: None }))
    }

    /// Says whether what the state holds counts, by a factor of 0 or 1, (1, 1, 1, 1).
    pub(crate) fn begin(&mut self, counts: Var) {
        self.counts = Some(counts);
    }

    /// What a layer has of earlier tokens.
    pub(crate) fn read(
        &mut self,
        graph: &mut Graph<'_>,
        net: DeltaNet,
        layer: u32,
    ) -> Result<Earlier> {
        let [_, heads, rows, width] = self.shape;
        let (begin, end) = self.row(graph, layer)?;
        let whole = [false, true, true, true];
        let content = self.content(graph)?;
        let mut row = graph.builder.slice_by_index(content, &begin, &end, &[], &whole)?;
        if let Some(counts) = self.counts {
            row = graph.builder.mul(row, counts)?;
        }
        let (heads, rows, width) = (int32(heads)?, int32(rows)?, int32(width)?);
        let keys = int32(net.key_width)?;
        let end = [1, heads, keys, width];
        let whole = [true, true, false, true];
        let matrices = graph.builder.slice_by_index(row, &[0; 4], &end, &[], &whole)?;
        let (begin, end) = ([0, 0, keys, 0], [1, heads, rows, width]);
        let columns = graph.builder.slice_by_index(row, &begin, &end, &[], &[true; 4])?;
        let (kept, [_, filled]) = (int64(net.taps - 1)?, net.column_rows());
        let columns = graph.builder.reshape(columns, &[1, 1, kept, int64(filled)?])?;
        let columns = graph.builder.transpose(columns, &[0, 3, 1, 2])?;
        let columns = channels(graph, columns, net.channels(), [filled, net.taps - 1])?;
        Ok(Earlier { matrices, columns })
    }

    /// Keeps a layer's matrices, and the last of its columns, (1, channels, 1, taps - 1 + T).
    pub(crate) fn write(
        &mut self,
        graph: &mut Graph<'_>,
        net: DeltaNet,
        layer: u32,
        now: &Earlier,
    ) -> Result<()> {
        let [_, heads, _, width] = self.shape;
        let ([rows, filled], kept) = (net.column_rows(), net.taps - 1);
        let tokens = int32(graph.tokens)?;
        let end = [1, int32(net.channels())?, 1, tokens + int32(kept)?];
        let begin = [0, 0, 0, tokens];
        let mut last = graph.builder.slice_by_index(now.columns, &begin, &end, &[], &[true; 4])?;
        let lacking = filled - net.channels();
        if lacking > 0 {
            // Anything does: it is cut off again.
            let filler = channels(graph, last, lacking, [net.channels(), kept])?;
            last = graph.builder.concat(&[last, filler], 1)?;
        }
        let last = graph.builder.transpose(last, &[0, 2, 3, 1])?;
        let shape = [1, int64(heads)?, int64(rows)?, int64(width)?];
        let last = graph.builder.reshape(last, &shape)?;
        let update = graph.builder.concat(&[now.matrices, last], 2)?;

        let (begin, end) = self.row(graph, layer)?;
        let content = self.content(graph)?;
        let (begin, end) = (graph.builder.vector_i32(&begin)?, graph.builder.vector_i32(&end)?);
        let whole = [false, true, true, true];
        let updated =
            graph.builder.slice_update(content, update, begin, end, &[false; 4], &whole)?;
        graph.builder.write_state(self.state, updated)?;
        self.content = None;
        Ok(())
    }

    /// Where a layer's part of the state begins and ends.
    fn row(&self, graph: &Graph<'_>, layer: u32) -> Result<([i32; 4], [i32; 4])> {
        let row = int32(graph.spec.place_among_its_kind(layer))?;
        let [_, heads, rows, width] = self.shape;
        Ok(([row, 0, 0, 0], [row + 1, int32(heads)?, int32(rows)?, int32(width)?]))
    }

    fn content(&mut self, graph: &mut Graph<'_>) -> Result<Var> {
        match self.content {
            Some(content) => Ok(content),
            None => Ok(*self.content.insert(graph.builder.read_state(self.state)?)),
        }
    }
}

/// The first channels of (1, all, 1, n).
fn channels(graph: &mut Graph<'_>, x: Var, first: u64, [all, n]: [u64; 2]) -> Result<Var> {
    if first == all {
        return Ok(x);
    }
    let end = [1, int32(first)?, 1, int32(n)?];
    graph.builder.slice_by_index(x, &[0; 4], &end, &[], &[true, false, true, true])
}
