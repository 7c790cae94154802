//! Packages on disk, written and read.
//! One program: linking each file by itself takes longer than running it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blob;
mod package;
mod validated;
