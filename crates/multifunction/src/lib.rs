//! Packages that already exist, joined into one with several functions, or taken apart.
//!
//! [`JoinPlan::combine`] opens packages of any tool, finds out which of their weights are the same, and
//! joins their functions; [`JoinPlan::write`] copies each weight once. Nothing is written before the
//! result has passed the validator. [`JoinPlan::split`] takes one function out, [`compare`] only looks.
//!
//! Two weights are the same *exactly* (type and bytes, whatever the name), *semantically* (palettes
//! and indices that differ but decode to the same values), or, only when a [`Tolerance`] is given,
//! *approximately*. Weights are read in pieces: memory does not grow with them.

mod approximate;
mod error;
mod exact;
mod lut;
mod metadata;
mod parts;
mod plan;
mod report;
mod rewrite;
mod semantic;
mod sharing;
mod store;

pub use approximate::{Difference, Tolerance};
pub use error::{Error, Result};
pub use parts::PartsCheck;
pub use plan::{Done, JoinPlan, Options, Output, Source, compare};
pub use report::{InputReport, Report, Sharing, TensorReport, Totals};

/// Asked between pieces of work; an answer of `true` ends it with [`Error::Cancelled`].
pub type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// Bytes that are read at a time, by each thread.
pub(crate) const PIECE: usize = 1 << 17;

pub(crate) fn check(cancelled: Cancelled<'_>) -> Result<()> {
    if cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}
