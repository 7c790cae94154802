//! A conversion run over tokens for which there are logits of the original.

use crate::engine::Engine;
use crate::evaluation::{Evaluation, Position, Reference, summarize};
use crate::perplexity::EvaluationPath;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;

/// Runs all tokens as one sequence and compares the logits of those that the path gives.
/// `prefilled`: with [`EvaluationPath::Prefill`], how many go through `prefill`, one batch when
/// absent. `progress` is told how many tokens are done.
///
/// # Errors
/// The tokens do not suit the path; the conversion gives no logits; those of the runtime; Ctrl-C.
pub fn compare_with_reference(
    engine: &mut Engine,
    tokens: &[u32],
    reference: &Reference,
    (path, prefilled): (EvaluationPath, Option<u64>),
    progress: &dyn Fn(u64),
) -> Result<Evaluation> {
    let positions = match path {
        EvaluationPath::Infer => infer(engine, tokens, 0, reference, progress)?,
        EvaluationPath::Prefill => {
            let count = prefill_count(prefilled, engine, tokens.len())?;
            engine.prefill(&tokens[..count], 0)?;
            infer(engine, tokens, count, reference, progress)?
        }
        EvaluationPath::Evaluate => evaluate(engine, tokens, reference, progress)?,
    };
    summarize(positions)
}

fn prefill_count(asked: Option<u64>, engine: &Engine, tokens: usize) -> Result<usize> {
    let most = tokens.saturating_sub(1) as u64;
    let count = asked.unwrap_or_else(|| engine.batch().min(most));
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
    progress: &dyn Fn(u64),
) -> Result<Vec<Position>> {
    let mut positions = Vec::new();
    for (position, token) in tokens.iter().enumerate().skip(first) {
        check_cancelled()?;
        progress(position as u64);
        let head = engine.infer(*token, position as u64)?;
        positions.push(reference.compare(position, &head.into_logits()?)?);
    }
    Ok(positions)
}

/// All tokens, a batch at a time.
fn evaluate(
    engine: &mut Engine,
    tokens: &[u32],
    reference: &Reference,
    progress: &dyn Fn(u64),
) -> Result<Vec<Position>> {
    let mut positions = Vec::new();
    let batch = engine.batch().max(1) as usize;
    for (number, batch_tokens) in tokens.chunks(batch).enumerate() {
        check_cancelled()?;
        let first = number * batch;
        progress(first as u64);
        for (row, head) in engine.evaluate(batch_tokens, first as u64)?.into_iter().enumerate() {
            positions.push(reference.compare(first + row, &head.into_logits()?)?);
        }
    }
    Ok(positions)
}
