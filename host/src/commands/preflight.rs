//! `preflight`: what a model's activations reach, before they are rounded to 16-bit floats.
//!
//! The model is converted to 16-bit packages in a temporary folder. A prompt then goes through
//! their evaluation functions twice: with activations in f32, where the largest value of every
//! operation is noted, and rounded to float16 as on the Neural Engine.

use crate::arguments::{ModelArgument, OriginalArguments, count};
use crate::progress::{Bar, Display, Event, Reporter, Unit};
use anemll_codes as codes;
use anemll_generation::engine::Engine;
use anemll_generation::evaluation::read_tokens;
use anemll_generation::findings::WeightFinding;
use anemll_generation::range;
use anemll_huggingface::ConfigFile;
use anemll_pipeline::model_source::{Need, Source};
use anemll_pipeline::plugins::Plugins;
use anemll_pipeline::request::ConvertRequest;
use anemll_pipeline::scratch;
use anemll_plugin_api::{ComponentOptions, Error, Result};
use anemll_services as services;
use anemll_terminal as terminal;
use anemll_tokenizer::Tokenizer;
use clap::Args;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Examples for the help.
pub const EXAMPLES: &str = "Examples:
  anemll preflight ./Qwen3-0.6B --prompt-file prompt.txt
  anemll preflight ./Qwen3-0.6B --tokens ids.npy --json
  anemll preflight ./Qwen3-0.6B --tokens ids.npy --strict

Exit code 0 whatever is found, 1 when the model could not be run. With --strict also 1 when a
weight or a value is beyond the range of 16-bit floats, or logits are not numbers; a value near
it does not count.";

/// Batches to choose from: one that is no size of the model tells which axis counts tokens.
const BATCHES: [u64; 7] = [64, 96, 160, 32, 224, 48, 61];
/// What can be typed.
#[derive(Debug, Args)]
pub struct PreflightArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgument,
    /// Text to run, tokenized by the model's tokenizer.
    #[arg(long, value_name = "FILE", required_unless_present = "tokens")]
    pub prompt_file: Option<PathBuf>,
    /// Token ids to run instead of a text: a .npy array of integers.
    #[arg(long, value_name = "IDS.npy", conflicts_with = "prompt_file")]
    pub tokens: Option<PathBuf>,
    /// Largest number of tokens to run.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = count)]
    pub context: u64,
    /// How it is run.
    #[command(flatten)]
    pub original: OriginalArguments,
    /// Exit with code 1 when something is beyond the range of 16-bit floats.
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &PreflightArguments, plugins: &Plugins) -> Result<()> {
    let unrounded = ComponentOptions::new().with("activations", "float32");
    let wide = plugins.runtime_with(&arguments.original.runtime, &unrounded)?;
    let narrow = plugins.exact_runtime(&arguments.original.runtime)?;
    let reporter = Reporter::new(Display::Lines);
    // Bars alone: what the conversion says is of no use here.
    let bars = |event: &Event<'_>| {
        if event.line().is_none() {
            reporter.show(event);
        }
    };
    let model = find_model(arguments, plugins, &bars)?;
    let tokens = tokens(arguments, &model)?;
    let place = arguments.original.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let folder = scratch::folder(&place, "anemll-preflight-")?;
    let batch = batch(arguments, &model)?;
    convert(arguments, plugins, &model, folder.path(), batch, &bars)?;
    drop(reporter);
    let weights = weight_findings(&folder.path().join(anemll_pipeline::REPORT))?;

    let host = services::host();
    let meta = folder.path().join(anemll_conversion::META);
    let mut exact = Engine::open(&meta, wide.as_ref(), &host)?;
    let mut rounded = Engine::open(&meta, narrow.as_ref(), &host)?;
    if let Some(vocabulary) = exact.vocabulary()
        && let Some(token) = tokens.iter().find(|token| u64::from(**token) >= vocabulary)
    {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("token id {token} is beyond the model's vocabulary of {vocabulary}"),
        ));
    }
    let bar = Bar::new("running", tokens.len() as u64, Unit::Count("tokens"));
    let findings = range::run([&mut exact, &mut rounded], &tokens, weights, &|done| bar.set(done))?;
    drop(bar);
    if arguments.json {
        super::print_json(&findings)?;
    } else {
        super::print(&findings.text(terminal::width()))?;
    }
    match findings.beyond() {
        0 => Ok(()),
        _ if !arguments.strict => Ok(()),
        count => Err(Error::new(
            codes::PREFLIGHT_FOUND,
            format!(
                "--strict: {count} finding{} beyond the range of 16-bit floats",
                if count == 1 { "" } else { "s" }
            ),
        )),
    }
}

/// The model's directory: of a model of the hub, the weights are downloaded when the configuration
/// is fine.
fn find_model(
    arguments: &PreflightArguments,
    plugins: &Plugins,
    show: &dyn Fn(&Event<'_>),
) -> Result<PathBuf> {
    let source = Source::open(&arguments.model, Need::Weights, show)?;
    let config = ConfigFile::read(source.directory())?;
    plugins.frontend(
        config.text(),
        arguments.original.arch.as_deref(),
        &ComponentOptions::new(),
    )?;
    source.whole(show)
}

/// The tokens to run, cut to the context.
fn tokens(arguments: &PreflightArguments, model: &Path) -> Result<Vec<u32>> {
    let mut tokens = match (&arguments.tokens, &arguments.prompt_file) {
        (Some(path), _) => read_tokens(path)?,
        (None, Some(path)) => {
            let text = fs_err::read_to_string(path).map_err(|source| {
                Error::new(codes::EVALUATION_INPUT, format!("the prompt cannot be read: {source}"))
                    .with_at(path.display().to_string())
            })?;
            Tokenizer::open(model)?.encode(&text, true)?
        }
        (None, None) => Vec::new(),
    };
    if tokens.is_empty() {
        return Err(Error::new(codes::EVALUATION_INPUT, "no tokens to run")
            .with_hint("give a text with --prompt-file, or ids with --tokens"));
    }
    if tokens.len() as u64 > arguments.context {
        super::say(&format!(
            "note: the first {} of {} tokens are run; more with --context",
            arguments.context,
            tokens.len()
        ));
        tokens.truncate(arguments.context as usize);
    }
    Ok(tokens)
}

/// A batch that is none of the model's sizes.
fn batch(arguments: &PreflightArguments, model: &Path) -> Result<u64> {
    let directory = anemll_huggingface::ModelDirectory::open(model)?;
    let mut sizes: Vec<u64> = Vec::new();
    for info in directory.tensors().values() {
        sizes.extend(&info.shape);
    }
    let config = directory.config().as_object();
    sizes.extend(config.into_iter().flatten().filter_map(|(_, value)| value.as_u64()));
    // Norms see [x, -x].
    let doubled: Vec<u64> = sizes.iter().map(|size| size.saturating_mul(2)).collect();
    let free = |batch: &&u64| {
        **batch <= arguments.context && !sizes.contains(batch) && !doubled.contains(batch)
    };
    Ok(BATCHES.iter().find(free).copied().unwrap_or(arguments.context.min(BATCHES[0])))
}

/// Converts in 16-bit floats, with weights beyond them clamped: they are a finding, not an error.
fn convert(
    arguments: &PreflightArguments,
    plugins: &Plugins,
    model: &Path,
    output: &Path,
    batch: u64,
    show: &dyn Fn(&Event<'_>),
) -> Result<()> {
    super::say("converting to 16-bit floats in a temporary folder");
    let request = ConvertRequest {
        context: arguments.context,
        batch,
        head: arguments.original.head.map(Into::into),
        arch: arguments.original.arch.clone(),
        ..ConvertRequest::unquantized(model, output)
    };
    anemll_pipeline::run(&request, plugins, "anemll preflight", show)
}

/// What the conversion's report says of weights beyond float16.
fn weight_findings(report: &Path) -> Result<Vec<WeightFinding>> {
    let text = fs_err::read_to_string(report)
        .map_err(|source| Error::new(codes::INTERNAL, format!("no report: {source}")))?;
    let report: Value = serde_json::from_str(&text)
        .map_err(|source| Error::new(codes::INTERNAL, format!("no report: {source}")))?;
    let files = report["weight_files"].as_array().into_iter().flatten();
    let weights = files.flat_map(|file| file["weights"].as_array().into_iter().flatten());
    Ok(weights
        .filter_map(|weight| {
            let clamped = weight["clamped"].as_u64().filter(|count| *count > 0)?;
            Some(WeightFinding { tensor: weight["tensor"].as_str()?.to_owned(), clamped })
        })
        .collect())
}
