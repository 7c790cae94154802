//! Masks: what a token sees of the tokens before it.

use std::collections::BTreeMap;

use anemll_mil::{Result, Var};
use anemll_plugin_api::data::CacheForm;
use half::f16;

use crate::graph::{Graph, int32};

/// Added to the scores of what is out of a window: far below every score, and finite, as are its
/// sums with scores.
pub(crate) const OUT_OF_SIGHT: f32 = -40_000.0;

/// What is added to the scores of layers, (1, 1, T, C) each.
pub(crate) struct Masks {
    causal: Var,
    /// By length in tokens.
    windows: BTreeMap<u64, Var>,
}

impl Masks {
    /// The mask of a function, and those of windows, which are made of it.
    pub(crate) fn new(
        graph: &mut Graph<'_>,
        causal: Var,
        windows: impl Iterator<Item = u64>,
    ) -> Result<Self> {
        let mut masks = Self { causal, windows: BTreeMap::new() };
        let any_context = graph.cache == CacheForm::Heads;
        let context = if any_context { graph.longest } else { graph.spec.context };
        for window in windows {
            // A window of the whole context hides nothing.
            if window < context && !masks.windows.contains_key(&window) {
                let mask = match graph.spec.is_bidirectional() {
                    true => of_window_both_ways(graph, causal, window)?,
                    false if any_context => of_window_in_any_context(graph, causal, window)?,
                    false => of_window(graph, causal, window)?,
                };
                masks.windows.insert(window, mask);
            }
        }
        Ok(masks)
    }

    /// The mask of a layer.
    pub(crate) fn of(&self, window: Option<u64>) -> Var {
        window.and_then(|window| self.windows.get(&window)).copied().unwrap_or(self.causal)
    }
}

/// The mask of a window where tokens see those behind them too: the ones that are less than `window`
/// away. The whole text goes through in one call, so which those are is always the same: a table,
/// added to the mask that says which tokens there are.
fn of_window_both_ways(graph: &mut Graph<'_>, mask: Var, window: u64) -> Result<Var> {
    let (tokens, context) = (graph.tokens, graph.spec.context);
    let far = f16::from_f32(OUT_OF_SIGHT);
    let rows = (0..tokens).flat_map(|row| {
        let column = move |column: u64| if row.abs_diff(column) < window { f16::ZERO } else { far };
        (0..context).map(column)
    });
    let values: Vec<f16> = rows.collect();
    let name = format!("window_{window}_both_ways");
    graph.builder.scope(&format!("window_{window}_mask"));
    let table = graph.builder.table_f16(&name, &[1, 1, tokens, context], &values)?;
    let mask = graph.builder.add(mask, table)?;
    graph.builder.end_scope();
    Ok(mask)
}

/// The mask of a window: a token sees itself and the `window - 1` before it.
///
/// A row whose token stands at p sees the column c in `causal` where c <= p, and in a window where
/// also c > p - window: column c is out of its sight exactly where it sees column c + window. So the
/// window's mask is the causal one, shifted and inverted. That is slices at fixed places and a few
/// products: positions, which the Neural Engine does not reckon with, do not occur. Columns that
/// have none `window` further on are never out of sight.
fn of_window(graph: &mut Graph<'_>, causal: Var, window: u64) -> Result<Var> {
    let (tokens, context) = (int32(graph.tokens)?, int32(graph.spec.context)?);
    let length = int32(window)?;
    graph.builder.scope(&format!("window_{window}_mask"));
    let builder = &mut graph.builder;
    // 1 where a row sees a column, 0 where the mask is minus infinity.
    let seen = builder.exp(causal)?;
    let end = [1, 1, tokens, context];
    let whole = [true, true, true, true];
    let ahead = builder.slice_by_index(seen, &[0, 0, 0, length], &end, &[], &whole)?;
    let low = builder.scalar_f16(OUT_OF_SIGHT)?;
    let behind = builder.mul(ahead, low)?;
    let end = [1, 1, tokens, length];
    let first = builder.slice_by_index(seen, &[0; 4], &end, &[], &[true, true, true, false])?;
    let zero = builder.scalar_f16(0.0)?;
    let rest = builder.mul(first, zero)?;
    let hidden = builder.concat(&[behind, rest], -1)?;
    let mask = builder.add(causal, hidden)?;
    graph.builder.end_scope();
    Ok(mask)
}

/// The same, in steps that are right for every context, shorter ones than the window too: such a function stands
/// for those of all contexts. The causal mask goes on for a window's length, in which no row sees anything; from
/// there on it is what is shifted.
fn of_window_in_any_context(graph: &mut Graph<'_>, causal: Var, window: u64) -> Result<Var> {
    let (tokens, context) = (int32(graph.tokens)?, graph.spec.context);
    graph.builder.scope(&format!("window_{window}_mask"));
    let builder = &mut graph.builder;
    // 1 where a row sees a column, 0 where it does not.
    let seen = builder.exp(causal)?;
    let whole = [true, true, true, false];
    let first = builder.slice_by_index(seen, &[0; 4], &[1, 1, tokens, 1], &[], &whole)?;
    let zero = builder.scalar_f16(0.0)?;
    let nothing = builder.mul(first, zero)?;
    let nothing = builder.tile(nothing, &[1, 1, 1, int32(window)?])?;
    let longer = builder.concat(&[seen, nothing], -1)?;
    let begin = [0, 0, 0, int32(window)?];
    let end = [1, 1, tokens, int32(context.saturating_add(window))?];
    let ahead = builder.slice_by_index(longer, &begin, &end, &[], &[true; 4])?;
    let low = builder.scalar_f16(OUT_OF_SIGHT)?;
    let hidden = builder.mul(ahead, low)?;
    let mask = builder.add(causal, hidden)?;
    graph.builder.end_scope();
    Ok(mask)
}
