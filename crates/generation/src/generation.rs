//! Answering: a prompt through the engine, then token after token, with the state kept between.
//!
//! A token's entry in the state depends on the tokens before it alone, so what two prompts share
//! at their beginning is run once. Going back is possible: entries behind the position are masked
//! until they are written again. Where there are states that tokens replace, there is no going back, and
//! in a ring of the last positions only as far as nothing is overwritten that is seen there: a prompt
//! that would go back further is run from its beginning.

use crate::engine::Engine;
use crate::penalties::History;
use crate::sampling::Sampler;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use anemll_tokenizer::Bounded;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Instant;

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
    /// Why it ended.
    pub end: End,
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
    /// Tokens at the beginning of `cached` that whole batches put there, as they do for any prompt that
    /// begins with them.
    batched: usize,
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
        Self {
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
        let whole = if self.single_token { 0 } else { count / batch * batch };
        if whole == self.batched && shared >= whole {
            return shared;
        }
        shared.min(self.batched).min(whole) / batch * batch
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
        self.cached.clear();
        self.batched = 0;
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
            self.cached.clear();
            self.batched = 0;
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
        let (mut next, prompt_tokens) = self.run_prompt(prompt)?;
        let prompt_seconds = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let mut tokens = 0;
        let end = loop {
            let seconds = started.elapsed().as_secs_f64();
            let end = End::Interrupted;
            let so_far = Answer { tokens, prompt_tokens, prompt_seconds, seconds, end };
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
            if self.cached.len() >= self.context() {
                break End::Context;
            }
            next = self.step(next)?;
        };
        self.unfinished = None;
        let seconds = started.elapsed().as_secs_f64();
        Ok(Answer { tokens, prompt_tokens, prompt_seconds, seconds, end })
    }

    /// As the apps do it: full batches through prefill, the rest and the last token through infer.
    fn run_prompt(&mut self, prompt: &[u32]) -> Result<(u32, u64)> {
        let (last, before) = prompt.split_last().ok_or_else(empty_prompt)?;
        let shared = self.reusable(prompt);
        self.cached.truncate(shared);
        let batch = self.batch();
        self.batched = self.batched.min(shared / batch * batch);
        let new = &before[shared..];
        let whole = if self.single_token { 0 } else { new.len() / batch * batch };
        let (batches, rest) = new.split_at(whole);
        self.engine.prefill(batches, shared as u64)?;
        self.cached.extend(batches);
        if self.batched == shared {
            self.batched += whole;
        }
        for token in rest {
            check_cancelled()?;
            self.engine.infer(*token, self.cached.len() as u64)?;
            self.cached.push(*token);
        }
        check_cancelled()?;
        Ok((self.step(*last)?, new.len() as u64 + 1))
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
