//! The process in which Apple's package runs an asset: it ends the process on much that is wrong, so it has one
//! of its own.

use super::TIMEOUT;
use anemll_plugin_api::{Error, Result, codes};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const SCRIPT: &str = include_str!("run.py");

/// Largest line of an answer: names and shapes.
const LONGEST_LINE: u64 = 1 << 20;
/// Largest output that is taken.
const LARGEST_OUTPUT: usize = 1 << 30;
/// How much of what the process said on standard error is told.
const TOLD: usize = 1500;

/// What is asked for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Asked<'a> {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) reset: bool,
    pub(super) function: &'a str,
    pub(super) inputs: Vec<Head>,
}

/// A tensor, whose bytes follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) name: String,
    /// As numpy names it.
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    pub(super) bytes: usize,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    outputs: Vec<Head>,
}

/// A process that others may end while somebody waits for it.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<Child>>);

impl Shared {
    pub(super) fn new(child: Child) -> Self {
        Self(Arc::new(Mutex::new(child)))
    }

    fn get(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, and waits for its end.
    pub(super) fn end(&self) -> Option<ExitStatus> {
        let mut child = self.get();
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().ok()
    }

    /// Does what waits for the process, which is ended after `limit`: then its pipes end too, and nobody
    /// waits for ever. The answer comes with whether that was so.
    pub(super) fn within<T>(&self, limit: Duration, work: impl FnOnce() -> T) -> (T, bool) {
        let (done, waits) = channel::<()>();
        let child = self.clone();
        // It does nothing but wait: no work for the threads of the host.
        let watch = std::thread::Builder::new().name("coreai-core".to_owned()).spawn(move || {
            let late = waits.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                let _ = child.get().kill();
            }
            late
        });
        let result = work();
        drop(done);
        let late = watch.is_ok_and(|watch| watch.join().unwrap_or(false));
        (result, late)
    }
}

/// A process that runs one asset.
pub(super) struct Runner {
    child: Shared,
    /// How long an answer may take.
    limit: Duration,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    errors: PathBuf,
}

impl Runner {
    /// Starts this Python with an asset and the unit that is to run it, if one is named; what it says on standard error
    /// goes to a file in `folder`. It answers when the asset is loaded. No answer may take longer than `limit`.
    pub(super) fn start(
        python: &str,
        (asset, unit): (&Path, Option<&str>),
        folder: &Path,
        limit: Duration,
    ) -> Result<Self> {
        let errors = folder.join("errors.txt");
        let unavailable = |message: String, source: &std::io::Error| {
            Error::new(codes::RUNTIME_UNAVAILABLE, message).with_at(python).with_source(source)
        };
        let file = File::create(&errors)
            .map_err(|error| unavailable(format!("cannot write {}", errors.display()), &error))?;
        let mut child = Command::new(python)
            .args(["-c", SCRIPT])
            .arg(asset)
            .args(unit)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(|error| unavailable("this Python does not start".to_owned(), &error))?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new(codes::INTERNAL, "a process has no pipes"));
        };
        let (child, answers) = (Shared::new(child), BufReader::new(answers));
        let mut runner = Self { child, limit, asks, answers, errors };
        let ready = runner.timed(Self::answer);
        ready.map_err(|error| error.with_at(asset.display().to_string()))?;
        Ok(runner)
    }

    /// Asks, and gives what is answered.
    ///
    /// # Errors
    /// [`codes::RUN_FAILED`] where the process ended, with what it said, and where it did not answer in
    /// time.
    pub(super) fn ask(
        &mut self,
        asked: &Asked<'_>,
        parts: &[&[u8]],
    ) -> Result<Vec<(Head, Vec<u8>)>> {
        self.timed(|runner| runner.exchange(asked, parts))
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let (child, limit) = (self.child.clone(), self.limit);
        match child.within(limit, || work(self)) {
            (result, false) => result,
            (_, true) => {
                child.end();
                let text = format!("coreai-core did not answer within {} seconds", limit.as_secs());
                let hint =
                    "large models and many tokens take long there: allow more, in seconds, with";
                Err(Error::new(codes::RUN_FAILED, text).with_hint(format!("{hint} {TIMEOUT}")))
            }
        }
    }

    fn exchange(&mut self, asked: &Asked<'_>, parts: &[&[u8]]) -> Result<Vec<(Head, Vec<u8>)>> {
        let line = serde_json::to_string(asked).map_err(|error| {
            Error::new(codes::INTERNAL, "a question has no JSON").with_source(&error)
        })?;
        let mut send = || -> std::io::Result<()> {
            self.asks.write_all(line.as_bytes())?;
            self.asks.write_all(b"\n")?;
            parts.iter().try_for_each(|part| self.asks.write_all(part))?;
            self.asks.flush()
        };
        let sent = send();
        // Where it could not be sent, the process has ended: reading tells why.
        let answer = self.answer()?;
        sent.map_err(|error| self.ended(&error.to_string()))?;
        let mut outputs = Vec::new();
        for head in answer.outputs {
            if head.bytes > LARGEST_OUTPUT {
                return Err(self.ended("it announces an output that is too large"));
            }
            let mut bytes = vec![0; head.bytes];
            self.answers.read_exact(&mut bytes).map_err(|error| self.ended(&error.to_string()))?;
            outputs.push((head, bytes));
        }
        Ok(outputs)
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = Vec::new();
        let read = (&mut self.answers).take(LONGEST_LINE).read_until(b'\n', &mut line);
        match read {
            Ok(0) => Err(self.ended("it ended without an answer")),
            Err(error) => Err(self.ended(&error.to_string())),
            Ok(_) => serde_json::from_slice(&line).map_err(|error| self.ended(&error.to_string())),
        }
    }

    /// The error of a process that did not do what it was asked for, with the last lines that it said.
    fn ended(&mut self, reason: &str) -> Error {
        // It is of no use any more; killed, it can be waited for.
        let status = self.child.end().map(|status| status.to_string()).unwrap_or_default();
        let said = std::fs::read(&self.errors).unwrap_or_default();
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(TOLD)..]).into_owned();
        let error =
            Error::new(codes::RUN_FAILED, format!("coreai-core failed: {reason} ({status})"));
        match said.trim() {
            "" => error,
            said => error.with_cause(format!("it said: {said}")),
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.child.end();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A program that stands for Python: it answers as this shell script does.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    fn stand_in(folder: &Path, script: &str) -> String {
        let path = folder.join("python");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    fn start(python: &str, folder: &Path, milliseconds: u64) -> Result<Runner> {
        let what = (Path::new("x.aimodel"), None);
        Runner::start(python, what, folder, Duration::from_millis(milliseconds))
    }

    /// Whether it hangs before it is ready, or does not read what it is asked.
    #[test]
    fn a_process_that_does_not_answer_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let python = stand_in(folder.path(), "exec sleep 1000");
        let error = start(&python, folder.path(), 50).map(drop).unwrap_err();
        assert_eq!(error.code, codes::RUN_FAILED);
        assert!(error.message.contains("did not answer within 0 seconds"), "{error:?}");
        assert!(error.hint.unwrap().contains(TIMEOUT));
        let python = stand_in(folder.path(), "echo '{\"ready\":true}'; exec sleep 1000");
        let mut runner = start(&python, folder.path(), 300).unwrap();
        let more_than_a_pipe_takes = vec![0; 1 << 20];
        let error = runner.ask(&Asked::default(), &[&more_than_a_pipe_takes]).unwrap_err();
        assert!(error.message.contains("did not answer"), "{error:?}");
    }

    #[test]
    fn answers_are_read_and_an_end_is_told_with_what_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo '{\"ready\":true}'; read asked\n\
                      echo '{\"outputs\":[{\"name\":\"y\",\"dtype\":\"int8\",\"shape\":[2],\"bytes\":2}]}'\n\
                      printf 'ab'; read asked; echo 'illegal shape' >&2; exit 3";
        let python = stand_in(folder.path(), script);
        let mut runner = start(&python, folder.path(), 60_000).unwrap();
        let outputs = runner.ask(&Asked::default(), &[b"12"]).unwrap();
        assert_eq!((outputs[0].0.name.as_str(), outputs[0].1.as_slice()), ("y", &b"ab"[..]));
        let error = runner.ask(&Asked::default(), &[]).unwrap_err();
        assert_eq!(error.code, codes::RUN_FAILED);
        assert!(error.causes.iter().any(|cause| cause.contains("illegal shape")), "{error:?}");
    }

    #[test]
    fn what_does_not_load_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let python = stand_in(folder.path(), "echo \"$3 does not run on $4\" >&2");
        let what = (Path::new("x.aimodel"), Some("gpu"));
        let started = Runner::start(&python, what, folder.path(), Duration::from_secs(60));
        let error = started.map(drop).unwrap_err();
        assert_eq!(error.code, codes::RUN_FAILED);
        assert_eq!(error.at.as_deref(), Some("x.aimodel"));
        let said = |cause: &String| cause.contains("x.aimodel does not run on gpu");
        assert!(error.causes.iter().any(said), "{error:?}");
    }
}
