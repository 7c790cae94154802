//! Calibration: what the weights of a model are multiplied with, as a text shows it.
//!
//! A model runs a text ([`Corpus`]) through its evaluation functions in 16-bit floats; a
//! [`Collector`] sees the inputs of every matrix and adds up their squares, or the products of every
//! two of them. What comes of it is a file of [`Statistics`], by which a quantizer knows which errors
//! of a weight matter. The same file keeps what the original model says of a text that was not used
//! ([`Judge`]), by which a conversion is judged.

mod checkpoint;
mod collector;
mod corpus;
mod file;
mod judge;
mod passes;
mod run;
mod saved;
mod statistics;
mod taps;

pub use collector::{Collector, Kind};
pub use corpus::{Corpus, Piece, built_in_sha256};
pub use file::{Provenance, refuse_unwritable};
pub use judge::{Judge, Quality};
pub use passes::{needed, passes};
pub use run::{CHECKPOINT, Calibration, Progress, calibrate};
pub use statistics::Statistics;
pub use taps::{Taps, WeightNames};
