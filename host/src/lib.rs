//! The program `anemll`: command line, printing, exit codes. What it does stands in the crates that it
//! calls.

pub mod arguments;
pub mod cli;
pub mod command_line;
pub mod commands;
pub mod error;
pub mod panics;
pub mod progress;

// A crate that nothing names is not linked.
#[cfg(feature = "builtin")]
use anemll_shipped as _;
