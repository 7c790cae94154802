//! Who renders for this program: a process with limits, or a thread where there is none.

use crate::Sandbox;
use crate::child::{STACK, guarded};
use crate::failure::{Failure, Kind};
use crate::limits::{EXIT_MEMORY, EXIT_TIME};
use crate::protocol::{ARGUMENT, Reply, Request, encode, read_bytes};
use crate::renderer::Renderer;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long an answer may take on a machine that has no time for the process that works, which
/// itself counts processor time.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a process that closed its output may take to end.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// How many times as long a thread may take, of which the clock counts the time of others too.
const THREAD_PATIENCE: u32 = 10;

/// Bytes of standard error that are looked at.
const LAST_WORDS: u64 = 4096;

/// Stack of a thread that renders in this program, which a deep value must not exhaust.
const THREAD_STACK: usize = 4 * STACK;

/// What a template does that is stopped for its time.
const ENDLESS: &str = "it does not come to an end";
/// What a template does that is stopped for its memory.
const GREEDY: &str = "it needs too much memory";
/// What a template does that is stopped for its stack.
const DEEP: &str = "its blocks, calls or values are nested too deeply";

/// One that answers requests about one template.
pub(crate) enum Worker {
    /// A process.
    Process(Process),
    /// A thread.
    Thread(Thread),
}

impl Worker {
    /// Starts a worker that compiles a template.
    pub(crate) fn start(
        sandbox: &Sandbox,
        program: Option<&Path>,
        request: &Request<'_>,
    ) -> Result<Self, Failure> {
        let mut worker = match program {
            Some(program) => Self::Process(Process::start(program)?),
            None => Self::Thread(Thread::start(sandbox.time() * THREAD_PATIENCE)?),
        };
        worker.ask(request)?;
        Ok(worker)
    }

    /// Asks for an answer.
    pub(crate) fn ask(&mut self, request: &Request<'_>) -> Reply {
        let bytes = encode(request).map_err(|error| {
            Failure::new(Kind::Process, None, &format!("the conversation is too long: {error}"))
        })?;
        match self {
            Self::Process(process) => process.ask(bytes),
            Self::Thread(thread) => thread.ask(bytes),
        }
    }

    /// Whether it can still be asked.
    pub(crate) fn is_alive(&mut self) -> bool {
        match self {
            Self::Process(process) => matches!(process.child.try_wait(), Ok(None)),
            Self::Thread(thread) => thread.alive,
        }
    }
}

/// A process of a program, and a thread that writes to it and reads from it.
pub(crate) struct Process {
    child: Child,
    requests: Sender<Vec<u8>>,
    replies: Receiver<io::Result<Option<Vec<u8>>>>,
}

impl Process {
    fn start(program: &Path) -> Result<Self, Failure> {
        let broken = |error: io::Error| {
            let reason = format!("{} cannot be started for it: {error}", program.display());
            Failure::new(Kind::Process, None, &reason)
        };
        let mut command = Command::new(program);
        command
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("RUST_BACKTRACE");
        // Ctrl-C is for the program that waits, not for the process that works for it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        #[cfg(windows)]
        {
            const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
            const CREATE_NO_WINDOW: u32 = 0x0800_0000;
            let flags = CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW;
            std::os::windows::process::CommandExt::creation_flags(&mut command, flags);
        }
        let mut child = command.spawn().map_err(broken)?;
        let (requests, to_write) = channel();
        let (to_send, replies) = channel();
        if let Some((input, output)) = child.stdin.take().zip(child.stdout.take()) {
            let talk = move || talk(input, output, &to_write, &to_send);
            std::thread::Builder::new().spawn(talk).map_err(broken)?;
        }
        Ok(Self { child, requests, replies })
    }

    fn ask(&mut self, request: Vec<u8>) -> Reply {
        // Where nobody listens any more, there is no answer either.
        let _ = self.requests.send(request);
        match self.replies.recv_timeout(PATIENCE) {
            Ok(Ok(Some(bytes))) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                Err(self.garbage(&format!("it does not answer as it should: {error}")))
            }),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(self.garbage(&format!("it does not answer as it should: {error}")))
            }
            Ok(Ok(None) | Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(self.post_mortem()),
            Err(RecvTimeoutError::Timeout) => {
                self.end();
                let seconds = PATIENCE.as_secs();
                let reason = format!("it does not come to an end within {seconds} s");
                Err(Failure::new(Kind::Limit, None, &reason))
            }
        }
    }

    fn garbage(&mut self, reason: &str) -> Failure {
        self.end();
        Failure::new(Kind::Process, None, reason)
    }

    /// Why the process has ended.
    fn post_mortem(&mut self) -> Failure {
        let deadline = Instant::now() + LAST_BREATH;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ => break None,
            }
        };
        self.end();
        let mut words = Vec::new();
        if let Some(errors) = self.child.stderr.take() {
            // What cannot be read tells nothing.
            let _ = errors.take(LAST_WORDS).read_to_end(&mut words);
        }
        let words = String::from_utf8_lossy(&words);
        match status {
            Some(status) => cause(status, &words),
            None => Failure::new(Kind::Process, None, "its process does not answer"),
        }
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the end of a process says about its template.
fn cause(status: ExitStatus, words: &str) -> Failure {
    let limit = |reason: &str| Failure::new(Kind::Limit, None, reason);
    if status.code() == Some(EXIT_TIME.into()) {
        return limit(ENDLESS);
    }
    if status.code() == Some(EXIT_MEMORY.into()) || words.contains("memory allocation of") {
        return limit(GREEDY);
    }
    if words.contains("overflowed its stack") {
        return limit(DEEP);
    }
    by_system(status).map_or_else(
        || Failure::new(Kind::Process, None, &format!("its process ended with {status}")),
        |reason| limit(&reason),
    )
}

/// What the system ended a process for, when it did.
#[cfg(unix)]
fn by_system(status: ExitStatus) -> Option<String> {
    std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| match signal {
        libc::SIGXCPU => ENDLESS.to_owned(),
        // Who else would kill it is the system, when memory is short.
        libc::SIGKILL => GREEDY.to_owned(),
        signal => format!("it crashes the template engine (signal {signal})"),
    })
}

/// What the system ended a process for, when it did.
#[cfg(not(unix))]
fn by_system(status: ExitStatus) -> Option<String> {
    // STATUS_STACK_OVERFLOW; any other exception has a code that begins with a C, too.
    match status.code()? as u32 {
        0xc000_00fd => Some(DEEP.to_owned()),
        code if code >> 28 == 0xc => Some(format!("it crashes the template engine ({code:#x})")),
        _ => None,
    }
}

/// Writes requests and reads answers, until one of both ends.
fn talk(
    mut input: ChildStdin,
    mut output: ChildStdout,
    requests: &Receiver<Vec<u8>>,
    replies: &Sender<io::Result<Option<Vec<u8>>>>,
) {
    for request in requests {
        let reply = input
            .write_all(&request)
            .and_then(|()| input.flush())
            .and_then(|()| read_bytes(&mut output));
        let last = !matches!(reply, Ok(Some(_)));
        if replies.send(reply).is_err() || last {
            return;
        }
    }
}

/// A thread of this program. It cannot be stopped: one that does not come to an end is left alone.
pub(crate) struct Thread {
    requests: Sender<Vec<u8>>,
    replies: Receiver<Reply>,
    time: Duration,
    alive: bool,
}

impl Thread {
    fn start(time: Duration) -> Result<Self, Failure> {
        let (requests, to_answer) = channel::<Vec<u8>>();
        let (to_send, replies) = channel();
        let thread = std::thread::Builder::new().stack_size(THREAD_STACK);
        let answer = move || {
            let mut renderer = None;
            for request in to_answer {
                // The length is for processes.
                let reply = guarded(|| answer(&mut renderer, request.get(4..).unwrap_or_default()));
                if to_send.send(reply).is_err() {
                    return;
                }
            }
        };
        thread.spawn(answer).map_err(|error| {
            Failure::new(Kind::Process, None, &format!("no thread can be started for it: {error}"))
        })?;
        Ok(Self { requests, replies, time, alive: true })
    }

    fn ask(&mut self, request: Vec<u8>) -> Reply {
        let _ = self.requests.send(request);
        self.replies.recv_timeout(self.time).unwrap_or_else(|error| {
            self.alive = false;
            Err(match error {
                RecvTimeoutError::Timeout => Failure::new(Kind::Limit, None, ENDLESS),
                RecvTimeoutError::Disconnected => {
                    Failure::new(Kind::Process, None, "its thread ended")
                }
            })
        })
    }
}

fn answer(renderer: &mut Option<Renderer>, request: &[u8]) -> Reply {
    let request = serde_json::from_slice(request)
        .map_err(|error| Failure::new(Kind::Process, None, &error.to_string()))?;
    match (request, renderer) {
        (Request::Compile { source, tokens, .. }, renderer) => {
            *renderer = Some(Renderer::new(&source, tokens.into_owned())?);
            Ok(String::new())
        }
        (Request::Render { messages, variables }, Some(renderer)) => {
            renderer.render(&messages, &variables)
        }
        (Request::Render { .. }, None) => {
            Err(Failure::new(Kind::Process, None, "there is no template yet"))
        }
    }
}
