//! `convert`: from a model directory to packages.

use crate::arguments::{
    GoalArguments, HeadArgument, ModelArgument, PALETTIZATION, QuantizerArguments, count,
};
use crate::command_line::command_line;
use crate::progress::{Display, Event, Reporter};
use anemll_pipeline::plugins::Plugins;
use anemll_pipeline::request::{CalibrationChoice, ChunkCount, ConvertRequest, ModelTask};
use anemll_plugin_api::Result;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll convert ./SmolLM2-135M -o ./out
  anemll convert ./SmolLM2-135M -o ./out --dry-run
  anemll convert ./SmolLM2-135M -o ./out --combiner monolithic --context 1024
  anemll convert ./SmolLM2-135M -o ./out --chunk 4 --lut2 6 --lut3 8
  anemll convert ./SmolLM2-135M -o ./out --lut none
  anemll --plugin ./libllama.so convert ./SmolLM2-135M -o ./out --restart 5
  anemll convert ./SmolLM2-135M -o ./bundle --combiner coreai-bundle --contexts 256,512
  anemll convert Qwen/Qwen3-0.6B -o ./qwen";

const STEPS: &str = "Steps";

/// What can be typed.
#[derive(Debug, Args)]
pub struct ConvertArguments {
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub model: ModelArgument,
    /// Directory for the packages; created if it does not exist.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// What the model gives: text, or vectors of texts (the default where it has modules.json).
    #[arg(long, value_name = "generate|embed")]
    pub task: Option<ModelTask>,
    /// Context length in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = count)]
    pub context: u64,
    /// Tokens that one call of `prefill` takes.
    #[arg(long, value_name = "TOKENS", default_value_t = 64, value_parser = count)]
    pub batch: u64,
    /// What the caches of layers with a sliding window hold: the whole context, or a ring of the last
    /// positions.
    #[arg(long, value_name = "full|ring", default_value = "full", value_parser = ["full", "ring"])]
    pub window_cache: String,
    /// Contexts that there are functions for, in place of --context; for a combiner with the option
    /// `contexts`.
    #[arg(long, value_name = "TOKENS,…", value_delimiter = ',', value_parser = count, conflicts_with = "context")]
    pub contexts: Vec<u64>,
    /// Numbers of tokens that functions take, in place of --batch; for a combiner with the option
    /// `queries`.
    #[arg(long, value_name = "TOKENS,…", value_delimiter = ',', value_parser = count, conflicts_with = "batch")]
    pub queries: Vec<u64>,
    /// How the model is cut into packages: the id of a combiner plugin; auto: by size.
    #[arg(long, value_name = "ID", default_value = "auto")]
    pub combiner: String,
    /// Number of chunks that the layers are divided into, or auto; for a combiner with the option
    /// `chunks`.
    #[arg(long, value_name = "N|auto")]
    pub chunk: Option<ChunkCount>,
    /// Largest weight file in MB for `--chunk auto` and `--combiner auto`.
    #[arg(long, value_name = "MB", default_value_t = 950, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_chunk_mb: u32,
    /// First part of the file names; default by architecture.
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,
    /// Let the model return the index of the largest logit of each piece instead of the logits.
    #[arg(long)]
    pub argmax: bool,
    /// Also a function that takes N tokens and gives the logits of each: chat, generate and serve then
    /// guess tokens and verify N at once.
    #[arg(long, value_name = "N", value_parser = count)]
    pub verify: Option<u64>,
    /// Pieces that the output head is split into; default by architecture.
    #[arg(long, value_name = "N", value_parser = count)]
    pub split_lm_head: Option<u64>,
    /// Which weight the head has, where it is tied to the embedding and another one is stored.
    #[arg(long, value_name = "HEAD", value_enum)]
    pub head: Option<HeadArgument>,
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub quantizer: QuantizerArguments,
    /// Statistics that tell the quantizer which errors matter: a file made by `anemll calibrate`; auto:
    /// run a built-in text through the model first; or none.
    #[arg(long, value_name = "STATS|auto|none", default_value = "auto", help_heading = PALETTIZATION)]
    pub calibration: CalibrationChoice,
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub goal: GoalArguments,
    /// Architecture to use, where several accept the model.
    #[arg(long, value_name = "ID")]
    pub arch: Option<String>,
    /// Compiler backend for the .mlmodelc step, or `none`; default: what the combiner needs, else
    /// coremlcompiler where it can run, else mlmodelc.
    #[arg(long, value_name = "ID")]
    pub compiler: Option<String>,
    /// Runtime for the test step, or `none`.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Do not compare with the original model in the test step.
    #[arg(long)]
    pub skip_quality: bool,
    /// Clamp finite weights beyond the range of 16-bit floats to ±65504 instead of refusing them.
    #[arg(long)]
    pub clamp: bool,
    /// Put zeros in place of weights that the model directory lacks, with a warning.
    #[arg(long)]
    pub allow_missing_weights: bool,
    /// Convert a model directory without a tokenizer, or with a broken one.
    #[arg(long)]
    pub no_tokenizer: bool,
    /// Do step N and all later ones again, from what the earlier ones made.
    #[arg(long, value_name = "N", help_heading = STEPS, conflicts_with = "only")]
    pub restart: Option<u32>,
    /// Do only step N.
    #[arg(long, value_name = "N", help_heading = STEPS)]
    pub only: Option<u32>,
    /// Say what would be made, and how much disk and memory it takes; write nothing.
    #[arg(long, help_heading = STEPS)]
    pub dry_run: bool,
    /// Do not look first whether the disk has room for the packages.
    #[arg(long, help_heading = STEPS)]
    pub skip_check: bool,
    /// Do everything again, and replace the conversion of another model or with other options.
    #[arg(long, help_heading = STEPS)]
    pub force: bool,
    /// How to tell what happens: lines on standard error, or JSON objects on standard output.
    #[arg(long, value_enum, default_value_t = ProgressForm::Lines)]
    pub progress: ProgressForm,
    /// The same as --progress json; with --dry-run one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How events are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// Lines for people, with a bar on a terminal and a line every ten seconds elsewhere.
    Lines,
    /// One JSON object for each event.
    Json,
}

impl ConvertArguments {
    /// Whether JSON is asked for.
    pub fn wants_json(&self) -> bool {
        self.json || self.progress == ProgressForm::Json
    }

    /// How events are shown.
    pub fn display(&self) -> Display {
        if self.wants_json() { Display::Json } else { Display::Lines }
    }
}

impl From<&ConvertArguments> for ConvertRequest {
    fn from(typed: &ConvertArguments) -> Self {
        Self {
            model: typed.model.to_owned(),
            output: typed.output.clone(),
            task: typed.task,
            context: typed.contexts.iter().copied().max().unwrap_or(typed.context),
            batch: typed.queries.iter().copied().max().unwrap_or(typed.batch),
            contexts: typed.contexts.clone(),
            queries: typed.queries.clone(),
            combiner: typed.combiner.clone(),
            chunk: typed.chunk,
            max_chunk_mb: typed.max_chunk_mb,
            prefix: typed.prefix.clone(),
            argmax: typed.argmax,
            verify: typed.verify,
            split_lm_head: typed.split_lm_head,
            head: typed.head.map(Into::into),
            quantizer: typed.quantizer.with_window_cache(&typed.window_cache),
            calibration: typed.calibration.clone(),
            goal: (&typed.goal).into(),
            decided: None,
            kept: None,
            arch: typed.arch.clone(),
            compiler: typed.compiler.clone(),
            runtime: typed.runtime.clone(),
            skip_quality: typed.skip_quality,
            clamp: typed.clamp,
            allow_missing_weights: typed.allow_missing_weights,
            no_tokenizer: typed.no_tokenizer,
            restart: typed.restart,
            only: typed.only,
            skip_check: typed.skip_check,
            force: typed.force,
        }
    }
}

/// Runs the command.
pub fn run(arguments: &ConvertArguments, plugins: &Plugins) -> Result<()> {
    let reporter = Reporter::new(arguments.display());
    // With --dry-run the plan is all that is printed on standard output.
    let silent = arguments.dry_run && arguments.wants_json();
    let show = |event: &Event<'_>| {
        if !silent || !matches!(event, Event::Source { .. }) {
            reporter.show(event);
        }
    };
    let request = ConvertRequest::from(arguments);
    if !arguments.dry_run {
        return anemll_pipeline::run(&request, plugins, &command_line(), &show);
    }
    let plan = anemll_pipeline::dry_run(&request, plugins, &show)?;
    drop(reporter);
    if arguments.wants_json() {
        return super::print_json(&plan);
    }
    super::print(&anemll_terminal::plain_lines(&plan.to_text()))
}
