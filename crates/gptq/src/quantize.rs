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

/// One pass with errors passed on. Turns after it follow the calibration's text more than the model
/// where tokens are few.
impl Default for Method {
    fn default() -> Self {
        Self { feedback: 1, rounds: 0, passes: 0 }
    }
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
    for _ in 0..method.rounds {
        state.measure();
        entries::improve(&mut state);
        state.measure();
        for _ in 0..method.passes {
            if descent::improve(&mut state) == 0 {
                break;
            }
        }
    }
    Ok(state.finish(values))
}
