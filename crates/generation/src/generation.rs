//! Answering: a prompt through the engine, then token after token, with the state kept between.
//!
//! A token's entry in the state depends on the tokens before it alone, so what two prompts share
//! at their beginning is run once. Going back is possible: entries behind the position are masked
//! until they are written again. Where there are states that tokens replace, there is no going back, and
//! in a ring of the last positions only as far as nothing is overwritten that is seen there: a prompt
//! that would go back further is run from its beginning.

use crate::drafting::{Drafter, Patience, Repetition};
use crate::engine::Engine;
use crate::head::no_rows;
use crate::penalties::History;
use crate::sampling::Sampler;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use anemll_tokenizer::Bounded;
use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::time::Instant;

/// A batch takes no longer than this part of its tokens, one by one: the divisor.
const WORTH_A_BATCH: usize = 4;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model gave a stop token, or the caller wants no more.
    Stop,
    /// As many tokens as were asked for.
    Count,
    /// The context is full.
    Context,
    /// The user wanted no more.
    Interrupted,
}

impl End {
    /// The word for it in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Count => "max_tokens",
            Self::Context => "context",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What an answer took.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Tokens that were generated, without the stop token.
    pub tokens: u64,
    /// Tokens of the prompt that were run; the others were in the state already.
    pub prompt_tokens: u64,
    /// Seconds from the prompt to the first token.
    pub prompt_seconds: f64,
    /// Seconds for all further tokens.
    pub seconds: f64,
    /// Tokens that were guessed, and how many of them the model chose, too.
    pub guesses: Guesses,
    /// Why it ended.
    pub end: End,
}

/// Guessed tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Guesses {
    /// All of them.
    pub made: u64,
    /// Those that were right.
    pub right: u64,
}

impl Answer {
    /// Generated tokens per second, after the prompt.
    pub fn rate(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }
}

/// An engine with what is in its state.
pub struct Generator {
    engine: Engine,
    sampler: Sampler,
    stop: BTreeSet<u32>,
    /// The tokens in the state, by position.
    cached: Vec<u32>,
    /// Tokens of the prompt that is being answered.
    prompt: usize,
    /// Tokens at the beginning of `cached` that batches from position 0 on put there. Where that is no
    /// whole number of batches, the last one was padded.
    batched: usize,
    /// Who guesses tokens, where the engine can verify several at once.
    drafter: Option<Box<dyn Drafter>>,
    patience: Patience,
    guesses: Guesses,
    /// The first entry of the state, by position, that a verification put there.
    verified: Option<usize>,
    /// Whether only that is used again which a prompt would put there in the same way.
    exact_reuse: bool,
    /// What the answer that is being given took so far.
    unfinished: Option<Answer>,
    /// Whether prompts go through infer alone.
    single_token: bool,
}

impl Generator {
    /// A generator over an engine whose state is empty.
    pub fn new(engine: Engine, sampler: Sampler, stop: BTreeSet<u32>) -> Self {
        let guesses = engine.verifies(0) > 0;
        Self {
            drafter: guesses.then(|| Box::new(Repetition) as Box<dyn Drafter>),
            patience: Patience::default(),
            guesses: Guesses::default(),
            verified: None,
            engine,
            sampler,
            stop,
            cached: Vec::new(),
            prompt: 0,
            batched: 0,
            exact_reuse: false,
            unfinished: None,
            single_token: false,
        }
    }

    /// The engine, with what is in its state.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the last answer took until it was ended by an error, if its prompt was run by then.
    pub fn interrupted(&self) -> Option<Answer> {
        self.unfinished
    }

    /// How tokens are chosen.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Chooses tokens in another way from now on.
    pub fn set_sampler(&mut self, sampler: Sampler) {
        self.sampler = sampler;
    }

    /// Has another one guess tokens, or none: without this, [`Repetition`] does.
    pub fn set_drafter(&mut self, drafter: Option<Box<dyn Drafter>>) {
        self.drafter = drafter;
    }

    /// The tokens in the state, by position.
    pub fn cached(&self) -> &[u32] {
        &self.cached
    }

    /// Whether answers are, to the bit, those of an empty state: a token's entry in the state that was
    /// put there in another way than its prompt would put it, by `infer` and not in a batch for
    /// example, differs in its last digits, and is then made anew.
    pub fn set_exact_reuse(&mut self, exact: bool) {
        self.exact_reuse = exact;
    }

    /// Tokens at the beginning of `prompt` that are in the state, and are not run again.
    pub fn reusable(&self, prompt: &[u32]) -> usize {
        let before = &prompt[..prompt.len().saturating_sub(1)];
        let shared =
            self.cached.iter().zip(before).take_while(|(known, token)| known == token).count();
        let shared = if self.exact_reuse { self.exactly(shared, before.len()) } else { shared };
        if self.engine.goes_on_at(shared as u64) { shared } else { 0 }
    }

    /// Of `shared` tokens that `count` tokens have in common with the state: those whose entries are
    /// as these would make them.
    fn exactly(&self, shared: usize, count: usize) -> usize {
        let batch = self.batch();
        let in_batches = self.in_batches(count, 0);
        let shared = self.verified.map_or(shared, |verified| shared.min(verified));
        if shared >= in_batches && self.batched == in_batches {
            return shared;
        }
        shared.min(self.batched).min(in_batches) / batch * batch
    }

    /// Of `count` tokens of a prompt from `position` on, those that go through `prefill`: all that fill
    /// batches, and the others as well where one padded batch takes less time than they do one by one.
    fn in_batches(&self, count: usize, position: usize) -> usize {
        if self.single_token {
            return 0;
        }
        let batch = self.batch();
        let rest = count % batch;
        let whole = count - rest;
        let pads = rest * WORTH_A_BATCH > batch && self.engine.pads_at((position + whole) as u64);
        if pads { count } else { whole }
    }

    fn batch(&self) -> usize {
        self.engine.batch().max(1) as usize
    }

    /// Whether prompts go token by token through `infer`, not in batches through `prefill`.
    pub fn set_single_token(&mut self, single_token: bool) {
        self.single_token = single_token;
    }

    /// Tokens that the model has logits for, as far as that is known.
    pub fn vocabulary(&self) -> Option<u64> {
        self.engine.vocabulary()
    }

    /// Context length in tokens.
    pub fn context(&self) -> usize {
        self.engine.context() as usize
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// The runtime's.
    pub fn reset(&mut self) -> Result<()> {
        self.forget();
        self.engine.reset()
    }

    /// Checks that a prompt leaves room for a token of an answer.
    ///
    /// # Errors
    /// It does not; the message says by how much.
    pub fn check_room(&self, prompt: &[u32]) -> Result<()> {
        check_room(prompt, self.context())
    }

    /// Runs what is new of `prompt`, and then up to `most` tokens, each of which goes to `each`.
    ///
    /// # Errors
    /// The prompt does not fit, Ctrl-C, or the runtime's, the sampler's or `each`'s. The generator
    /// can be used afterwards.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        most: u64,
        each: &mut dyn FnMut(u32) -> Result<()>,
    ) -> Result<Answer> {
        self.answer_until(prompt, most, &mut |token| {
            each(token)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// As [`Self::answer`], until `each` breaks; the token that made it do so counts.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn answer_until(
        &mut self,
        prompt: &[u32],
        most: u64,
        each: &mut dyn FnMut(u32) -> Result<ControlFlow<()>>,
    ) -> Result<Answer> {
        self.check_room(prompt)?;
        let answer = self.run(prompt, most, each);
        if answer.is_err() && self.engine.is_recurrent() {
            // Of a batch or a token that failed, some states may know and others not.
            self.forget();
        }
        answer
    }

    fn run(
        &mut self,
        prompt: &[u32],
        most: u64,
        each: &mut dyn FnMut(u32) -> Result<ControlFlow<()>>,
    ) -> Result<Answer> {
        let started = Instant::now();
        self.prompt = prompt.len();
        self.unfinished = None;
        self.guesses = Guesses::default();
        let (mut next, prompt_tokens) = self.run_prompt(prompt)?;
        let prompt_seconds = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let mut tokens = 0;
        // Chosen already, but not yet given.
        let mut ahead = VecDeque::new();
        let end = loop {
            let seconds = started.elapsed().as_secs_f64();
            let end = End::Interrupted;
            let guesses = self.guesses;
            let so_far = Answer { tokens, prompt_tokens, prompt_seconds, seconds, guesses, end };
            self.unfinished = Some(so_far);
            if tokens == most {
                break End::Count;
            }
            if self.stop.contains(&next) {
                break End::Stop;
            }
            check_cancelled()?;
            let flow = each(next)?;
            tokens += 1;
            if flow.is_break() {
                break End::Stop;
            }
            if tokens == most {
                break End::Count;
            }
            if ahead.is_empty() {
                if self.cached.len() >= self.context() {
                    break End::Context;
                }
                ahead.extend(self.steps(next, most - tokens)?);
            }
            // There is one: every step chooses a token.
            next = ahead.pop_front().unwrap_or(next);
        };
        self.unfinished = None;
        let (seconds, guesses) = (started.elapsed().as_secs_f64(), self.guesses);
        Ok(Answer { tokens, prompt_tokens, prompt_seconds, seconds, guesses, end })
    }

    /// Batches through prefill; what is left and the last token, whose logits are wanted, through infer.
    fn run_prompt(&mut self, prompt: &[u32]) -> Result<(u32, u64)> {
        let (last, before) = prompt.split_last().ok_or_else(empty_prompt)?;
        let shared = self.reusable(prompt);
        self.cached.truncate(shared);
        self.verified = self.verified.filter(|verified| *verified < shared);
        let batch = self.batch();
        if shared < self.batched {
            self.batched = shared / batch * batch;
        }
        let new = &before[shared..];
        let (batches, rest) = new.split_at(self.in_batches(new.len(), shared));
        self.engine.prefill(batches, shared as u64)?;
        self.cached.extend(batches);
        if self.batched == shared && shared.is_multiple_of(batch) {
            self.batched += batches.len();
        }
        for token in rest {
            check_cancelled()?;
            self.engine.infer(*token, self.cached.len() as u64)?;
            self.cached.push(*token);
        }
        check_cancelled()?;
        Ok((self.step(*last)?, new.len() as u64 + 1))
    }

    fn forget(&mut self) {
        self.cached.clear();
        self.batched = 0;
        self.verified = None;
    }

    /// Runs a token, and where others can be guessed to follow it, these: the tokens that are chosen,
    /// at least one and at most `most`. All but the last were run.
    fn steps(&mut self, token: u32, most: u64) -> Result<Vec<u32>> {
        let guessed = self.guess(token, most)?;
        if guessed.is_empty() {
            return Ok(vec![self.step(token)?]);
        }
        let run: Vec<u32> = std::iter::once(token).chain(guessed.iter().copied()).collect();
        let position = self.cached.len();
        let heads = self.engine.verify(&run, position as u64)?;
        if heads.len() < run.len() {
            return Err(no_rows());
        }
        self.verified = Some(self.verified.map_or(position, |verified| verified.min(position)));
        let mut chosen = Vec::new();
        for (place, head) in heads.into_iter().enumerate() {
            self.cached.push(run[place]);
            let history = History { tokens: &self.cached, prompt: self.prompt };
            let next = match self.sampler.is_close(&head, history) {
                // The token is run alone, as it is without guesses, to have its very logits.
                true => {
                    self.cached.pop();
                    self.step(run[place])?
                }
                false => self.sampler.next(head, history)?,
            };
            chosen.push(next);
            if guessed.get(place) != Some(&next) {
                break;
            }
        }
        let right = chosen.len() - 1;
        self.patience.learn(right);
        self.guesses.made += guessed.len() as u64;
        self.guesses.right += right as u64;
        Ok(chosen)
    }

    /// Tokens that may follow this one, as many as can be verified.
    fn guess(&mut self, token: u32, most: u64) -> Result<Vec<u32>> {
        let room = self.engine.verifies(self.cached.len() as u64).min(most as usize);
        let Some(drafter) = &mut self.drafter else { return Ok(Vec::new()) };
        // Observers are told of tokens that are given, and not of more.
        if room < 2 || self.sampler.is_observed() || !self.patience.is_ready() {
            return Ok(Vec::new());
        }
        self.cached.push(token);
        let guessed = drafter.guess(&self.cached, room - 1);
        self.cached.pop();
        guessed
    }

    fn step(&mut self, token: u32) -> Result<u32> {
        let head = self.engine.infer(token, self.cached.len() as u64)?;
        self.cached.push(token);
        self.sampler.next(head, History { tokens: &self.cached, prompt: self.prompt })
    }
}

/// Checks that a prompt leaves room in the context for a token of an answer.
///
/// # Errors
/// It does not; the message says by how much.
pub fn check_room(prompt: &[u32], context: usize) -> Result<()> {
    if prompt.is_empty() {
        return Err(empty_prompt());
    }
    if prompt.len() < context {
        return Ok(());
    }
    Err(Error::new(
        codes::PROMPT_INVALID,
        format!(
            "the prompt has {} tokens, {} more than fit into the context of {context} with room for an answer",
            prompt.len(),
            prompt.len() + 1 - context,
        ),
    )
    .with_hint("shorten the prompt, or convert with a larger --context"))
}

/// Checks the tokens of a prompt of `length` bytes, of which only as many were counted as show that
/// there are too many.
///
/// # Errors
/// There are more than the context has; the message says about how much fits.
pub fn bounded(tokens: Bounded, length: usize, context: usize) -> Result<Vec<u32>> {
    let (tokens, bytes) = match tokens {
        Bounded::All(tokens) => return Ok(tokens),
        Bounded::TooMany { tokens, bytes } => (tokens, bytes),
    };
    let fits = bytes.saturating_mul(context as u64) / tokens.max(1);
    Err(Error::new(
        codes::PROMPT_INVALID,
        format!(
            "the prompt of {length} bytes does not fit into the context of {context} tokens: its first {bytes} bytes have {tokens} already"
        ),
    )
    .with_hint(format!(
        "about {fits} bytes of this text fit; shorten it, or convert with a larger --context"
    )))
}

fn empty_prompt() -> Error {
    Error::new(codes::PROMPT_INVALID, "the prompt has no tokens")
        .with_hint("give a text with --prompt")
}
