//! What the host does for a component: log, progress, cancelling, threads, scratch space.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::abi::guard::catch_result;
use crate::{Error, Result, codes};

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Level {
    /// Something went wrong.
    Error = 1,
    /// Something that the user should look at.
    Warn = 2,
    /// What is being done.
    Info = 3,
    /// Details for those who look for a mistake.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl Level {
    /// The level with this number; numbers beyond the list are [`Level::Trace`].
    pub fn from_number(number: u32) -> Self {
        match number {
            0 | 1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            4 => Self::Debug,
            _ => Self::Trace,
        }
    }
}

/// What a host implements. Components see it as a [`Host`].
pub trait HostServices: Send + Sync + 'static {
    /// Takes a log line; `target` says which component speaks.
    fn log(&self, level: Level, target: &str, message: &str);

    /// Takes the news that `done` of `total` units of `task` are done; `total` is 0 when it is not
    /// known. `false` when the user asked to stop.
    fn progress(&self, task: &str, done: u64, total: u64) -> bool;

    /// Whether the user asked to stop.
    fn cancelled(&self) -> bool;

    /// The number of threads that [`Self::parallel`] uses.
    fn threads(&self) -> usize;

    /// Calls `task` once with every number below `count`, from several threads, and returns when
    /// all calls have returned.
    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync));

    /// A directory for files that may be thrown away when the program ends.
    ///
    /// # Errors
    /// [`codes::SCRATCH_DIRECTORY`] when there is none and none can be made.
    fn scratch_directory(&self) -> Result<PathBuf>;
}

/// The same services as the ABI layer sees them: each call may fail, because the other side may
/// have panicked.
pub(crate) trait Backend: Send + Sync {
    fn log(&self, level: Level, target: &str, message: &str);
    fn progress(&self, task: &str, done: u64, total: u64) -> Result<bool>;
    fn cancelled(&self) -> Result<bool>;
    fn threads(&self) -> usize;
    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) -> Result<()>;
    fn scratch_directory(&self) -> Result<PathBuf>;
}

struct Direct(Arc<dyn HostServices>);

impl Backend for Direct {
    fn log(&self, level: Level, target: &str, message: &str) {
        self.0.log(level, target, message);
    }

    fn progress(&self, task: &str, done: u64, total: u64) -> Result<bool> {
        Ok(self.0.progress(task, done, total))
    }

    fn cancelled(&self) -> Result<bool> {
        Ok(self.0.cancelled())
    }

    fn threads(&self) -> usize {
        self.0.threads()
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) -> Result<()> {
        self.0.parallel(count, task);
        Ok(())
    }

    fn scratch_directory(&self) -> Result<PathBuf> {
        self.0.scratch_directory()
    }
}

/// A component's handle to the host: owned, cheap to clone, usable from any thread, also after the
/// call that brought it has returned.
#[derive(Clone)]
pub struct Host {
    backend: Arc<dyn Backend>,
}

impl Host {
    /// A handle to these services.
    pub fn new(services: Arc<dyn HostServices>) -> Self {
        Self { backend: Arc::new(Direct(services)) }
    }

    pub(crate) fn from_backend(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// A host that logs nothing, is never cancelled and does everything in order on one thread; for
    /// tests and small tools.
    pub fn quiet() -> Self {
        Self::new(Arc::new(Quiet))
    }

    /// Writes a log line; `target` says which component speaks.
    pub fn log(&self, level: Level, target: &str, message: &str) {
        self.backend.log(level, target, message);
    }

    /// Says that `done` of `total` units of `task` are done; `total` is 0 when it is not known.
    ///
    /// # Errors
    /// [`codes::CANCELLED`] when the user asked to stop.
    pub fn progress(&self, task: &str, done: u64, total: u64) -> Result<()> {
        match self.backend.progress(task, done, total)? {
            true => Ok(()),
            false => Err(Error::cancelled()),
        }
    }

    /// Whether the user asked to stop.
    pub fn cancelled(&self) -> bool {
        // A host whose answer fails cannot go on either; `check_cancelled` says why.
        self.backend.cancelled().unwrap_or(true)
    }

    /// Returns when the user asked to stop; long calls do this at least ten times a second.
    ///
    /// # Errors
    /// [`codes::CANCELLED`] when the user asked to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        match self.backend.cancelled()? {
            false => Ok(()),
            true => Err(Error::cancelled()),
        }
    }

    /// The number of threads that [`Self::parallel`] uses, at least 1.
    pub fn threads(&self) -> usize {
        self.backend.threads().max(1)
    }

    /// Calls `task` once with every number below `count`, on the host's threads, and returns when
    /// all calls have returned.
    ///
    /// After a call has failed, those with a greater number are left out.
    ///
    /// # Errors
    /// The error of the failed call with the smallest number, which does not depend on threads; a
    /// panic in a call is such an error.
    pub fn parallel(
        &self,
        count: usize,
        task: &(dyn Fn(usize) -> Result<()> + Sync),
    ) -> Result<()> {
        let failed_below = AtomicUsize::new(usize::MAX);
        let calls = AtomicUsize::new(0);
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let run = |index: usize| {
            if index >= count {
                return;
            }
            calls.fetch_add(1, Ordering::Relaxed);
            if index > failed_below.load(Ordering::Relaxed) {
                return;
            }
            let result = catch_result(|panic| panic.in_parallel_call(index), || task(index));
            if let Err(error) = result {
                failed_below.fetch_min(index, Ordering::Relaxed);
                let mut first = failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if first.as_ref().is_none_or(|(earlier, _)| index < *earlier) {
                    *first = Some((index, error));
                }
            }
        };
        self.backend.parallel(count, &run)?;
        if let Some((_, error)) = failure.into_inner().unwrap_or_else(|bad| bad.into_inner()) {
            return Err(error);
        }
        match calls.into_inner() {
            calls if calls == count => Ok(()),
            calls => Err(Error::new(
                codes::INTERNAL,
                format!("the host ran {calls} of {count} parallel calls"),
            )),
        }
    }

    /// A directory for files that may be thrown away when the program ends.
    ///
    /// # Errors
    /// [`codes::SCRATCH_DIRECTORY`] when there is none and none can be made.
    pub fn scratch_directory(&self) -> Result<PathBuf> {
        self.backend.scratch_directory()
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Host")
    }
}

/// The services of [`Host::quiet`].
struct Quiet;

impl HostServices for Quiet {
    fn log(&self, _: Level, _: &str, _: &str) {}

    fn progress(&self, _: &str, _: u64, _: u64) -> bool {
        true
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn threads(&self) -> usize {
        1
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }

    fn scratch_directory(&self) -> Result<PathBuf> {
        Ok(std::env::temp_dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_by_number_wins() {
        let host = Host::quiet();
        let error = host
            .parallel(10, &|index| match index {
                3 | 7 => Err(Error::new(codes::INTERNAL, format!("call {index}"))),
                _ => Ok(()),
            })
            .unwrap_err();
        assert_eq!(error.message, "call 3");
    }

    #[test]
    fn a_panic_in_a_call_is_an_error() {
        let error = Host::quiet().parallel(2, &|index| panic!("number {index}")).unwrap_err();
        assert_eq!(error.code, codes::PLUGIN_PANICKED);
        assert!(error.message.contains("number 0"), "{error}");
    }
}
