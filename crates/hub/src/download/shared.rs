//! What the thread that downloads and the one that watches it share.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use ureq::Agent;

/// State of a download.
#[derive(Debug, Default)]
pub(super) struct Shared {
    stopped: AtomicBool,
    stalled: AtomicBool,
    waiting: AtomicBool,
    received: AtomicU64,
    agent: Mutex<Option<Agent>>,
}

impl Shared {
    /// The agent whose connections can be cut from another thread.
    pub(super) fn set_agent(&self, agent: Agent) {
        self.stalled.store(false, Ordering::SeqCst);
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = Some(agent);
    }

    fn cut(&self) {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(agent) = agent {
            agent.shutdown();
        }
    }

    /// Ends the download.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Ends the connections, which are too slow.
    pub(super) fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
        self.cut();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }

    /// Whether the network is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that came so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    /// Reads from the network.
    pub(super) fn read(&self, source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
        self.waiting.store(true, Ordering::SeqCst);
        let count = source.read(buffer);
        self.waiting.store(false, Ordering::SeqCst);
        if let Ok(count) = count {
            self.received.fetch_add(count as u64, Ordering::SeqCst);
        }
        count
    }
}
