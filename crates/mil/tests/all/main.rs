//! What MIL programs are, read, written, checked and joined.
//! One program: linking each file by itself takes longer than running it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod combine;
mod common;
mod mutations;
mod mutations_weights;
mod reference_models;
mod round_trip;
mod text_flexible;
mod text_forms;
mod text_literals;
mod text_pairs;
mod text_reading;
