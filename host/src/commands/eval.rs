//! `eval`: how far a conversion is from the original model.

use crate::cli::{EvalArguments, EvaluationPath};
use crate::engine::{Engine, Head};
use crate::evaluation::{Position, Reference, read_tokens, summarize};
use crate::plugins::Plugins;
use crate::services::{self, check_cancelled};
use anemll_plugin_api::{Error, Result, codes};

/// Runs the command.
pub fn run(arguments: &EvalArguments, plugins: &Plugins) -> Result<()> {
    let tokens = read_tokens(&arguments.tokens)?;
    let reference = Reference::read(&arguments.reference)?;
    if reference.len() != tokens.len() {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!(
                "there are {} tokens, but reference logits for {}",
                tokens.len(),
                reference.len()
            ),
        )
        .with_at(arguments.reference.display().to_string())
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
        .with_at(arguments.tokens.display().to_string())
        .with_hint("give fewer tokens, or convert with a larger --context"));
    }
    if let Some(vocabulary) = engine.vocabulary()
        && let Some(token) = tokens.iter().find(|token| u64::from(**token) >= vocabulary)
    {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("token id {token} is beyond the model's vocabulary of {vocabulary}"),
        )
        .with_at(arguments.tokens.display().to_string())
        .with_hint("the tokens are of another model"));
    }
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
    for (position, token) in tokens.iter().enumerate().skip(first) {
        check_cancelled()?;
        let head = engine.infer(*token, position as u64)?;
        positions.push(compare(&head, position, reference)?);
    }
    Ok(positions)
}

/// All tokens, a batch at a time.
fn evaluate(engine: &mut Engine, tokens: &[u32], reference: &Reference) -> Result<Vec<Position>> {
    let mut positions = Vec::new();
    let batch = engine.batch() as usize;
    for (number, batch_tokens) in tokens.chunks(batch).enumerate() {
        check_cancelled()?;
        let first = number * batch;
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
