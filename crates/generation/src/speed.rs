//! How fast a conversion runs: a prompt and tokens after it, again and again.
//!
//! What the tokens are does not matter to the time that they take, so the prompt is made of numbers, and
//! no tokenizer is needed.

use crate::drafting::Draft;
use crate::engine::Engine;
use crate::generation::{Generator, Guesses};
use crate::sampling::{Sampler, Sampling};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Host, Result, Runtime};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// What is run.
#[derive(Debug, Clone)]
pub struct Work {
    /// Tokens of the prompt; without a number 256, or half of the context where that is less.
    pub prompt: Option<u64>,
    /// Tokens that are generated after the first one; without a number 64, or what the context has
    /// room for.
    pub tokens: Option<u64>,
    /// How often; at least once.
    pub rounds: u64,
    /// Who guesses tokens.
    pub draft: Draft,
}

/// What one round took.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// Seconds from the prompt to the first token.
    pub prompt_seconds: f64,
    /// Seconds for the tokens after the first one.
    pub seconds: f64,
}

/// How fast a conversion ran. Speeds are those of the median round.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    /// Seconds until the packages were open.
    pub open_seconds: f64,
    /// Seconds until the first token after a prompt of one token was there, opening included.
    pub first_token_seconds: f64,
    /// Tokens of context.
    pub context: u64,
    /// Threads that the runtime could use.
    pub threads: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of a prompt in a second.
    pub prompt_tokens_per_second: f64,
    /// Tokens that were generated after the first one.
    pub tokens: u64,
    /// Generated tokens in a second.
    pub tokens_per_second: f64,
    /// Tokens that were guessed in all rounds, and those of them that were right.
    pub guesses: Guesses,
    /// Bytes of memory that the process had at most, where the system tells.
    pub peak_memory: Option<u64>,
    /// Every round.
    pub rounds: Vec<Round>,
}

/// Opens a conversion, given as its meta.yaml, and runs it; `each` is called after each round.
///
/// # Errors
/// Prompt and tokens do not fit into the context, or are none; those of opening and running.
pub fn measure(
    meta: &Path,
    runtime: &dyn Runtime,
    host: &Host,
    work: &Work,
    each: &mut dyn FnMut(u64),
) -> Result<Speed> {
    let started = Instant::now();
    let engine = Engine::open(meta, runtime, host)?;
    let open_seconds = started.elapsed().as_secs_f64();
    let context = engine.context();
    let (prompt_tokens, tokens) = sizes(work, context)?;
    let prompt = prompt(prompt_tokens, engine.vocabulary().unwrap_or(2));
    let sampler = Sampler::new(Sampling::GREEDY, Some(0));
    let mut generator = Generator::new(engine, sampler, BTreeSet::new());
    work.draft.apply(&mut generator, runtime, host)?;
    generator.answer(&prompt[..1], 1, &mut |_| Ok(()))?;
    let first_token_seconds = started.elapsed().as_secs_f64();
    let mut rounds = Vec::new();
    let mut guesses = Guesses::default();
    for round in 0..work.rounds.max(1) {
        generator.reset()?;
        let answer = generator.answer(&prompt, tokens + 1, &mut |_| Ok(()))?;
        guesses.made += answer.guesses.made;
        guesses.right += answer.guesses.right;
        rounds.push(Round { prompt_seconds: answer.prompt_seconds, seconds: answer.seconds });
        each(round + 1);
    }
    let rate = |count: u64, seconds: &dyn Fn(&Round) -> f64| {
        count as f64 / median(rounds.iter().map(seconds).collect()).max(1e-9)
    };
    Ok(Speed {
        open_seconds,
        first_token_seconds,
        context,
        threads: host.threads(),
        prompt_tokens,
        prompt_tokens_per_second: rate(prompt_tokens, &|round| round.prompt_seconds),
        tokens,
        tokens_per_second: rate(tokens, &|round| round.seconds),
        guesses,
        peak_memory: anemll_services::machine::peak_memory(),
        rounds,
    })
}

/// Tokens of the prompt, and tokens after the first one that is generated.
fn sizes(work: &Work, context: u64) -> Result<(u64, u64)> {
    let prompt = work.prompt.unwrap_or((context / 2).clamp(1, 256));
    let room = context.saturating_sub(prompt);
    let tokens = work.tokens.unwrap_or(room.clamp(1, 64));
    if prompt == 0 || tokens == 0 || prompt.saturating_add(tokens) > context {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("a prompt of {prompt} tokens and {tokens} more: the context has {context}"),
        )
        .with_hint("give at least one of each, and no more of both than the context has"));
    }
    Ok((prompt, tokens))
}

/// Tokens that a model with so many of them knows.
fn prompt(count: u64, vocabulary: u64) -> Vec<u32> {
    let known = u32::try_from(vocabulary.max(1)).unwrap_or(u32::MAX);
    (0..count).map(|at| ((at * 7919 + 1) % u64::from(known)) as u32).collect()
}

/// The middle one; of an even number, the larger one of the two in the middle. Zero of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_and_tokens_fit_into_the_context() {
        let work = |prompt, tokens| Work { prompt, tokens, rounds: 1, draft: Draft::None };
        let sizes = |prompt, tokens, context| sizes(&work(prompt, tokens), context).ok();
        assert_eq!(sizes(None, None, 4096), Some((256, 64)));
        assert_eq!(sizes(None, None, 64), Some((32, 32)));
        assert_eq!(sizes(Some(60), None, 64), Some((60, 4)));
        assert_eq!(sizes(Some(60), Some(4), 64), Some((60, 4)));
        assert_eq!(sizes(Some(60), Some(5), 64), None);
        assert_eq!(sizes(Some(u64::MAX), Some(u64::MAX), 64), None);
        assert_eq!((sizes(Some(0), None, 64), sizes(None, Some(0), 64)), (None, None));
    }

    #[test]
    fn a_prompt_has_known_tokens_and_a_median_is_in_the_middle() {
        assert!(prompt(500, 300).iter().all(|token| *token < 300));
        assert_eq!(prompt(3, 1), [0, 0, 0]);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 4.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
