//! Work that several threads do, and that is taken in order.

use anemll_plugin_api::Result;
use rayon::Scope;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Has the threads of the pool `make` one thing for each of `sizes`, and gives each to `take`, one
/// after the other in this order, on the calling thread.
///
/// No thread waits for the others: while one makes something large, the others make what comes after
/// it, and what is taken is taken meanwhile. At most as many things as there are threads are being
/// made, and as many again are made and wait for their turn; together their sizes stay within
/// `budget`, unless one alone is larger. So memory has a bound.
///
/// # Errors
/// The first in order of all errors; nothing after it is taken.
pub(super) fn in_order<T: Send>(
    sizes: &[u64],
    budget: u64,
    make: impl Fn(usize) -> Result<T> + Sync,
    mut take: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    // A thread of the pool that waited here would be missing there.
    if rayon::current_thread_index().is_some() {
        return (0..sizes.len()).try_for_each(|at| take(at, make(at)?));
    }
    let workers = rayon::current_num_threads().max(1);
    rayon::in_place_scope(|scope| {
        let mut queue = Queue::new(scope, &make, Limits { sizes, budget, workers });
        for (at, size) in sizes.iter().enumerate() {
            let made = loop {
                queue.fill(at);
                if let Some(made) = queue.made.remove(&at) {
                    break made;
                }
                queue.wait();
            };
            take(at, made.unwrap_or_else(|panic| resume_unwind(panic))?)?;
            queue.held -= size;
        }
        Ok(())
    })
}

/// What may be in the queue at once.
#[derive(Clone, Copy)]
struct Limits<'a> {
    sizes: &'a [u64],
    budget: u64,
    workers: usize,
}

/// What came of one thing: the outer error is a panic.
type Made<T> = thread::Result<Result<T>>;

/// What is being made, and what is made.
struct Queue<'a, 'scope, T, M> {
    scope: &'a Scope<'scope>,
    make: &'scope M,
    limits: Limits<'a>,
    begun: usize,
    running: usize,
    /// Sizes of what is begun and not yet taken.
    held: u64,
    made: BTreeMap<usize, Made<T>>,
    sender: Sender<(usize, Made<T>)>,
    receiver: Receiver<(usize, Made<T>)>,
}

impl<'a, 'scope, T, M> Queue<'a, 'scope, T, M>
where
    T: Send + 'scope,
    M: Fn(usize) -> Result<T> + Sync,
{
    fn new(scope: &'a Scope<'scope>, make: &'scope M, limits: Limits<'a>) -> Self {
        let (sender, receiver) = channel();
        let made = BTreeMap::new();
        Self { scope, make, limits, begun: 0, running: 0, held: 0, made, sender, receiver }
    }

    /// Begins what comes next, where the thing `at` is the next to be taken.
    fn fill(&mut self, at: usize) {
        while let Ok((at, made)) = self.receiver.try_recv() {
            self.keep(at, made);
        }
        let Limits { sizes, budget, workers } = self.limits;
        while self.running < workers && self.begun < at + 2 * workers {
            let Some(size) = sizes.get(self.begun) else { return };
            // What is the next to be taken is begun in any case: nothing is held then.
            if self.held > 0 && self.held.saturating_add(*size) > budget {
                return;
            }
            let (at, make, sender) = (self.begun, self.make, self.sender.clone());
            self.scope.spawn(move |_| {
                let made = catch_unwind(AssertUnwindSafe(|| make(at)));
                // Nobody listens any more after an error.
                let _ = sender.send((at, made));
            });
            self.begun += 1;
            self.running += 1;
            self.held += size;
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
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};

    #[test]
    fn everything_is_taken_once_and_in_order() {
        let mut taken = Vec::new();
        let take = |at, made| {
            taken.push((at, made));
            Ok(())
        };
        in_order(&[1; 50], 50, |at| Ok(at * at), take).unwrap();
        assert!(taken.into_iter().eq((0..50).map(|at| (at, at * at))));
        in_order(&[], 0, |_| Ok(()), |_, ()| panic!("there is nothing")).unwrap();
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
        let error = in_order(&[0; 50], 0, make, take).unwrap_err();
        assert_eq!((error.message.as_str(), taken), ("20", 20));
        let full = |at, ()| if at == 3 { Err(Error::cancelled()) } else { Ok(()) };
        assert!(in_order(&[0; 50], 0, |_| Ok(()), full).unwrap_err().is_cancelled());
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let make = |at| if at == 7 { panic!("seven") } else { Ok(()) };
        let run = || in_order(&[0; 50], 0, make, |_, ()| Ok(()));
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
        in_order(&vec![0; 40 * workers], 0, make, take).unwrap();
        assert!(most.load(Ordering::SeqCst) <= 2 * workers);
    }

    #[test]
    fn sizes_stay_within_the_budget() {
        let sizes: Vec<u64> = (0..200).map(|at| if at % 50 == 7 { 100 } else { at % 5 }).collect();
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let make = |at: usize| {
            let now = held.fetch_add(sizes[at], Ordering::SeqCst) + sizes[at];
            most.fetch_max(now, Ordering::SeqCst);
            Ok(())
        };
        let take = |at: usize, ()| {
            held.fetch_sub(sizes[at], Ordering::SeqCst);
            Ok(())
        };
        in_order(&sizes, 9, make, take).unwrap();
        assert_eq!(held.load(Ordering::SeqCst), 0);
        // What is larger than the budget is alone.
        assert_eq!(most.load(Ordering::SeqCst), 100);
    }

    #[test]
    fn a_thread_of_the_pool_does_it_by_itself() {
        let mut taken = 0;
        let take = |at, _| {
            taken += at;
            Ok(())
        };
        rayon::scope(|_| in_order(&[0; 9], 0, Ok, take)).unwrap();
        assert_eq!(taken, 36);
    }
}
