//! What the host gives to plugins: log, progress, cancel, threads, a scratch directory.

pub mod machine;

use anemll_codes as codes;
use anemll_plugin_api::{Error, Host, HostServices, Level, Result};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Exit code after Ctrl-C.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Set by Ctrl-C; every loop that can take long looks at it.
static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Whether the first Ctrl-C only asks to end, and cancels nothing.
static GENTLE: AtomicBool = AtomicBool::new(false);

/// Set by the Ctrl-C that asks to end.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Whether nothing is done but to wait for what the user types.
static WAITING: AtomicBool = AtomicBool::new(false);

/// Asks all running work to stop.
pub fn cancel() {
    CANCELLED.store(true, Ordering::SeqCst);
}

/// Whether the user asked to stop; the request is then done with, and work may go on.
pub fn take_interrupt() -> bool {
    CANCELLED.swap(false, Ordering::SeqCst)
}

/// An error when the user asked to stop, or whoever may stop this thread's work.
pub fn check_cancelled() -> Result<()> {
    if is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
}

fn is_cancelled() -> bool {
    let own = || OWN.with_borrow(|own| own.as_ref().is_some_and(|own| own.load(Ordering::Relaxed)));
    CANCELLED.load(Ordering::Relaxed) || own()
}

/// Does work that also stops when `cancel` is set; other threads go on.
pub fn cancellable<R>(cancel: &Arc<AtomicBool>, work: impl FnOnce() -> R) -> R {
    /// Puts back what was there, also after a panic.
    struct Before(Option<Arc<AtomicBool>>);
    impl Drop for Before {
        fn drop(&mut self) {
            OWN.replace(self.0.take());
        }
    }
    let _before = Before(OWN.replace(Some(Arc::clone(cancel))));
    work()
}

/// From now on the first Ctrl-C asks to end, which [`asked_to_end`] tells, and running work goes on;
/// only the next one cancels.
pub fn end_gently() {
    GENTLE.store(true, Ordering::SeqCst);
}

/// Whether the user asked to end, gently or not.
pub fn asked_to_end() -> bool {
    ENDING.load(Ordering::SeqCst) || CANCELLED.load(Ordering::SeqCst)
}

/// Waits for what the user types. A signal that ends the program does so at once meanwhile: it comes where
/// the terminal is closed, too, and what reads from one that is gone may never return.
pub fn waiting<R>(wait: impl FnOnce() -> R) -> R {
    /// Ends the wait, also after a panic.
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            WAITING.store(false, Ordering::SeqCst);
        }
    }
    WAITING.store(true, Ordering::SeqCst);
    let _done = Done;
    wait()
}

/// How long work may take to stop before the user is told how to end it at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes Ctrl-C cancel, so that temporary files are removed on the way out. A second Ctrl-C ends
/// the process at once, which the user is told where the first one has not worked after a while.
pub fn handle_interrupts() -> Result<()> {
    ctrlc::set_handler(|| {
        if GENTLE.load(Ordering::SeqCst) && !ENDING.swap(true, Ordering::SeqCst) {
            return;
        }
        if CANCELLED.swap(true, Ordering::SeqCst) || WAITING.load(Ordering::SeqCst) {
            anemll_terminal::restore_keys();
            #[expect(
                clippy::exit,
                reason = "nothing is being done, or unwinding did not come in time for the user"
            )]
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        std::thread::spawn(|| {
            std::thread::sleep(PATIENCE);
            if CANCELLED.load(Ordering::SeqCst) {
                anemll_terminal::tell(
                    "note: the work does not stop by itself; Ctrl-C again ends the program at once",
                );
            }
        });
    })
    .map_err(|source| Error::new(codes::INTERNAL, format!("no handler for Ctrl-C: {source}")))
}

thread_local! {
    /// Bytes of the weight that this thread has a plugin encode.
    static ENCODING: Cell<u64> = const { Cell::new(0) };
    /// Stops the work of this thread alone.
    static OWN: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Lets a plugin encode a weight of so many bytes; the tasks that it shares out tell how far it is.
pub fn encoding<R>(bytes: u64, work: impl FnOnce() -> R) -> R {
    let before = ENCODING.replace(bytes);
    let result = work();
    ENCODING.set(before);
    result
}

/// The host's services, behind every [`Host`] handle that a plugin holds.
#[derive(Default)]
pub struct Services {
    scratch: OnceLock<tempfile::TempDir>,
}

/// A handle over fresh services.
pub fn host() -> Host {
    Host::new(Arc::new(Services::default()))
}

impl HostServices for Services {
    fn log(&self, level: Level, target: &str, message: &str) {
        // What a plugin says must not steer the terminal.
        let message = anemll_terminal::plain_lines(message);
        match level {
            Level::Error => tracing::error!(plugin = target, "{message}"),
            Level::Warn => tracing::warn!(plugin = target, "{message}"),
            Level::Info => tracing::info!(plugin = target, "{message}"),
            Level::Debug => tracing::debug!(plugin = target, "{message}"),
            Level::Trace => tracing::trace!(plugin = target, "{message}"),
            // A level of a later version.
            _ => tracing::info!(plugin = target, "{message}"),
        }
    }

    fn progress(&self, task: &str, done: u64, total: u64) -> bool {
        tracing::debug!("{task}: {done} of {total}");
        !self.cancelled()
    }

    fn cancelled(&self) -> bool {
        is_cancelled()
    }

    fn threads(&self) -> usize {
        rayon::current_num_threads()
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let bytes = ENCODING.get() / count.max(1) as u64;
        let task = |index| {
            task(index);
            if bytes > 0 {
                anemll_terminal::encoded(bytes);
            }
        };
        let task = &task;
        if count == 1 {
            return task(0);
        }
        rayon::scope(|scope| {
            for index in 1..count {
                scope.spawn(move |_| task(index));
            }
            task(0);
        });
    }

    fn scratch_directory(&self) -> Result<PathBuf> {
        if let Some(directory) = self.scratch.get() {
            return Ok(directory.path().to_owned());
        }
        let made = tempfile::Builder::new().prefix("anemll-").tempdir().map_err(|source| {
            let at = std::env::temp_dir();
            Error::new(
                codes::SCRATCH_DIRECTORY,
                format!("a scratch directory cannot be made: {source}"),
            )
            .with_at(at.display().to_string())
            .with_hint("let TMPDIR name a directory that can be written and has room")
        })?;
        // A second thread may have been faster; its directory is then the one in use.
        Ok(self.scratch.get_or_init(|| made).path().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_of_one_thread_can_be_stopped_alone() {
        let cancel = Arc::new(AtomicBool::new(false));
        cancellable(&cancel, || {
            assert!(check_cancelled().is_ok());
            cancel.store(true, Ordering::SeqCst);
            assert!(check_cancelled().is_err() && Services::default().cancelled());
            let other = std::thread::spawn(|| check_cancelled().is_ok());
            assert!(other.join().is_ok_and(|free| free));
        });
        assert!(check_cancelled().is_ok());
    }
}
