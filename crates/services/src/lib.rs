//! What the host gives to plugins: log, progress, cancel, threads, a scratch directory.

pub mod machine;

use anemll_codes as codes;
use anemll_plugin_api::{Error, Host, HostServices, Level, Result};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code after Ctrl-C.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Set by Ctrl-C; every loop that can take long looks at it.
static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Asks all running work to stop.
pub fn cancel() {
    CANCELLED.store(true, Ordering::SeqCst);
}

/// Whether the user asked to stop; the request is then done with, and work may go on.
pub fn take_interrupt() -> bool {
    CANCELLED.swap(false, Ordering::SeqCst)
}

/// An error when the user asked to stop.
pub fn check_cancelled() -> Result<()> {
    if CANCELLED.load(Ordering::Relaxed) { Err(Error::cancelled()) } else { Ok(()) }
}

/// Makes Ctrl-C cancel, so that temporary files are removed on the way out. A second Ctrl-C ends
/// the process at once.
pub fn handle_interrupts() -> Result<()> {
    ctrlc::set_handler(|| {
        if CANCELLED.swap(true, Ordering::SeqCst) {
            anemll_terminal::restore_keys();
            #[expect(
                clippy::exit,
                reason = "the user asked twice; unwinding did not come in time"
            )]
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
    })
    .map_err(|source| Error::new(codes::INTERNAL, format!("no handler for Ctrl-C: {source}")))
}

thread_local! {
    /// Bytes of the weight that this thread has a plugin encode.
    static ENCODING: Cell<u64> = const { Cell::new(0) };
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
        CANCELLED.load(Ordering::Relaxed)
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
