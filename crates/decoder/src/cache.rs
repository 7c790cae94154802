//! The states that hold keys and values: writing a layer's new tokens, reading them all.
//! Of layers with other mixers, they have nothing. Where a text goes through in one call, there are none.

use anemll_mil::{DataType, Result, TensorType, Var};
use anemll_plugin_api::data::{CacheForm, KEY_CACHE, VALUE_CACHE};

use crate::graph::{Graph, int32, int64};

/// The states of a function and their present content.
pub(crate) struct Cache {
    kept: Kept,
    /// The first position that is written, int32 (1); nothing where none is kept.
    position: Option<Var>,
    /// One past the last position that is written, int32 (1).
    end: Option<Var>,
}

/// How keys and values are kept.
enum Kept {
    /// Not at all.
    Nothing,
    /// In one state, rows of keys before those of values: [`CacheForm::Rows`].
    Rows(State),
    /// In a state of each: [`CacheForm::Channels`] and [`CacheForm::Heads`].
    Apart { keys: State, values: State },
}

/// A state, and what it holds now, once it has been read.
#[derive(Clone, Copy)]
struct State {
    name: Var,
    content: Option<Var>,
}

/// All that attention of a layer looks at, of each key and value head: (C, width), or (width, C) where
/// channels stand before positions.
#[derive(Clone, Copy)]
pub(crate) struct Content {
    pub(crate) keys: Var,
    pub(crate) values: Var,
    pub(crate) channels_first: bool,
}

impl Cache {
    /// Declares the states, where the keys and values of any layer are in them. `position` is the first
    /// token's position, int32 (1).
    pub(crate) fn declare(graph: &mut Graph<'_>, position: Var) -> Result<Self> {
        if graph.spec.cached_layers() == 0 {
            return Ok(Self::none());
        }
        let builder = &mut graph.builder;
        let mut declare = |name: &str, shape: &[u64]| -> Result<State> {
            let state = builder.state(name, TensorType::new(DataType::Float16, shape))?;
            Ok(State { name: state, content: None })
        };
        let kept = match graph.cache {
            CacheForm::Channels | CacheForm::Heads => {
                let shape = match graph.cache {
                    CacheForm::Channels => graph.spec.channel_state_shape(),
                    _ => graph.spec.head_state_shape(),
                };
                // Functions of one package may be for several contexts, and states of one name agree.
                let name = |name: &str| match graph.own_context {
                    Some(context) => format!("{name}_{context}"),
                    None => name.to_owned(),
                };
                let [keys, values] = [KEY_CACHE, VALUE_CACHE].map(name);
                let keys = declare(&keys, &shape)?;
                Kept::Apart { keys, values: declare(&values, &shape)? }
            }
            _ => Kept::Rows(declare(graph.spec.state_name(), &graph.spec.state_shape())?),
        };
        Ok(Self { kept, position: Some(position), end: None })
    }

    /// No state: the tokens of one call are all that there are.
    pub(crate) const fn none() -> Self {
        Self { kept: Kept::Nothing, position: None, end: None }
    }

    /// Writes a layer's new keys and values, (1, key and value heads, T, width) each, and returns
    /// all that the layer has up to the context's length.
    pub(crate) fn update(
        &mut self,
        graph: &mut Graph<'_>,
        layer: u32,
        keys: Var,
        values: Var,
    ) -> Result<Content> {
        let bounds = self.bounds(graph)?;
        let place = graph.spec.place_among_its_kind(layer);
        match (&mut self.kept, bounds) {
            (Kept::Rows(state), Some(bounds)) => {
                let value_row = place + graph.spec.cached_layers();
                state.write(graph, bounds, place, keys)?;
                let content = state.write(graph, bounds, value_row, values)?;
                let keys = row(graph, content, place)?;
                let values = row(graph, content, value_row)?;
                let (keys, values) = (context_of(graph, keys)?, context_of(graph, values)?);
                Ok(Content { keys, values, channels_first: false })
            }
            (Kept::Apart { keys: key_state, values: value_state }, Some(bounds)) => {
                let channels_first = graph.cache == CacheForm::Channels;
                let mut kept = |state: &mut State, update| {
                    let update = match channels_first {
                        true => columns_of(graph, update)?,
                        false => graph.builder.expand_dims(update, &[0])?,
                    };
                    let content = state.write(graph, bounds, place, update)?;
                    layer_of(graph, content, place)
                };
                let keys = kept(key_state, keys)?;
                let values = kept(value_state, values)?;
                Ok(Content { keys, values, channels_first })
            }
            _ => {
                let keys = graph.builder.squeeze(keys, &[0])?;
                let values = graph.builder.squeeze(values, &[0])?;
                Ok(Content { keys, values, channels_first: false })
            }
        }
    }

    /// The positions that are written, from the first to before the last.
    fn bounds(&mut self, graph: &mut Graph<'_>) -> Result<Option<[Var; 2]>> {
        let Some(position) = self.position else { return Ok(None) };
        let end = match self.end {
            Some(end) => end,
            None => {
                let tokens = graph.builder.scalar_i32(int32(graph.tokens)?)?;
                *self.end.insert(graph.builder.add(position, tokens)?)
            }
        };
        Ok(Some([position, end]))
    }
}

impl State {
    /// Replaces the new positions of one row, in the only pattern that the Neural Engine takes:
    /// read, update, write at once, read again (ANE rules ANE-042 and ANE-043).
    fn write(
        &mut self,
        graph: &mut Graph<'_>,
        [position, end]: [Var; 2],
        row: u64,
        update: Var,
    ) -> Result<Var> {
        let builder = &mut graph.builder;
        let content = match self.content {
            Some(content) => content,
            None => builder.read_state(self.name)?,
        };
        let zero = builder.vector_i32(&[0])?;
        let first = builder.vector_i32(&[int32(row)?])?;
        let after = builder.vector_i32(&[int32(row + 1)?])?;
        let (begin, end, whole): (_, _, &[bool]) = match graph.cache {
            CacheForm::Channels => (
                builder.concat(&[first, zero, zero, zero, position], 0)?,
                builder.concat(&[after, zero, zero, zero, end], 0)?,
                &[false, true, true, true, false],
            ),
            CacheForm::Heads => (
                builder.concat(&[first, zero, zero, position, zero], 0)?,
                builder.concat(&[after, zero, zero, end, zero], 0)?,
                &[false, true, true, false, true],
            ),
            _ => (
                builder.concat(&[first, zero, position, zero], 0)?,
                builder.concat(&[after, zero, end, zero], 0)?,
                &[false, true, false, true],
            ),
        };
        let from_first = vec![false; whole.len()];
        let updated = builder.slice_update(content, update, begin, end, &from_first, whole)?;
        builder.write_state(self.name, updated)?;
        let content = builder.read_state(self.name)?;
        self.content = Some(content);
        Ok(content)
    }
}

/// New keys or values as channels before positions: (1, key and value heads, T, width) to (1, 1, key
/// and value heads × width, 1, T).
fn columns_of(graph: &mut Graph<'_>, update: Var) -> Result<Var> {
    let channels = int64(graph.spec.key_value_width())?;
    let tokens = int64(graph.tokens)?;
    let columns = match tokens {
        1 => update,
        _ => graph.builder.transpose(update, &[0, 1, 3, 2])?,
    };
    graph.builder.reshape(columns, &[1, 1, channels, 1, tokens])
}

/// One layer of a state of keys or of values: (key and value heads, width, C) where its channels stand before
/// positions, else (key and value heads, C, width).
fn layer_of(graph: &mut Graph<'_>, content: Var, layer: u64) -> Result<Var> {
    let channels_first = graph.cache == CacheForm::Channels;
    let spec = graph.spec;
    let (heads, width, length) = (spec.key_value_heads, spec.head_dimension, spec.context);
    let (state, shape) = match channels_first {
        true => (spec.channel_state_shape(), [heads, width, length]),
        false => (spec.head_state_shape(), [heads, length, width]),
    };
    let begin = [int32(layer)?, 0, 0, 0, 0];
    let mut end = [int32(layer + 1)?, 0, 0, 0, 0];
    for (axis, size) in state.iter().enumerate().skip(1) {
        end[axis] = int32(*size)?;
    }
    let whole = [false, true, true, true, true];
    let layer = graph.builder.slice_by_index(content, &begin, &end, &[], &whole)?;
    graph.builder.reshape(layer, &[int64(shape[0])?, int64(shape[1])?, int64(shape[2])?])
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
