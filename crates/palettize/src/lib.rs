//! Look-up tables for weights by exact one-dimensional k-means.
//!
//! - [`clusters`] splits sorted values with weights into the clusters with the least sum of squared
//!   errors: the global optimum, not the result of a descent.
//! - [`palettize`], and [`Palettizer`] for a group at a time, give a matrix of 16-bit floats one
//!   table per group of rows and an index per element.
//! - [`palettize_vectors`] gives it one table of vectors, each of which stands for neighbouring rows.
//! - [`pack`] and [`unpack`] are the bit packing of indices in weight files.
//!
//! Nothing here reads files, starts threads or depends on anything but its arguments: equal input
//! gives equal bytes.

mod cluster;
mod coarse;
mod lanes;
mod layered;
mod pack;
mod palette;
mod penalised;
mod prefix;
mod search;
mod vectors;
mod widest;

pub use cluster::clusters;
pub use pack::{pack, packed_length, unpack};
pub use palette::{GroupError, Palette, Palettizer, palettize};
pub use vectors::{Nearest, VectorPalette, palettize_vectors, vector_entries};

/// Numbers of bits that an index can have.
pub const BITS: [u32; 6] = [1, 2, 3, 4, 6, 8];

/// Why there is no palette.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PaletteError {
    /// Not one of [`BITS`].
    #[error("indices of {0} bits do not exist; there are 1, 2, 3, 4, 6 and 8 bits")]
    Bits(u32),
    /// The sizes of the arguments do not fit each other, or are zero or too large.
    #[error("{0}")]
    Size(String),
    /// A value is NaN or infinite.
    #[error("the value at row {row}, column {column} is {value}")]
    NotFinite {
        /// Its row in what was given.
        row: usize,
        /// Its column.
        column: usize,
        /// `NaN`, `inf` or `-inf`.
        value: f32,
    },
    /// An importance is negative, NaN or infinite.
    #[error("the importance of column {column} is {value}, which is not a number of at least zero")]
    Importance {
        /// The column.
        column: usize,
        /// The importance.
        value: f32,
    },
    /// Values to be clustered are not finite and strictly ascending, or a weight is not a finite
    /// number above zero.
    #[error("element {0} is out of order, or it or its weight is not a proper number")]
    Element(usize),
}
