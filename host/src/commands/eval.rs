//! `eval`: how far a conversion is from the original model, or how well it foretells a text.

use crate::arguments::{ConversionArguments, count};
use crate::progress::{Bar, Unit};
use anemll_codes as codes;
use anemll_conversion::locate;
use anemll_generation::arrays::MOST_ELEMENTS;
use anemll_generation::engine::{Engine, Head};
use anemll_generation::evaluation::{Position, Reference, read_tokens, summarize};
use anemll_generation::perplexity::{
    EvaluationPath, Score, Source, check_vocabulary, evaluate_text,
};
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::{Error, Result};
use anemll_services::{self as services, check_cancelled};
use anemll_tokenizer::{Pieces, TextFile, Tokenizer};
use clap::{ArgGroup, Args, ValueEnum};
use std::cell::Cell;
use std::path::Path;
use std::path::PathBuf;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
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
#[command(group = ArgGroup::new("input").required(true).args(["tokens", "text"]))]
pub struct EvalArguments {
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub conversion: ConversionArguments,
    /// Token ids: a .npy array of integers.
    #[arg(long, value_name = "IDS.npy")]
    pub tokens: Option<PathBuf>,
    /// Text to measure the perplexity on, in UTF-8.
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
    /// Runtime plugin.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &EvalArguments, plugins: &Plugins) -> Result<()> {
    match (&arguments.tokens, &arguments.reference) {
        (Some(tokens), Some(reference)) => {
            compare_with_reference(arguments, tokens, reference, plugins)
        }
        _ => measure_text(arguments, plugins),
    }
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
    let runtime = plugins.runtime(&arguments.runtime)?;
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
            let mut source = List { tokens, given: 0 };
            run(&mut source, path, &mut |done| bar.set(done))?
        }
        (None, Some(path)) => {
            let tokenizer = Tokenizer::open(meta.parent().unwrap_or_else(|| Path::new("")))?;
            let mut file = TextFile::open(path)?;
            let size = file.size().max(1) as f64;
            let read = Cell::new(0.0);
            let mut source = Text {
                lead: tokenizer.lead()?,
                pieces: Pieces::of_file(&tokenizer, &mut file),
                ready: Vec::new(),
                given: 0,
                left: most,
                read: &read,
            };
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
        (None, None) => return Err(Error::new(codes::USAGE, "eval needs --text or --tokens")),
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
        text += &format!(
            "\nagainst {}\n{}mean KL          {:.3e}\ntop-1 agreement  {:.2} %\n",
            against.meta,
            score(&against.reference),
            against.kl_mean,
            against.top1_agreement * 100.0
        );
    }
    super::print(&text)
}

/// Token ids that are all there.
struct List {
    tokens: Vec<u32>,
    given: usize,
}

impl Source for List {
    fn lead(&self) -> &[u32] {
        &[]
    }

    fn take(&mut self, count: usize) -> Result<Vec<u32>> {
        let rest = &self.tokens[self.given..];
        let part = rest[..count.min(rest.len())].to_vec();
        self.given += part.len();
        Ok(part)
    }
}

/// A text that is tokenized as far as it is needed.
struct Text<'a> {
    lead: Vec<u32>,
    pieces: Pieces<'a>,
    /// Tokens of the last pieces, of which `given` are given out.
    ready: Vec<u32>,
    given: usize,
    /// Tokens that are still asked for.
    left: u64,
    /// Bytes of the text that were given out as tokens.
    read: &'a Cell<f64>,
}

impl Source for Text<'_> {
    fn lead(&self) -> &[u32] {
        &self.lead
    }

    fn take(&mut self, count: usize) -> Result<Vec<u32>> {
        let count = count.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        while self.ready.len() - self.given < count {
            check_cancelled()?;
            let Some(more) = self.pieces.next()? else { break };
            self.ready.drain(..self.given);
            self.given = 0;
            self.ready.extend(more);
        }
        let rest = &self.ready[self.given..];
        let part = rest[..count.min(rest.len())].to_vec();
        // Bytes by the share of tokens: a piece has many of both.
        let waiting = (rest.len() - part.len()) as f64 * BYTES_OF_A_TOKEN;
        self.read.set((self.pieces.bytes() as f64 - waiting).max(0.0));
        self.given += part.len();
        self.left -= part.len() as u64;
        Ok(part)
    }
}

/// About, to say how far a text is read.
const BYTES_OF_A_TOKEN: f64 = 4.0;

fn compare_with_reference(
    arguments: &EvalArguments,
    tokens_path: &Path,
    reference_path: &Path,
    plugins: &Plugins,
) -> Result<()> {
    let tokens = read_tokens(tokens_path)?;
    let host = services::host();
    let runtime = plugins.runtime(&arguments.runtime)?;
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
    let positions = match arguments.path {
        PathArgument::Infer => infer(&mut engine, &tokens, 0, &reference)?,
        PathArgument::Prefill => {
            let count = prefill_count(arguments, &engine, tokens.len())?;
            engine.prefill(&tokens[..count], 0)?;
            infer(&mut engine, &tokens, count, &reference)?
        }
        PathArgument::Evaluate => evaluate(&mut engine, &tokens, &reference)?,
    };
    let evaluation = summarize(positions)?;
    if arguments.json {
        return super::print_json(&evaluation);
    }
    super::print(&format!(
        "positions        {}\ncosine           smallest {:.7}, mean {:.7}\nlargest error    {:.5}\n\
         mean KL          {:.3e}\ntop-1 agreement  {:.2} %\n",
        evaluation.positions,
        evaluation.cosine_min,
        evaluation.cosine_mean,
        evaluation.max_abs_error,
        evaluation.kl_mean,
        evaluation.top1_agreement * 100.0
    ))
}

fn prefill_count(arguments: &EvalArguments, engine: &Engine, tokens: usize) -> Result<usize> {
    let most = tokens.saturating_sub(1) as u64;
    let count = arguments.prefill_tokens.unwrap_or_else(|| engine.batch().min(most));
    if count == 0 || count > most {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!(
                "--prefill-tokens {count}: of {tokens} tokens, 1 to {most} can go through prefill"
            ),
        )
        .with_hint("at least one token is left for infer, whose logits are compared"));
    }
    Ok(count as usize)
}

/// Tokens from `first` on, one at a time.
fn infer(
    engine: &mut Engine,
    tokens: &[u32],
    first: usize,
    reference: &Reference,
) -> Result<Vec<Position>> {
    let mut positions = Vec::new();
    let bar = Bar::new("running", tokens.len() as u64, Unit::Count("tokens"));
    for (position, token) in tokens.iter().enumerate().skip(first) {
        check_cancelled()?;
        bar.set(position as u64);
        let head = engine.infer(*token, position as u64)?;
        positions.push(compare(&head, position, reference)?);
    }
    Ok(positions)
}

/// All tokens, a batch at a time.
fn evaluate(engine: &mut Engine, tokens: &[u32], reference: &Reference) -> Result<Vec<Position>> {
    let mut positions = Vec::new();
    let batch = engine.batch() as usize;
    let bar = Bar::new("running", tokens.len() as u64, Unit::Count("tokens"));
    for (number, batch_tokens) in tokens.chunks(batch).enumerate() {
        check_cancelled()?;
        let first = number * batch;
        bar.set(first as u64);
        let rows = engine.evaluate(batch_tokens, first as u64)?;
        for (row, head) in rows.iter().enumerate() {
            positions.push(compare(head, first + row, reference)?);
        }
    }
    Ok(positions)
}

fn compare(head: &Head, position: usize, reference: &Reference) -> Result<Position> {
    match head {
        Head::Logits(logits) => reference.compare(position, logits),
        Head::Largest(..) => Err(Error::new(
            codes::EVALUATION_INPUT,
            "this conversion returns the winner only (--argmax), so there are no logits to compare",
        )
        .with_hint("take --path evaluate, whose functions give all logits")),
    }
}
