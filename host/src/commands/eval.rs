//! `eval`: how far a conversion is from the original model, or how well it predicts a text.

use crate::arguments::{ConversionArguments, OriginalArguments, count};
use crate::progress::{Bar, Display, Event, Reporter, Unit};
use anemll_codes as codes;
use anemll_conversion::locate;
use anemll_generation::arrays::MOST_ELEMENTS;
use anemll_generation::embedder::gives_vectors;
use anemll_generation::engine::Engine;
use anemll_generation::evaluation::{Reference, read_tokens};
use anemll_generation::perplexity::{EvaluationPath, Score, check_vocabulary, evaluate_text};
use anemll_generation::reference_run::compare_with_reference as run_with_reference;
use anemll_generation::sources::{List, Source, Text};
use anemll_pipeline::compare::{CompareRequest, compare, compare_vectors};
use anemll_pipeline::model_source;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::{Error, Result};
use anemll_report::comparison;
use anemll_report::page::refuse_unwritable;
use anemll_services as services;
use anemll_tokenizer::{TextFile, Tokenizer};
use clap::{ArgGroup, Args, ValueEnum};
use std::cell::Cell;
use std::path::Path;
use std::path::PathBuf;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll eval out4 --model ./SmolLM2-135M
  anemll eval out4 --model ./SmolLM2-135M --text book.txt --html quality.html
  anemll eval out --tokens ids.npy --reference logits.npy
  anemll eval out --tokens ids.npy --reference logits.npy --path prefill --prefill-tokens 125 --json
  anemll eval out --text book.txt --max-tokens 4000
  anemll eval out4 --text book.txt --against out

REFERENCE is a .npy array (float16 or float32, tokens x vocabulary), or a .npz with the arrays
`indices` and `logits` (tokens x K, the K largest) and `logsumexp` (tokens).";

/// Which functions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PathArgument {
    /// Every token through `infer`, one at a time.
    Infer,
    /// The first tokens through `prefill`, the others through `infer`; the latter are compared.
    Prefill,
    /// Every token through the evaluation functions, a batch at a time.
    Evaluate,
}

impl From<PathArgument> for EvaluationPath {
    fn from(path: PathArgument) -> Self {
        match path {
            PathArgument::Infer => Self::Infer,
            PathArgument::Prefill => Self::Prefill,
            PathArgument::Evaluate => Self::Evaluate,
        }
    }
}

/// What can be typed.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("input").required(true).multiple(true).args(["tokens", "text", "model"]))]
pub struct EvalArguments {
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub conversion: ConversionArguments,
    /// The original model, to compare with: its directory, an entry of the Hugging Face cache, or a name
    /// on the hub. All matrices are compared, too.
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["tokens", "against", "path"])]
    pub model: Option<PathBuf>,
    /// LoRA adapter (PEFT directory) that was merged into the model.
    #[arg(long, value_name = "DIR", requires = "model")]
    pub adapter: Option<PathBuf>,
    /// Write a page with plots of the comparison.
    #[arg(long, value_name = "FILE", requires = "model")]
    pub html: Option<PathBuf>,
    /// Memory in MB that products of the matrices' inputs may take; default: half of what is free.
    #[arg(long, value_name = "MB", requires = "model", value_parser = count)]
    pub memory: Option<u64>,
    /// Token ids: a .npy array of integers.
    #[arg(long, value_name = "IDS.npy", conflicts_with = "text")]
    pub tokens: Option<PathBuf>,
    /// Text to measure on, in UTF-8; with --model a built-in one by default, which no calibration uses. Of
    /// a conversion that gives vectors, a text in each line.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Logits of the original model at each token; without it, the perplexity is measured.
    #[arg(long, value_name = "REFERENCE", requires = "tokens", conflicts_with_all = ["text", "against", "max_tokens"])]
    pub reference: Option<PathBuf>,
    /// Another conversion of the model, to compare the distributions with: its directory or meta.yaml.
    #[arg(long, value_name = "OUT")]
    pub against: Option<PathBuf>,
    /// Take only the first N tokens.
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_tokens: Option<u64>,
    /// Which functions to run.
    #[arg(long, value_enum, default_value_t = PathArgument::Evaluate)]
    pub path: PathArgument,
    /// With `--path prefill`: how many tokens go through `prefill` (default: one batch).
    #[arg(long, value_name = "K", requires = "reference", value_parser = count)]
    pub prefill_tokens: Option<u64>,
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub original: OriginalArguments,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &EvalArguments, plugins: &Plugins) -> Result<()> {
    if let Some(model) = &arguments.model {
        return compare_with_original(arguments, model, plugins);
    }
    let original = &arguments.original;
    if original.arch.is_some() || original.head.is_some() || original.scratch.is_some() {
        return Err(Error::new(codes::USAGE, "--arch, --head and --scratch need --model")
            .with_hint("they say how the original model is run: name it, or leave them out"));
    }
    match (&arguments.tokens, &arguments.reference) {
        (Some(tokens), Some(reference)) => {
            compare_with_reference(arguments, tokens, reference, plugins)
        }
        _ => measure_text(arguments, plugins),
    }
}

/// The model itself and every matrix of it, without anything made before.
fn compare_with_original(arguments: &EvalArguments, model: &Path, plugins: &Plugins) -> Result<()> {
    if let Some(page) = &arguments.html {
        refuse_unwritable(page)?;
    }
    let reporter = Reporter::new(Display::Lines);
    let show = |event: &Event<'_>| reporter.show(event);
    let request = CompareRequest {
        meta: arguments.conversion.meta(),
        model: model_source::adapted(model, arguments.adapter.as_deref(), &show)?,
        text: arguments.text.clone(),
        tokens: arguments.max_tokens.unwrap_or(u64::MAX),
        arch: arguments.original.arch.clone(),
        head: arguments.original.head.map(Into::into),
        runtime: arguments.original.runtime.clone(),
        memory: arguments.memory.map(|megabytes| megabytes.saturating_mul(1_000_000)),
        scratch: arguments.original.scratch.clone(),
    };
    if gives_vectors(&request.meta)? {
        if arguments.html.is_some() {
            return Err(Error::new(
                codes::USAGE,
                "--html shows logits, and this conversion gives vectors",
            )
            .with_hint("leave it out; --json has the distance of every text"));
        }
        let found = compare_vectors(&request, plugins, &services::host(), &show)?;
        drop(reporter);
        return match arguments.json {
            true => super::print_json(&found),
            false => super::print(&found.to_text()),
        };
    }
    let found = compare(&request, plugins, &services::host(), &show)?;
    drop(reporter);
    if let Some(page) = &arguments.html {
        super::write_page(page, &comparison::page(&found)?)?;
    }
    if arguments.json {
        return super::print_json(&found);
    }
    super::print(&comparison::text(&found, anemll_terminal::width()))
}

/// The perplexity, and with `--against` the distance from another conversion.
fn measure_text(arguments: &EvalArguments, plugins: &Plugins) -> Result<()> {
    if arguments.path == PathArgument::Prefill {
        return Err(Error::new(codes::USAGE, "--path prefill needs --reference")
            .with_hint("a text runs through `evaluate` or `infer`"));
    }
    let meta = arguments.conversion.meta();
    let most = arguments.max_tokens.unwrap_or(u64::MAX);
    let host = services::host();
    let runtime = plugins.exact_runtime(&arguments.original.runtime)?;
    let mut engine = Engine::open(&meta, runtime.as_ref(), &host)?;
    let mut other = match &arguments.against {
        Some(path) => Some((Engine::open(&locate(path), runtime.as_ref(), &host)?, locate(path))),
        None => None,
    };
    let reference = other.as_mut().map(|(engine, meta)| (engine, meta.display().to_string()));
    let run = |source: &mut dyn Source, at: &Path, progress: &mut dyn FnMut(u64)| {
        evaluate_text(&mut engine, reference, source, arguments.path.into(), progress).map_err(
            |error| {
                if error.at.is_none() { error.with_at(at.display().to_string()) } else { error }
            },
        )
    };
    let evaluation = match (&arguments.tokens, &arguments.text) {
        (Some(path), _) => {
            let mut tokens = read_tokens(path)?;
            tokens.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            let bar = Bar::new("scoring", tokens.len() as u64, Unit::Count("tokens"));
            let mut source = List::new(Vec::new(), tokens);
            run(&mut source, path, &mut |done| bar.set(done))?
        }
        (None, Some(path)) => {
            let tokenizer = Tokenizer::open(meta.parent().unwrap_or_else(|| Path::new("")))?;
            let mut file = TextFile::open(path)?;
            let size = file.size().max(1) as f64;
            let read = Cell::new(0.0);
            let mut source = Text::new(&tokenizer, &mut file, most, &read)?;
            let (total, unit) = match arguments.max_tokens {
                Some(most) => (most, Unit::Count("tokens")),
                None => (size as u64, Unit::Bytes),
            };
            let bar = Bar::new("scoring", total, unit);
            run(&mut source, path, &mut |done| {
                // By whichever ends first, the text or what is asked for.
                let share = (read.get() / size).max(done as f64 / most.max(1) as f64);
                bar.set((share.min(1.0) * total as f64) as u64);
            })?
        }
        (None, None) => {
            return Err(Error::new(codes::USAGE, "eval needs --model, --text or --tokens"));
        }
    };
    if arguments.json {
        return super::print_json(&evaluation);
    }
    let score = |score: &Score| {
        let broken = match score.not_finite {
            0 => String::new(),
            count => format!("\nnot finite       logits of {count} tokens"),
        };
        format!(
            "mean NLL         {:.5} nats\nperplexity       {:.4}{broken}\n",
            score.nll_mean, score.perplexity
        )
    };
    let mut text = format!(
        "tokens           {} in {} windows of up to {}\nscored           {}\n{}",
        evaluation.tokens,
        evaluation.windows,
        evaluation.window_tokens,
        evaluation.scored,
        score(&evaluation.model),
    );
    if let Some(against) = &evaluation.against {
        let apart = &against.distributions;
        text += &format!(
            "\nagainst {}\n{}mean KL          {:.3e}\n99 % below       {:.3e}\n\
             top-1 agreement  {:.2} %\ntop-5 agreement  {:.2} %\n",
            against.meta,
            score(&against.reference),
            apart.kl_mean,
            apart.kl_p99,
            apart.top1_agreement * 100.0,
            apart.top5_agreement * 100.0
        );
    }
    super::print(&text)
}

fn compare_with_reference(
    arguments: &EvalArguments,
    tokens_path: &Path,
    reference_path: &Path,
    plugins: &Plugins,
) -> Result<()> {
    let tokens = read_tokens(tokens_path)?;
    let host = services::host();
    let runtime = plugins.exact_runtime(&arguments.original.runtime)?;
    let mut engine = Engine::open(&arguments.conversion.meta(), runtime.as_ref(), &host)?;
    if tokens.len() as u64 > engine.context() {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("{} tokens do not fit into the context of {}", tokens.len(), engine.context()),
        )
        .with_at(tokens_path.display().to_string())
        .with_hint("give fewer tokens, or convert with a larger --context"));
    }
    check_vocabulary(&engine, &tokens)
        .map_err(|error| error.with_at(tokens_path.display().to_string()))?;
    let vocabulary = engine.vocabulary().unwrap_or(MOST_ELEMENTS / tokens.len().max(1) as u64);
    let reference = Reference::read(reference_path, tokens.len() as u64, vocabulary)?;
    let bar = Bar::new("running", tokens.len() as u64, Unit::Count("tokens"));
    let path = (arguments.path.into(), arguments.prefill_tokens);
    let run = |done| bar.set(done);
    let evaluation = run_with_reference(&mut engine, &tokens, &reference, path, &run)?;
    drop(bar);
    if arguments.json {
        return super::print_json(&evaluation);
    }
    super::print(&format!(
        "positions        {}\ncosine           smallest {:.7}, mean {:.7}\nrelative error   largest {:.3} %\nlargest error    {:.5}\n\
         mean KL          {:.3e}\ntop-1 agreement  {:.2} %\n",
        evaluation.positions,
        evaluation.cosine_min,
        evaluation.cosine_mean,
        evaluation.relative_l2_max * 100.0,
        evaluation.max_abs_error,
        evaluation.kl_mean,
        evaluation.top1_agreement * 100.0
    ))
}
