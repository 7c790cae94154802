//! Calibration: what the weights of a model are multiplied with, as a text shows it.
//!
//! A model runs a text ([`Corpus`]) through its evaluation functions in 16-bit floats; a
//! [`Collector`] sees the inputs of every matrix and adds up their squares, or the products of every
//! two of them. What comes of it is a file of [`Statistics`], by which a quantizer knows which errors
//! of a weight matter. The same file keeps what the original model says of a text that was not used
//! ([`Judge`]), by which a conversion is judged.

mod checkpoint;
mod collector;
mod comparison;
mod corpus;
mod file;
mod flow;
mod judge;
mod matrix_error;
mod passes;
mod run;
mod saved;
mod statistics;
mod sweep;
mod taps;

pub use collector::{Collector, Kind};
pub use comparison::{Comparison, TensorError};
pub use corpus::{Corpus, Piece, built_in_sha256};
pub use file::{Provenance, refuse_unwritable};
pub use judge::{Judge, Quality};
pub use matrix_error::{Inputs, MatrixError};
pub use passes::{kept, needed, passes};
pub use run::{CHECKPOINT, Calibration, Progress, calibrate};
pub use statistics::Statistics;
pub use sweep::{Sweep, SweepRow};
pub use taps::{Counting, Taps, WeightNames};
