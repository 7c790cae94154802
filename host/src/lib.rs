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

pub use anemll_generation::{
    arrays, chat_template, conversation, engine, evaluation, generation, observation, perplexity,
    sampling,
};
pub use anemll_pipeline::{model_files, model_source, plugins, sizes};
pub use anemll_services as services;
pub use anemll_terminal as terminal;
pub use anemll_tokenizer as tokenizer;
