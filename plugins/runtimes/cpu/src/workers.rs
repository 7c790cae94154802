//! Splitting the work of one operation over the host's threads.
//!
//! An operation of one token takes some ten microseconds, and waking a thread as many. So a run takes
//! the host's threads once ([`Crew`]): one of them leads through the steps, and the others wait for the
//! work that it posts without going to sleep, until the run ends.

use crate::failure::{Failure, Outcome};
use anemll_plugin_api::{Error, Host, codes};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// Work below this many multiply-adds is not worth waking other threads.
const LEAST_COST: usize = 1 << 17;

/// Work below this many multiply-adds is not worth sharing with threads that are awake.
const LEAST_SHARED: usize = 1 << 14;

/// Pieces of work for each thread: one that is held up leaves its pieces to the others.
const PIECES: usize = 4;

/// Looks for work before a helper lets other threads of the machine go first.
const LOOKS: usize = 2000;

/// Who does the work of a run.
pub(crate) struct Team<'a> {
    host: &'a Host,
    crew: Option<&'a Crew>,
    threads: usize,
}

impl<'a> Team<'a> {
    /// The host's threads, which are woken for each operation.
    pub(crate) fn new(host: &'a Host) -> Self {
        Self { host, crew: None, threads: host.threads() }
    }

    /// Threads that wait for work, while [`Crew::run`] runs.
    pub(crate) fn with_crew(host: &'a Host, crew: &'a Crew) -> Self {
        Self { crew: Some(crew), ..Self::new(host) }
    }

    /// The host.
    pub(crate) fn host(&self) -> &'a Host {
        self.host
    }
}

/// Splits `output` into ranges, each a multiple of `unit` elements, and calls `task` with the start and
/// the elements of each range, on several threads.
///
/// `cost` is the work in multiply-adds (or the like); little work is done on the calling thread.
pub(crate) fn split<T: Send>(
    team: &Team<'_>,
    output: &mut [T],
    unit: usize,
    cost: usize,
    task: impl Fn(usize, &mut [T]) -> Outcome<()> + Sync,
) -> Outcome<()> {
    let least = if team.crew.is_some() { LEAST_SHARED } else { LEAST_COST };
    let units = output.len().div_ceil(unit.max(1));
    if cost < least || team.threads <= 1 || units <= 1 {
        return task(0, output);
    }
    let pieces = if team.crew.is_some() { team.threads * PIECES } else { team.threads };
    let length = units.div_ceil(pieces) * unit.max(1);
    let ranges: Vec<Mutex<&mut [T]>> = output.chunks_mut(length).map(Mutex::new).collect();
    let one = |index: usize| task(index * length, &mut lock(&ranges[index]));
    match team.crew {
        Some(crew) => crew.share(ranges.len(), &one),
        None => Ok(team.host.parallel(ranges.len(), &|index| one(index).map_err(Error::from))?),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads that wait for work while one of them leads. What leads must not ask the host for threads: it
/// could be given a helper of its own to run, which ends only after it.
#[derive(Default)]
pub(crate) struct Crew {
    /// What there is to do. Helpers hold it for reading while they work.
    job: RwLock<Option<Job>>,
    /// Number of jobs that were posted, or [`END`].
    posted: AtomicUsize,
}

/// No more jobs come.
const END: usize = usize::MAX;

/// Work in numbered pieces, each done once.
struct Job {
    task: &'static (dyn Fn(usize) + Sync),
    pieces: usize,
    next: AtomicUsize,
}

impl Job {
    fn work(&self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.pieces {
                return;
            }
            (self.task)(piece);
        }
    }
}

impl Crew {
    /// Runs `lead` on one of the host's threads, while the others do what it shares with them.
    pub(crate) fn run<R: Send>(
        &self,
        host: &Host,
        lead: impl FnOnce() -> R + Send,
    ) -> Result<R, Error> {
        // Of an earlier run no one is left.
        self.posted.store(0, Ordering::Release);
        let (lead, result) = (Mutex::new(Some(lead)), Mutex::new(None));
        // Whoever comes first leads: a host may call one after the other, in any order.
        host.parallel(host.threads(), &|_| {
            let own = lock(&lead).take();
            match own {
                Some(lead) => {
                    let _end = Ended(self);
                    let made = lead();
                    *lock(&result) = Some(made);
                }
                None => self.help(),
            }
            Ok(())
        })?;
        let made = lock(&result).take();
        made.ok_or_else(|| Error::new(codes::INTERNAL, "the host has not run a task"))
    }

    /// Does pieces of what is posted until the run ends.
    fn help(&self) {
        let (mut seen, mut looks) = (0, 0);
        loop {
            match self.posted.load(Ordering::Acquire) {
                END => return,
                posted if posted != seen => {
                    (seen, looks) = (posted, 0);
                    // It may be done already.
                    let job = self.job.read().unwrap_or_else(PoisonError::into_inner);
                    if let Some(job) = &*job {
                        job.work();
                    }
                }
                _ if looks < LOOKS => {
                    looks += 1;
                    std::hint::spin_loop();
                }
                _ => std::thread::yield_now(),
            }
        }
    }

    /// Calls `task` with every number below `count`, on all threads; the first failure is the result.
    fn share(&self, count: usize, task: &(dyn Fn(usize) -> Outcome<()> + Sync)) -> Outcome<()> {
        let failure: Mutex<Option<Failure>> = Mutex::new(None);
        let one = |index: usize| {
            if let Err(failed) = task(index) {
                lock(&failure).get_or_insert(failed);
            }
        };
        let one: &(dyn Fn(usize) + Sync) = &one;
        // SAFETY: it is reached through the job alone. `Posted` takes the job out of its lock before
        // this function ends in any way, and gets it when no helper holds the lock any more.
        #[allow(unsafe_code)]
        let forever: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(one) };
        let job = Job { task: forever, pieces: count, next: AtomicUsize::new(0) };
        *self.job.write().unwrap_or_else(PoisonError::into_inner) = Some(job);
        let posted = Posted(self);
        self.posted.fetch_add(1, Ordering::Release);
        if let Some(job) = &*self.job.read().unwrap_or_else(PoisonError::into_inner) {
            job.work();
        }
        drop(posted);
        let failed = lock(&failure).take();
        failed.map_or(Ok(()), Err)
    }
}

/// A job that is taken back when this is dropped, once no helper works on it.
struct Posted<'a>(&'a Crew);

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        *self.0.job.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Sends the helpers home when the one who leads is done, or panics.
struct Ended<'a>(&'a Crew);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.posted.store(END, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::{HostServices, Level};
    use std::sync::Arc;

    /// A host with threads of its own, or one that calls everything one after the other.
    struct Threads(usize, bool);

    impl HostServices for Threads {
        fn log(&self, _: Level, _: &str, _: &str) {}

        fn progress(&self, _: &str, _: u64, _: u64) -> bool {
            true
        }

        fn cancelled(&self) -> bool {
            false
        }

        fn threads(&self) -> usize {
            self.0
        }

        fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
            if self.1 {
                return (0..count).rev().for_each(task);
            }
            std::thread::scope(|scope| {
                for index in 0..count {
                    scope.spawn(move || task(index));
                }
            });
        }

        fn scratch_directory(&self) -> anemll_plugin_api::Result<std::path::PathBuf> {
            Ok(std::env::temp_dir())
        }
    }

    #[test]
    fn every_piece_is_done_once_whoever_does_it() {
        for (threads, serial) in [(1, false), (2, false), (5, false), (3, true)] {
            let host = Host::new(Arc::new(Threads(threads, serial)));
            let crew = Crew::default();
            let team = Team::with_crew(&host, &crew);
            let mut output = vec![0_u32; 1003];
            let failed = crew.run(&host, || {
                for round in 0..200_u32 {
                    split(&team, &mut output, 7, 1 << 20, |start, part| {
                        for (at, value) in part.iter_mut().enumerate() {
                            *value += (start + at) as u32 * round;
                        }
                        Ok(())
                    })
                    .unwrap();
                }
                let failing = |start: usize, _: &mut [u32]| match start {
                    0 => Ok(()),
                    _ => crate::failure::invalid("as expected"),
                };
                split(&team, &mut output, 7, 1 << 20, failing).is_err()
            });
            assert_eq!(failed.unwrap(), threads > 1);
            let expected = (0..200).sum::<u32>();
            assert!(output.iter().enumerate().all(|(at, value)| *value == at as u32 * expected));
        }
    }

    #[test]
    fn a_panic_ends_the_run_and_is_told() {
        let host = Host::new(Arc::new(Threads(3, true)));
        let crew = Crew::default();
        let team = Team::with_crew(&host, &crew);
        let mut output = vec![0_u32; 64];
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            crew.run(&host, || {
                split(&team, &mut output, 1, 1 << 20, |_, _| panic!("as expected")).is_ok()
            })
        }));
        assert!(!matches!(told, Ok(Ok(_))));
        assert!(crew.job.read().unwrap_or_else(PoisonError::into_inner).is_none());
        // Helpers that come later find the end.
        crew.help();
    }
}
