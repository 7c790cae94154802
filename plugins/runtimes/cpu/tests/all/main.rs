//! Packages run by the plugin as a host runs them.
//! One program: linking each file by itself takes longer than running it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod conformance;
mod packed;
mod reference_packages;
mod session;
mod wide;
