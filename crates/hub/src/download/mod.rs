//! Downloading a model from the hub into the cache.
//!
//! One thread downloads; the caller's own shows what it tells, and cuts the connections when the
//! user has had enough, or when they are too slow. What was loaded of a file stays for the next
//! attempt, also of another run.

mod digest;
mod http;
mod job;
mod listing;
mod shared;
mod shelf;
mod url;

use crate::{Environment, ErrorKind, HubError, Name, Need, Result};
use job::DownloadJob;
use shared::Shared;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What a download tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A remark.
    Note(&'a str),
    /// Bytes are there.
    Bytes {
        /// Name of the file that is being loaded.
        file: &'a str,
        /// Bytes of the whole download that are there.
        done: u64,
        /// Bytes of the whole download.
        total: u64,
    },
}

/// Who watches a download.
pub trait Watch {
    /// Hears of something.
    fn tell(&self, progress: &Progress<'_>);

    /// Whether the download goes on; asked several times a second.
    fn goes_on(&self) -> bool;
}

/// How long and how much is put up with.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time for a connection.
    pub connect: Duration,
    /// Time for the headers of an answer; an answer that is no file may take three times as long.
    pub answer: Duration,
    /// Over so much time at least `bytes_per_second` must come on average.
    pub stall: Duration,
    /// The slowest connection that is put up with.
    pub bytes_per_second: u64,
    /// Attempts without progress, for what can pass.
    pub attempts: u32,
    /// What is waited before the first further attempt; twice as long before each after it.
    pub pause: Duration,
    /// The longest wait, whatever the hub asks for.
    pub longest_pause: Duration,
    /// Another process that loads the same file is waited for while its file grows, and so long
    /// after that.
    pub lock: Duration,
    /// Largest listing of files in bytes.
    pub listing: u64,
    /// Bytes that are free on the disk of a folder, if that can be told.
    pub free_space: fn(&Path) -> Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            bytes_per_second: 1000,
            attempts: 4,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            lock: Duration::from_secs(60),
            listing: 16_000_000,
            free_space: |path| fs4::available_space(path).ok(),
        }
    }
}

enum Message {
    Note(String),
    Bytes { file: String, done: u64, total: u64 },
    Done(Result<PathBuf>),
}

/// How often the watching thread looks.
const TICK: Duration = Duration::from_millis(50);
/// How long the downloading thread has to notice that it is stopped.
const FAREWELL: Duration = Duration::from_millis(500);

/// Downloads what of a model is not in the cache yet, and gives its snapshot.
///
/// # Errors
/// Those of [`ErrorKind`].
pub fn download(
    name: &Name,
    need: Need,
    environment: &Environment,
    limits: &Limits,
    watch: &dyn Watch,
) -> Result<PathBuf> {
    let (sender, receiver) = channel();
    let shared = Arc::new(Shared::default());
    let job = DownloadJob::new(name, environment, limits, Arc::clone(&shared), sender.clone())
        .map_err(|error| error.map_texts(|text| environment.without_secrets(text)))?;
    let failed = |source| HubError::new(ErrorKind::Failed, format!("no thread: {source}"));
    let worker = std::thread::Builder::new()
        .name("download".to_owned())
        .spawn(move || {
            let done = job.run(need);
            let _ = sender.send(Message::Done(done));
        })
        .map_err(failed)?;
    let mut pace = Pace::new(limits);
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(Message::Done(result)) => {
                let _ = worker.join();
                return result
                    .map_err(|error| error.map_texts(|text| environment.without_secrets(text)));
            }
            Ok(Message::Note(text)) => {
                watch.tell(&Progress::Note(&environment.without_secrets(&text)));
            }
            Ok(Message::Bytes { file, done, total }) => {
                watch.tell(&Progress::Bytes { file: &file, done, total });
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(HubError::new(ErrorKind::Failed, "the download ended unexpectedly"));
            }
        }
        if !watch.goes_on() {
            shared.stop();
            // It notices soon, except where it waits for a name or a connection.
            let until = Instant::now() + FAREWELL;
            while Instant::now() < until {
                if let Ok(Message::Done(_)) = receiver.recv_timeout(TICK) {
                    break;
                }
            }
            return Err(HubError::new(ErrorKind::Cancelled, "interrupted"));
        }
        if pace.is_too_slow(&shared) {
            shared.stall();
        }
    }
}

/// Whether enough comes while the network is waited for.
struct Pace {
    stall: Duration,
    least: u64,
    looked: Instant,
    waited: Duration,
    received: u64,
}

impl Pace {
    fn new(limits: &Limits) -> Self {
        let least = limits.stall.as_secs_f64() * limits.bytes_per_second as f64;
        Self {
            stall: limits.stall,
            least: least as u64,
            looked: Instant::now(),
            waited: Duration::ZERO,
            received: 0,
        }
    }

    fn is_too_slow(&mut self, shared: &Shared) -> bool {
        let now = Instant::now();
        let elapsed = now - std::mem::replace(&mut self.looked, now);
        if !shared.is_waiting() {
            return false;
        }
        self.waited += elapsed;
        if self.waited < self.stall {
            return false;
        }
        let received = shared.received();
        let slow = received.saturating_sub(self.received) < self.least;
        (self.waited, self.received) = (Duration::ZERO, received);
        slow
    }
}
