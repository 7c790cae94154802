//! Work that several threads do, and that is taken in order.

use anemll_plugin_api::Result;
use rayon::Scope;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Has the threads of the pool `make` the things 0, 1, … up to `count`, and gives each to `take`, one
/// after the other in this order, on the calling thread.
///
/// No thread waits for the others: while one makes something large, the others make what comes after
/// it. At most as many things as there are threads are being made, and as many again are made and
/// wait for their turn, so that memory has a bound.
///
/// # Errors
/// The first in order of all errors; nothing after it is taken.
pub(super) fn in_order<T: Send>(
    count: usize,
    make: impl Fn(usize) -> Result<T> + Sync,
    mut take: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    // A thread of the pool that waited here would be missing there.
    if rayon::current_thread_index().is_some() {
        return (0..count).try_for_each(|at| take(at, make(at)?));
    }
    let workers = rayon::current_num_threads().max(1);
    rayon::in_place_scope(|scope| {
        let mut queue = Queue::new(scope, &make);
        for at in 0..count {
            let made = loop {
                queue.fill(count.min(at + 2 * workers), workers);
                if let Some(made) = queue.made.remove(&at) {
                    break made;
                }
                queue.wait();
            };
            take(at, made.unwrap_or_else(|panic| resume_unwind(panic))?)?;
        }
        Ok(())
    })
}

/// What came of one thing: the outer error is a panic.
type Made<T> = thread::Result<Result<T>>;

/// What is being made, and what is made.
struct Queue<'a, 'scope, T, M> {
    scope: &'a Scope<'scope>,
    make: &'scope M,
    begun: usize,
    running: usize,
    made: BTreeMap<usize, Made<T>>,
    sender: Sender<(usize, Made<T>)>,
    receiver: Receiver<(usize, Made<T>)>,
}

impl<'a, 'scope, T, M> Queue<'a, 'scope, T, M>
where
    T: Send + 'scope,
    M: Fn(usize) -> Result<T> + Sync,
{
    fn new(scope: &'a Scope<'scope>, make: &'scope M) -> Self {
        let (sender, receiver) = channel();
        Self { scope, make, begun: 0, running: 0, made: BTreeMap::new(), sender, receiver }
    }

    /// Begins what comes next, before `end` and with no more than `workers` at once.
    fn fill(&mut self, end: usize, workers: usize) {
        while let Ok((at, made)) = self.receiver.try_recv() {
            self.keep(at, made);
        }
        while self.running < workers && self.begun < end {
            let (at, make, sender) = (self.begun, self.make, self.sender.clone());
            self.scope.spawn(move |_| {
                let made = catch_unwind(AssertUnwindSafe(|| make(at)));
                // Nobody listens any more after an error.
                let _ = sender.send((at, made));
            });
            self.begun += 1;
            self.running += 1;
        }
    }

    /// Waits until something more is made.
    fn wait(&mut self) {
        if let Ok((at, made)) = self.receiver.recv() {
            self.keep(at, made);
        }
    }

    fn keep(&mut self, at: usize, made: Made<T>) {
        self.running -= 1;
        self.made.insert(at, made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_codes as codes;
    use anemll_plugin_api::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};

    #[test]
    fn everything_is_taken_once_and_in_order() {
        let mut taken = Vec::new();
        let take = |at, made| {
            taken.push((at, made));
            Ok(())
        };
        in_order(50, |at| Ok(at * at), take).unwrap();
        assert!(taken.into_iter().eq((0..50).map(|at| (at, at * at))));
        in_order(0, |_| Ok(()), |_, ()| panic!("there is nothing")).unwrap();
    }

    #[test]
    fn the_first_error_in_order_wins_and_nothing_after_it_is_taken() {
        let mut taken = 0;
        let make = |at| match at {
            20.. => Err(Error::new(codes::INTERNAL, at.to_string())),
            _ => Ok(()),
        };
        let take = |_, ()| {
            taken += 1;
            Ok(())
        };
        let error = in_order(50, make, take).unwrap_err();
        assert_eq!((error.message.as_str(), taken), ("20", 20));
        let full = |at, ()| if at == 3 { Err(Error::cancelled()) } else { Ok(()) };
        assert!(in_order(50, |_| Ok(()), full).unwrap_err().is_cancelled());
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let make = |at| if at == 7 { panic!("seven") } else { Ok(()) };
        let run = || in_order(50, make, |_, ()| Ok(()));
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"seven"));
    }

    #[test]
    fn a_slow_one_keeps_no_thread_waiting_and_few_are_kept() {
        let workers = rayon::current_num_threads();
        if workers < 2 {
            return;
        }
        // The first is not made before another one is begun that no batch of `workers` would have.
        let (begun, changed) = (Mutex::new(0), Condvar::new());
        let (alive, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let make = |at: usize| {
            most.fetch_max(alive.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let mut latest = begun.lock().unwrap();
            *latest = at.max(*latest);
            changed.notify_all();
            if at == 0 {
                drop(changed.wait_while(latest, |latest| *latest < workers).unwrap());
            }
            Ok(())
        };
        let take = |_, ()| {
            alive.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        in_order(40 * workers, make, take).unwrap();
        assert!(most.load(Ordering::SeqCst) <= 2 * workers);
    }

    #[test]
    fn a_thread_of_the_pool_does_it_by_itself() {
        let mut taken = 0;
        let take = |at, _| {
            taken += at;
            Ok(())
        };
        rayon::scope(|_| in_order(9, Ok, take)).unwrap();
        assert_eq!(taken, 36);
    }
}
