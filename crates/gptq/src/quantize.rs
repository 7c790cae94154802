//! The whole way from weights to tables and indices.

use crate::state::{Quantized, State};
use crate::{GptqError, Moments, descent, entries};
use anemll_palettize::palettize;
use half::f16;

/// What is done after the first tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// How often indices are chosen with the errors of earlier ones passed on (GPTQ), each time but
    /// the last followed by better entries for what was asked of them; 0 takes the nearest entries.
    pub feedback: u32,
    /// Turns of entries by least squares and indices by coordinate descent (LNQ).
    pub rounds: u32,
    /// Passes over all indices in each of these turns.
    pub passes: u32,
}

impl Method {
    /// One pass with errors passed on.
    pub const GPTQ: Self = Self { feedback: 1, rounds: 0, passes: 0 };
    /// The same, and then entries and indices in two turns.
    pub const LNQ: Self = Self { feedback: 1, rounds: 2, passes: 1 };
}

/// Tables and indices for `values` (row by row, whole groups of `group_rows` rows), whose inputs
/// have these second moments. The result depends on the values, not on how a matrix is cut into
/// pieces, up to the rounding of sums of products.
///
/// # Errors
/// [`GptqError::Size`] or [`GptqError::Palette`].
pub fn quantize(
    values: &[f16],
    group_rows: usize,
    bits: u32,
    moments: &Moments,
    method: Method,
) -> Result<Quantized, GptqError> {
    let columns = moments.columns();
    let first = palettize(values, columns, group_rows, bits, Some(moments.importance()))?;
    let mut state = State::new(values, group_rows * columns, &first, moments);
    for turn in 1..=method.feedback {
        let asked = state.feed_back();
        if turn < method.feedback {
            state.follow(&asked);
        }
    }
    if method.rounds > 0 {
        state.measure();
    }
    for _ in 0..method.rounds {
        entries::improve(&mut state);
        for _ in 0..method.passes {
            if descent::improve(&mut state) == 0 {
                break;
            }
        }
    }
    Ok(state.finish(values))
}
