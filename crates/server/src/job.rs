//! What is to be answered, and the channel on which its parts go to the client.

use crate::failure::Failure;
use crate::likelihood::Likelihood;
use crate::place::Place;
use anemll_generation::generation::End;
use anemll_generation::sampling::Sampling;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// Whether the client left more unread than is kept.
    overflowed: AtomicBool,
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
    let outlet = Outlet {
        events: sender,
        cancel: Arc::clone(&cancel),
        unread: Arc::clone(&unread),
        overflowed: AtomicBool::new(false),
    };
    (outlet, Inlet { events: receiver, cancel, unread })
}

impl Outlet {
    /// Sends an event. Where nobody takes it any more, the answer ends.
    pub(crate) fn send(&self, event: Event) {
        let size = event.size();
        let unread = self.unread.fetch_add(size, Ordering::Relaxed) + size;
        let overflows = unread > MOST_UNREAD;
        if overflows {
            self.overflowed.store(true, Ordering::Relaxed);
        }
        if overflows || self.events.send(event).is_err() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Why an answer was cut.
    pub(crate) fn cut(&self) -> Failure {
        match self.overflowed.load(Ordering::Relaxed) {
            true => Failure::unread(MOST_UNREAD),
            false => Failure::ending(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_leaves_unread_ends_its_answer_and_says_so() {
        let (outlet, inlet) = channel();
        assert_eq!(outlet.cut().error().code, anemll_codes::SERVER_BUSY);
        let text = || Event::Text("x".repeat(1 << 20), Vec::new());
        for _ in 0..7 {
            outlet.send(text());
        }
        assert!(!outlet.cancel.load(Ordering::Relaxed));
        outlet.send(text());
        assert!(inlet.cancel.load(Ordering::Relaxed));
        assert_eq!(outlet.cut().error().code, anemll_codes::REQUEST_SLOW);
    }
}
