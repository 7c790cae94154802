//! The host: command line, plugins, the pipeline from a model directory to packages, evaluation.
//!
//! No model, quantizer, layout or runtime is known here; all of that is in plugins.

pub mod arrays;
pub mod chat_template;
pub mod cli;
pub mod commands;
pub mod component_options;
pub mod conversation;
pub mod convert;
pub mod engine;
pub mod error;
pub mod evaluation;
pub mod generation;
pub mod machine;
pub mod meta;
pub mod model_files;
pub mod model_source;
pub mod observation;
pub mod panics;
pub mod perplexity;
pub mod plugins;
pub mod progress;
pub mod quantizer_arguments;
pub mod sampling;
pub mod services;
pub mod sizes;
pub mod terminal;

pub use anemll_tokenizer as tokenizer;
