//! Tables beside those of independent programs.
//! One program: linking each file by itself takes longer than running it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod exact;
mod palettes;
mod vectors;
