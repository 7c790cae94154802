//! Places of requests that were let in and are not answered.

use crate::failure::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Seconds that a client is asked to wait, at most.
const LONGEST_WAIT: f64 = 60.0;

/// A place among those that were let in.
#[derive(Debug)]
pub(crate) struct Place {
    inside: Arc<AtomicUsize>,
    left: AtomicBool,
}

impl Place {
    /// Lets a request in, where no more than `most` are inside, of which `at_once` are answered at a
    /// time, in `mean` seconds.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn enter(
        inside: &Arc<AtomicUsize>,
        at_once: usize,
        most: usize,
        mean: Option<f64>,
    ) -> Result<Self, Failure> {
        let before = inside.fetch_add(1, Ordering::SeqCst);
        let place = Self { inside: Arc::clone(inside), left: AtomicBool::new(false) };
        if before < most {
            return Ok(place);
        }
        // About when one of those inside is done.
        let wait = mean.unwrap_or(1.0) / at_once.max(1) as f64;
        let more = most - at_once;
        let message =
            format!("the server answers {at_once} requests at once, and {more} more wait already");
        let seconds = wait.clamp(1.0, LONGEST_WAIT).ceil() as u64;
        Err(Failure::busy(message, seconds).with_hint("ask again later"))
    }

    /// Makes room for another.
    pub(crate) fn leave(&self) {
        if !self.left.swap(true, Ordering::SeqCst) {
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}
