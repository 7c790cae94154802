//! One answer: made on the thread of a slot, and sent piece by piece.

use crate::failure::Failure;
use crate::likelihood::Likelihood;
use crate::metrics::Metrics;
use crate::served::Served;
use crate::slots::Place;
use anemll_generation::generation::{End, Generator};
use anemll_generation::sampling::{Sampler, Sampling};
use anemll_generation::shown::Shown;
use anemll_plugin_api::Result;
use anemll_services::cancellable;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes of an answer that wait for a client which does not read. What is beyond ends the answer, so
/// that a slot never waits for a client.
const MOST_UNREAD: usize = 8 << 20;
/// About what a token takes in memory beside its text while it waits.
const BYTES_OF_A_LIKELIHOOD: usize = 24;

/// What is to be answered.
pub(crate) struct Job {
    /// Tokens of the prompt.
    pub(crate) prompt: Vec<u32>,
    /// Tokens of the answer, at most.
    pub(crate) most: u64,
    /// How tokens are chosen.
    pub(crate) sampling: Sampling,
    /// Decides what is drawn.
    pub(crate) seed: Option<u64>,
    /// Texts that end the answer.
    pub(crate) stop: Vec<String>,
    /// Whether probabilities are told, and of how many likely tokens.
    pub(crate) likely: Option<usize>,
    /// Where the answer goes.
    pub(crate) outlet: Outlet,
    /// Counts as one of those that wait or run, until the answer is made.
    pub(crate) place: Place,
}

/// A part of an answer.
#[derive(Debug)]
pub(crate) enum Event {
    /// Text, and the probabilities of the tokens that it is made of, where they are told.
    Text(String, Vec<Likelihood>),
    /// The end.
    End(Summary),
    /// There is no more, for this reason.
    Failed(Failure),
}

/// What an answer took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    /// Why it ended.
    pub(crate) end: End,
    /// Tokens of the prompt.
    pub(crate) prompt: u64,
    /// Those of them that were in the cache.
    pub(crate) reused: u64,
    /// Tokens of the answer.
    pub(crate) generated: u64,
}

/// The end of a channel that a job sends to.
#[derive(Debug)]
pub(crate) struct Outlet {
    events: UnboundedSender<Event>,
    /// Set by whoever wants no more of the answer.
    pub(crate) cancel: Arc<AtomicBool>,
    unread: Arc<AtomicUsize>,
}

/// The other end; letting go of it ends the answer.
#[derive(Debug)]
pub(crate) struct Inlet {
    events: UnboundedReceiver<Event>,
    cancel: Arc<AtomicBool>,
    unread: Arc<AtomicUsize>,
}

/// Both ends of a channel.
pub(crate) fn channel() -> (Outlet, Inlet) {
    let (sender, receiver) = unbounded_channel();
    let (cancel, unread) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let outlet =
        Outlet { events: sender, cancel: Arc::clone(&cancel), unread: Arc::clone(&unread) };
    (outlet, Inlet { events: receiver, cancel, unread })
}

impl Outlet {
    /// Sends an event. Where nobody takes it any more, the answer ends.
    pub(crate) fn send(&self, event: Event) {
        let size = event.size();
        let unread = self.unread.fetch_add(size, Ordering::Relaxed) + size;
        if unread > MOST_UNREAD || self.events.send(event).is_err() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }
}

impl Inlet {
    /// The next event; none once the sender is gone.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Self::next`], for futures made by hand.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Event>> {
        self.events.poll_recv(context).map(|event| {
            event.inspect(|event| {
                self.unread.fetch_sub(event.size(), Ordering::Relaxed);
            })
        })
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

impl Event {
    fn size(&self) -> usize {
        match self {
            Self::Text(text, likelihoods) => {
                let entries = likelihoods.iter().map(|likelihood| 1 + likelihood.top.len());
                text.len() + size_of::<Self>() + entries.sum::<usize>() * BYTES_OF_A_LIKELIHOOD
            }
            Self::End(_) | Self::Failed(_) => 0,
        }
    }
}

/// Makes an answer. Whatever happens, the client hears of it, and the slot can go on.
pub(crate) fn run(job: Job, generator: &mut Generator, served: &Served, metrics: &Metrics) {
    let Job { outlet, place, .. } = &job;
    let made = catch_unwind(AssertUnwindSafe(|| {
        cancellable(&outlet.cancel, || answer(&job, generator, served, metrics))
    }));
    let last = match made {
        Ok(Ok(summary)) => Event::End(summary),
        Ok(Err(error)) if error.is_cancelled() => {
            metrics.cancelled.fetch_add(1, Ordering::Relaxed);
            Event::Failed(Failure::ending())
        }
        Ok(Err(error)) => {
            tracing::error!("an answer failed: {error}");
            Event::Failed(Failure::from(error))
        }
        Err(_) => {
            // What is in the caches now is not known.
            if let Err(error) = generator.reset() {
                tracing::error!("a slot cannot be emptied after a panic: {error}");
            }
            Event::Failed(Failure::bug())
        }
    };
    // Those who wait for room shall find it once they hear of the end.
    place.leave();
    outlet.send(last);
}

fn answer(
    job: &Job,
    generator: &mut Generator,
    served: &Served,
    metrics: &Metrics,
) -> Result<Summary> {
    let started = Instant::now();
    let likelihoods = Arc::new(Mutex::new(VecDeque::new()));
    let mut sampler = Sampler::new(job.sampling, job.seed);
    if let Some(count) = job.likely {
        let likelihoods = Arc::clone(&likelihoods);
        sampler.observe(Box::new(move |logits, token| {
            let likelihood = Likelihood::new(logits, token, count);
            likelihoods.lock().unwrap_or_else(PoisonError::into_inner).push_back(likelihood);
        }));
    }
    generator.set_sampler(sampler);
    let reused = generator.reusable(&job.prompt) as u64;
    let mut shown = Shown::new(&served.tokenizer, &job.prompt, &job.stop)?;
    let (mut held, mut begun) = (Vec::new(), false);
    let answer = generator.answer_until(&job.prompt, job.most, &mut |token| {
        if !std::mem::replace(&mut begun, true) {
            metrics.first_token.add(started.elapsed());
        }
        held.extend(likelihoods.lock().unwrap_or_else(PoisonError::into_inner).pop_front());
        let mut part = String::new();
        let flow = shown.push(token, &mut |text| {
            part.push_str(text);
            Ok(())
        })?;
        metrics.generated_tokens.fetch_add(1, Ordering::Relaxed);
        if !part.is_empty() {
            job.outlet.send(Event::Text(part, std::mem::take(&mut held)));
        }
        Ok(flow)
    });
    metrics.answers.add(started.elapsed());
    metrics.prompt_tokens.fetch_add(job.prompt.len() as u64, Ordering::Relaxed);
    let answer = answer?;
    metrics.reused_tokens.fetch_add(reused, Ordering::Relaxed);
    let rest = shown.finish()?;
    if !rest.is_empty() {
        job.outlet.send(Event::Text(rest, held));
    }
    Ok(Summary {
        end: answer.end,
        prompt: job.prompt.len() as u64,
        reused,
        generated: answer.tokens,
    })
}
