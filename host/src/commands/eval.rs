//! `eval`: how far a conversion is from the original model, or how well it foretells a text.

use crate::cli::{EvalArguments, EvaluationPath};
use crate::engine::{Engine, Head};
use crate::evaluation::{Position, Reference, read_tokens, summarize};
use crate::perplexity::{Score, Tokens, evaluate_text};
use crate::plugins::Plugins;
use crate::progress::{Bar, Unit};
use crate::services::{self, check_cancelled};
use crate::tokenizer::Tokenizer;
use anemll_plugin_api::{Error, Result, codes};
use std::path::Path;

/// Largest text file in bytes; all of it is tokenized at once.
const LARGEST_TEXT: u64 = 64 << 20;

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
    if arguments.path == EvaluationPath::Prefill {
        return Err(Error::new(codes::USAGE, "--path prefill needs --reference")
            .with_hint("a text runs through `evaluate` or `infer`"));
    }
    let (mut tokens, at) = match (&arguments.tokens, &arguments.text) {
        (Some(path), _) => (Tokens { lead: Vec::new(), text: read_tokens(path)? }, path),
        (None, Some(path)) => {
            let text = read_text(path)?;
            let folder = arguments.meta.parent().unwrap_or_else(|| Path::new(""));
            let (lead, text) = Tokenizer::open(folder)?.encode_with_lead(&text)?;
            (Tokens { lead, text }, path)
        }
        (None, None) => return Err(Error::new(codes::USAGE, "eval needs --text or --tokens")),
    };
    if let Some(most) = arguments.max_tokens {
        tokens.text.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    }
    let host = services::host();
    let runtime = plugins.runtime(&arguments.runtime)?;
    let mut engine = Engine::open(&arguments.meta, runtime.as_ref(), &host)?;
    check_vocabulary(&engine, tokens.lead.iter().chain(&tokens.text), at)?;
    let mut other = match &arguments.against {
        Some(meta) => Some((Engine::open(meta, runtime.as_ref(), &host)?, meta)),
        None => None,
    };
    let reference = other.as_mut().map(|(engine, meta)| (engine, meta.display().to_string()));
    let evaluation =
        evaluate_text(&mut engine, reference, &tokens, arguments.path).map_err(|error| {
            if error.at.is_none() { error.with_at(at.display().to_string()) } else { error }
        })?;
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

/// A text with its line ends as `\n`.
fn read_text(path: &Path) -> Result<String> {
    let invalid = |reason: String| {
        Error::new(codes::EVALUATION_INPUT, format!("the text cannot be used: {reason}"))
            .with_at(path.display().to_string())
    };
    let metadata = std::fs::metadata(path).map_err(|source| invalid(source.to_string()))?;
    if !metadata.is_file() {
        return Err(invalid("it is not a file".to_owned()));
    }
    if metadata.len() > LARGEST_TEXT {
        return Err(invalid(format!("{} bytes are more than {LARGEST_TEXT}", metadata.len()))
            .with_hint("a text of some thousand tokens is enough"));
    }
    let bytes = std::fs::read(path).map_err(|source| invalid(source.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|source| {
        let place = source.utf8_error().valid_up_to();
        invalid(format!("it is not UTF-8, from byte {place} on"))
    })?;
    Ok(text.replace("\r\n", "\n"))
}

/// Every token must be one of the model's.
fn check_vocabulary<'a>(
    engine: &Engine,
    tokens: impl IntoIterator<Item = &'a u32>,
    at: &Path,
) -> Result<()> {
    let Some(vocabulary) = engine.vocabulary() else { return Ok(()) };
    match tokens.into_iter().find(|token| u64::from(**token) >= vocabulary) {
        Some(token) => Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("token id {token} is beyond the model's vocabulary of {vocabulary}"),
        )
        .with_at(at.display().to_string())
        .with_hint("the tokens are of another model")),
        None => Ok(()),
    }
}

fn compare_with_reference(
    arguments: &EvalArguments,
    tokens_path: &Path,
    reference_path: &Path,
    plugins: &Plugins,
) -> Result<()> {
    let tokens = read_tokens(tokens_path)?;
    let reference = Reference::read(reference_path)?;
    if reference.len() != tokens.len() {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!(
                "there are {} tokens, but reference logits for {}",
                tokens.len(),
                reference.len()
            ),
        )
        .with_at(reference_path.display().to_string())
        .with_hint("the reference has one row of logits for each token"));
    }
    let host = services::host();
    let runtime = plugins.runtime(&arguments.runtime)?;
    let mut engine = Engine::open(&arguments.meta, runtime.as_ref(), &host)?;
    if tokens.len() as u64 > engine.context() {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("{} tokens do not fit into the context of {}", tokens.len(), engine.context()),
        )
        .with_at(tokens_path.display().to_string())
        .with_hint("give fewer tokens, or convert with a larger --context"));
    }
    check_vocabulary(&engine, &tokens, tokens_path)?;
    let positions = match arguments.path {
        EvaluationPath::Infer => infer(&mut engine, &tokens, 0, &reference)?,
        EvaluationPath::Prefill => {
            let count = prefill_count(arguments, &engine, tokens.len())?;
            engine.prefill(&tokens[..count], 0)?;
            infer(&mut engine, &tokens, count, &reference)?
        }
        EvaluationPath::Evaluate => evaluate(&mut engine, &tokens, &reference)?,
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
