//! What a process may use, and a watch that ends it when it uses more.

use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Exit code of a process that took too long.
pub(crate) const EXIT_TIME: u8 = 81;
/// Exit code of a process that took too much memory.
pub(crate) const EXIT_MEMORY: u8 = 82;

/// How often the watch looks.
const TICK: Duration = Duration::from_millis(5);

/// Stack of the watch.
const WATCH_STACK: usize = 128 << 10;

/// On a busy machine a process may wait this many times as long as it may work, if it has worked a
/// third of that.
const BUSY: u32 = 3;

/// A piece of work that is watched over.
#[derive(Clone, Copy)]
struct Work {
    /// Processor time of the process when it began.
    began: Duration,
    /// When it began.
    at: Instant,
    /// The processor time that it may take.
    time: Duration,
}

impl Work {
    fn is_over_time(&self) -> bool {
        let used = system::time().saturating_sub(self.began);
        used > self.time || (used > self.time / BUSY && self.at.elapsed() > self.time * BUSY)
    }
}

/// The watch over the requests of a process.
pub(crate) struct Watch {
    work: Arc<(Mutex<Option<Work>>, Condvar)>,
}

impl Watch {
    /// Limits the memory of this process, and starts a thread that watches over it. Of the memory
    /// that is in use by now nothing is counted.
    ///
    /// # Errors
    /// The system refuses the limits or the thread.
    pub(crate) fn start(memory: u64) -> std::io::Result<Self> {
        let work = Arc::new((Mutex::new(None::<Work>), Condvar::new()));
        let watched = Arc::clone(&work);
        let largest = system::peak_memory().map(|used| used.saturating_add(memory));
        std::thread::Builder::new().stack_size(WATCH_STACK).spawn(move || {
            let (work, changed) = &*watched;
            let mut now = work.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let Some(current) = *now else {
                    now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                if current.is_over_time() {
                    end(EXIT_TIME);
                }
                if system::peak_memory().zip(largest).is_some_and(|(used, most)| used > most) {
                    end(EXIT_MEMORY);
                }
                let waited = changed.wait_timeout(now, TICK);
                now = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        })?;
        system::limit_memory(memory)?;
        Ok(Self { work })
    }

    /// Watches over a piece of work, which may take `time` of the processor.
    pub(crate) fn during<T>(&self, time: Duration, work: impl FnOnce() -> T) -> T {
        system::limit_time(time);
        self.set(Some(Work { began: system::time(), at: Instant::now(), time }));
        let result = work();
        self.set(None);
        result
    }

    fn set(&self, new: Option<Work>) {
        let (work, changed) = &*self.work;
        *work.lock().unwrap_or_else(PoisonError::into_inner) = new;
        changed.notify_all();
    }
}

/// Prepares a process that renders: it leaves no core, and has no files but its pipes.
pub(crate) fn prepare() {
    system::prepare();
}

/// Ends this process at once.
#[expect(clippy::exit, reason = "the thread that works cannot be stopped otherwise")]
fn end(code: u8) -> ! {
    std::process::exit(code.into())
}

/// The exit code of a process that was asked for something it does not know.
pub(crate) fn exit_code(done: std::io::Result<()>) -> ExitCode {
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(unix)]
mod system {
    use super::Duration;
    use rlimit::{Resource, getrlimit, setrlimit};

    /// Seconds of processor time beyond what the watch allows, after which the system ends the
    /// process.
    const GRACE: u64 = 1;

    pub(super) fn prepare() {
        // Where the system refuses, there is a core file, and nothing worse.
        let _ = setrlimit(Resource::CORE, 0, 0);
        close_files();
    }

    /// Closes what this process inherited beyond its standard streams. Nothing of its own is open
    /// yet.
    #[allow(unsafe_code)]
    fn close_files() {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: called at the very beginning of the process, which has opened no file yet.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
            if closed == 0 {
                return;
            }
        }
        let most = getrlimit(Resource::NOFILE).map_or(1024, |(now, _)| now.min(65_536));
        for file in 3..i32::try_from(most).unwrap_or(1024) {
            // SAFETY: as above; closing a number that is no open file does nothing.
            unsafe { libc::close(file) };
        }
    }

    /// Limits the address space to what is mapped by now and `memory` bytes.
    pub(super) fn limit_memory(memory: u64) -> std::io::Result<()> {
        if cfg!(not(any(target_os = "linux", target_os = "android"))) {
            // Elsewhere the limit is not kept, or counts what is shared; the watch stands in.
            return Ok(());
        }
        let Ok(statistics) = std::fs::read_to_string("/proc/self/statm") else { return Ok(()) };
        let pages = statistics.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
        let mapped = pages.unwrap_or(0).saturating_mul(page_size());
        let (_, hard) = getrlimit(Resource::AS)?;
        let limit = mapped.saturating_add(memory).min(hard);
        setrlimit(Resource::AS, limit, hard)
    }

    #[allow(unsafe_code)]
    fn page_size() -> u64 {
        // SAFETY: asks for a number.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        u64::try_from(size).unwrap_or(4096)
    }

    /// Lets the system end the process, should the watch not come to it.
    pub(super) fn limit_time(time: Duration) {
        if let Ok((_, hard)) = getrlimit(Resource::CPU) {
            let limit = (self::time() + time).as_secs() + 1 + GRACE;
            let _ = setrlimit(Resource::CPU, limit.min(hard), hard);
        }
    }

    /// Processor time of this process so far.
    pub(super) fn time() -> Duration {
        let usage = usage();
        duration(usage.ru_utime) + duration(usage.ru_stime)
    }

    /// The largest memory that this process had so far, in bytes.
    pub(super) fn peak_memory() -> Option<u64> {
        let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
        u64::try_from(usage().ru_maxrss).ok().map(|peak| peak * unit)
    }

    #[allow(unsafe_code)]
    fn usage() -> libc::rusage {
        // SAFETY: the struct is plain numbers, for which zero is a value, and the call fills it.
        unsafe {
            let mut usage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
            usage
        }
    }

    fn duration(time: libc::timeval) -> Duration {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds)
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    }
}

#[cfg(not(unix))]
mod system {
    use super::Duration;
    use std::sync::LazyLock;
    use std::time::Instant;

    pub(super) fn prepare() {}

    pub(super) fn limit_memory(_memory: u64) -> std::io::Result<()> {
        Ok(())
    }

    pub(super) fn limit_time(_time: Duration) {}

    /// Time since the first call.
    pub(super) fn time() -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }

    pub(super) fn peak_memory() -> Option<u64> {
        None
    }
}
