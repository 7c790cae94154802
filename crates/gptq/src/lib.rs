//! Look-up tables and indices of a matrix that keep its products.
//!
//! A weight matrix `W` (`[out, in]`) multiplies inputs `x` whose second moments `H = E[x xᵀ]` are
//! known from a calibration. What a model feels of another matrix `Q` in its place is
//! `E|(W - Q) x|² = tr((W - Q) H (W - Q)ᵀ)`, here called the *loss*, not the distance of the
//! elements. [`quantize`] looks for tables (one for each group of rows) and indices with a small
//! loss:
//!
//! 1. tables by k-means, each column weighted by what an error in it costs once the others have made
//!    up for it (`anemll-palettize`);
//! 2. indices column by column, each error passed on to the columns that are still to come (GPTQ,
//!    Frantar et al. 2022, arXiv 2210.17323), in the form of successive cancellation by a Cholesky
//!    factor, the columns with the largest moments first;
//! 3. in turns, entries by least squares for the given indices, and indices by coordinate descent
//!    for the given entries (LNQ, Kim et al. 2025, arXiv 2505.07004). Both can only
//!    lower the loss; entries are rounded to float16 at the end.
//!
//! [`quantize_vectors`] does the first two with one table of vectors.
//!
//! No I/O. [`quantize`] takes one thread: the caller gives pieces of whole groups to as many as it
//! likes. [`ProductSums`] adds second moments up on all of them.

mod descent;
mod entries;
mod inverse;
mod matrix;
mod moments;
mod quantize;
mod state;
mod sums;
mod vectors;

pub use moments::Moments;
pub use quantize::{Method, quantize};
pub use state::Quantized;
pub use sums::ProductSums;
pub use vectors::quantize_vectors;

/// What can be wrong with a request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GptqError {
    /// Sizes that do not fit each other.
    #[error("{0}")]
    Size(String),
    /// A second moment that is none: not finite, or negative on the diagonal.
    #[error("the second moment of the inputs {row} and {column} is {value}")]
    Moment {
        /// First input.
        row: usize,
        /// Second input.
        column: usize,
        /// What stands there.
        value: f32,
    },
    /// The second moments cannot be those of any inputs, whatever is added to their diagonal.
    #[error("the second moments are those of no inputs: the matrix is not positive")]
    NotPositive,
    /// The first tables cannot be made.
    #[error(transparent)]
    Palette(#[from] anemll_palettize::PaletteError),
}
