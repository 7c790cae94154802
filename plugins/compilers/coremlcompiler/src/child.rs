//! Running another program to its end, or until the user has had enough.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anemll_plugin_api::Error;

/// Between two looks at the program and at the user; well below the second in which Ctrl-C works.
const PAUSE: Duration = Duration::from_millis(20);

/// Most bytes of the program's messages that are kept: the last ones, where errors stand.
const MESSAGE_BYTES: u64 = 4000;

/// How a program ended.
pub(crate) struct Ended {
    /// Whether its exit code was 0.
    pub success: bool,
    /// Exit code or signal, in words.
    pub status: String,
    /// The end of what it wrote to stderr.
    pub message: String,
}

/// Why a program did not come to its end.
pub(crate) enum Failure {
    /// It could not be started or watched.
    Io(std::io::Error),
    /// The check said so; the program was ended.
    Stopped(Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Runs until it ends, or until `check` gives an error: then the program is ended first.
pub(crate) fn run(
    command: &mut Command,
    check: &dyn Fn() -> anemll_plugin_api::Result<()>,
) -> Result<Ended, Failure> {
    // A file takes any amount without a thread that empties a pipe.
    let mut messages = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages.try_clone()?);
    let mut child = Running(command.spawn()?);
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        check().map_err(Failure::Stopped)?;
        std::thread::sleep(PAUSE);
    };
    let length = messages.seek(SeekFrom::End(0))?;
    messages.seek(SeekFrom::Start(length.saturating_sub(MESSAGE_BYTES)))?;
    let mut message = Vec::new();
    messages.take(MESSAGE_BYTES).read_to_end(&mut message)?;
    Ok(Ended {
        success: status.success(),
        status: status.to_string(),
        message: String::from_utf8_lossy(&message).trim().to_owned(),
    })
}

/// Runs for no longer than `limit`.
pub(crate) fn run_for(command: &mut Command, limit: Duration) -> std::io::Result<Ended> {
    let start = Instant::now();
    let in_time = || match start.elapsed() < limit {
        true => Ok(()),
        false => Err(Error::cancelled()),
    };
    run(command, &in_time).map_err(|failure| match failure {
        Failure::Io(error) => error,
        Failure::Stopped(_) => std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("it gave no answer in {} seconds", limit.as_secs()),
        ),
    })
}

/// A started program, which does not outlive this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the program has already ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
