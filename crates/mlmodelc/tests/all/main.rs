//! Compiled models beside those of Apple's compiler, and what is refused.
//! One program: linking each file by itself takes longer than running it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod common;
mod golden;
mod pairs;
