//! `calibrate`: what the weights of a model are multiplied with, for better palettes.

use crate::arguments::{ModelArgument, OriginalArguments, count};
use crate::progress::{Display, Reporter};
use anemll_calibration::{CHECKPOINT, Counting, Kind};
use anemll_pipeline::calibrate::{CalibrateRequest, calibrate};
use anemll_pipeline::model_source::{Need, Source};
use anemll_pipeline::original::OriginalRequest;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::Result;
use anemll_services as services;
use clap::Args;
use std::path::PathBuf;

/// Examples for the help.
pub const EXAMPLES: &str = "Examples:
  anemll calibrate ./SmolLM2-135M -o stats.safetensors
  anemll calibrate ./SmolLM2-135M -o stats.safetensors --hessian --tokens 32768 --text a.txt b.txt
  anemll convert ./SmolLM2-135M -o ./out --lut 4 --calibration stats.safetensors

`convert` calibrates by itself. Do it beforehand to use texts of your own, or more of them.";

/// What can be typed.
#[derive(Debug, Args)]
pub struct CalibrateArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgument,
    /// File of statistics to write.
    #[arg(short, long, value_name = "STATS")]
    pub output: PathBuf,
    /// Texts to run instead of the built-in one; best are texts like those that the model will be used
    /// for.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// The texts are what users say: each goes through the model's chat template. A file in JSON is a
    /// list of conversations, each a list of {role, content}.
    #[arg(long, requires = "text")]
    pub chat: bool,
    /// Also run the built-in text: texts of several kinds make better statistics than more of one.
    #[arg(long, requires = "text")]
    pub built_in: bool,
    /// Also run the model's own answers to this many built-in questions.
    #[arg(long = "self", value_name = "N", default_value_t = 0)]
    pub own_answers: usize,
    /// Run at most this many tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 16384, value_parser = count)]
    pub tokens: u64,
    /// Record the product of every two inputs, not only squares, so that one weight can make up for
    /// the error of another.
    #[arg(long)]
    pub hessian: bool,
    /// Memory in MB that these products may take; default: half of what is free.
    #[arg(long, value_name = "MB", value_parser = count)]
    pub memory: Option<u64>,
    /// Tokens of a window of text; each window begins anew.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = count)]
    pub context: u64,
    /// How the model is run.
    #[command(flatten)]
    pub original: OriginalArguments,
}

/// Runs the command.
pub fn run(arguments: &CalibrateArguments, plugins: &Plugins) -> Result<()> {
    let reporter = Reporter::new(Display::Lines);
    let show = |event: &anemll_pipeline::event::Event<'_>| reporter.show(event);
    let source = Source::open(&arguments.model, Need::Weights, &show)?;
    let request = CalibrateRequest {
        original: OriginalRequest {
            model: source.whole(&show)?,
            context: arguments.context,
            arch: arguments.original.arch.clone(),
            head: arguments.original.head.map(Into::into),
            options: Vec::new(),
            source_sha256: None,
            runtime: arguments.original.runtime.clone(),
            scratch: arguments.original.scratch.clone(),
        },
        texts: arguments.text.clone(),
        chat: arguments.chat,
        built_in: arguments.built_in,
        tokens: arguments.tokens,
        kind: if arguments.hessian { Kind::Products } else { Kind::Squares },
        counting: Counting::ByEffect,
        own_answers: arguments.own_answers,
        memory: arguments.memory.map(|megabytes| megabytes.saturating_mul(1_000_000)),
        squares_where_products_are_too_large: false,
        checkpoint: CHECKPOINT,
        output: arguments.output.clone(),
    };
    let host = services::host();
    let made = calibrate(&request, plugins, &host, &show)?;
    drop(reporter);
    let tokens = made.provenance.tokens;
    if made.available < arguments.tokens {
        super::say(&format!(
            "note: the texts have {} tokens, fewer than the {} of --tokens",
            made.available, arguments.tokens
        ));
    }
    super::print(&format!(
        "{tokens} tokens in {:.1} s ({:.0} tokens/s): statistics in {}\n",
        made.seconds,
        tokens as f64 / made.seconds.max(1e-9),
        arguments.output.display()
    ))
}
