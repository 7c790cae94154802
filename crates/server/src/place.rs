//! Places of requests that were let in and are not answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A place among those that were let in.
#[derive(Debug)]
pub(crate) struct Place {
    inside: Arc<AtomicUsize>,
    left: AtomicBool,
}

impl Place {
    /// A place of one that `inside` counts already.
    pub(crate) fn new(inside: &Arc<AtomicUsize>) -> Self {
        Self { inside: Arc::clone(inside), left: AtomicBool::new(false) }
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
