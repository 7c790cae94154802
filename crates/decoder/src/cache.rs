//! The state that holds keys and values: writing a layer's new rows, reading them all.
//! Of layers with other mixers, it has no rows. Where a text goes through in one call, there is none.

use anemll_mil::{DataType, Result, TensorType, Var};

use crate::graph::{Graph, int32};

/// The state of a function and its present content.
pub(crate) struct Cache {
    /// The state, and the first position that is written, int32 (1); nothing where none is kept.
    kept: Option<(Var, Var)>,
    /// One past the last position that is written, int32 (1).
    end: Option<Var>,
    /// What the state holds now, once it has been read.
    content: Option<Var>,
}

impl Cache {
    /// Declares the state, where the keys and values of any layer are in it. `position` is the first
    /// token's position, int32 (1).
    pub(crate) fn declare(graph: &mut Graph<'_>, position: Var) -> Result<Self> {
        if graph.spec.cached_layers() == 0 {
            return Ok(Self::none());
        }
        let kind = TensorType::new(DataType::Float16, &graph.spec.state_shape());
        let state = graph.builder.state(graph.spec.state_name(), kind)?;
        Ok(Self { kept: Some((state, position)), end: None, content: None })
    }

    /// No state: the tokens of one call are all that there are.
    pub(crate) const fn none() -> Self {
        Self { kept: None, end: None, content: None }
    }

    /// Writes a layer's new keys and values, (1, key and value heads, T, width) each, and returns
    /// all that the layer has up to the context's length, (key and value heads, C, width) each.
    pub(crate) fn update(
        &mut self,
        graph: &mut Graph<'_>,
        layer: u32,
        keys: Var,
        values: Var,
    ) -> Result<(Var, Var)> {
        let Some(kept) = self.kept else {
            return Ok((graph.builder.squeeze(keys, &[0])?, graph.builder.squeeze(values, &[0])?));
        };
        let key_row = graph.spec.place_among_its_kind(layer);
        let value_row = key_row + graph.spec.cached_layers();
        self.write(graph, kept, key_row, keys)?;
        let content = self.write(graph, kept, value_row, values)?;
        let keys = row(graph, content, key_row)?;
        let values = row(graph, content, value_row)?;
        Ok((context_of(graph, keys)?, context_of(graph, values)?))
    }

    /// Replaces the new positions of one row, in the only pattern that the Neural Engine takes:
    /// read, update, write at once, read again (ANE rules ANE-042 and ANE-043).
    fn write(
        &mut self,
        graph: &mut Graph<'_>,
        (state, position): (Var, Var),
        row: u64,
        update: Var,
    ) -> Result<Var> {
        let tokens = int32(graph.tokens)?;
        let builder = &mut graph.builder;
        let end = match self.end {
            Some(end) => end,
            None => {
                let tokens = builder.scalar_i32(tokens)?;
                *self.end.insert(builder.add(position, tokens)?)
            }
        };
        let content = match self.content {
            Some(content) => content,
            None => builder.read_state(state)?,
        };
        let zero = builder.vector_i32(&[0])?;
        let first = builder.vector_i32(&[int32(row)?])?;
        let begin = builder.concat(&[first, zero, position, zero], 0)?;
        let after = builder.vector_i32(&[int32(row + 1)?])?;
        let end = builder.concat(&[after, zero, end, zero], 0)?;
        let updated = builder.slice_update(
            content,
            update,
            begin,
            end,
            &[false; 4],
            &[false, true, false, true],
        )?;
        builder.write_state(state, updated)?;
        let content = builder.read_state(state)?;
        self.content = Some(content);
        Ok(content)
    }
}

/// One row of the state: (key and value heads, S, width).
fn row(graph: &mut Graph<'_>, content: Var, row: u64) -> Result<Var> {
    let [_, heads, length, width] = graph.spec.state_shape();
    let first = int32(row)?;
    let end = [int32(row + 1)?, int32(heads)?, int32(length)?, int32(width)?];
    let whole = [false, true, true, true];
    let row = graph.builder.slice_by_index(content, &[first, 0, 0, 0], &end, &[], &whole)?;
    graph.builder.squeeze(row, &[0])
}

/// The first C of S positions.
fn context_of(graph: &mut Graph<'_>, row: Var) -> Result<Var> {
    let [_, heads, length, width] = graph.spec.state_shape();
    if length == graph.spec.context {
        return Ok(row);
    }
    let end = [int32(heads)?, int32(graph.spec.context)?, int32(width)?];
    graph.builder.slice_by_index(row, &[0; 3], &end, &[], &[true, false, true])
}
