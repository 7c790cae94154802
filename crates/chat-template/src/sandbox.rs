//! Where templates are rendered, and what they may use.

use crate::child;
use crate::protocol::ARGUMENT;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Processor time of one conversation, beside that for each message; real templates need some
/// milliseconds.
const TIME: Duration = Duration::from_millis(500);

/// Memory of a template beside the program itself, in bytes.
const MEMORY: u64 = 256 << 20;

/// Whether this program renders when it is asked to, as [`enter`] makes it.
static HAS_ENTRY: AtomicBool = AtomicBool::new(false);

/// Renders for a parent process, when this process was started for that; else tells
/// [`Sandbox::default`] that this program can be started so. To be called first in `main`.
pub fn enter() -> Option<ExitCode> {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT) {
        return Some(child::serve());
    }
    HAS_ENTRY.store(true, Ordering::Relaxed);
    None
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A process of this program, where it called [`enter`]; else a thread.
    Own,
    Program(PathBuf),
    Thread,
}

/// Where templates are rendered: in a process of a program that calls [`enter`], with limits on
/// processor time, memory, stack and output, and without any file; or, where there is no such
/// program, in a thread of this one, where only time, steps and output are limited and a template
/// that was made to do harm can exhaust the stack or the memory of the whole program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    place: Place,
    time: Duration,
    memory: u64,
}

impl Default for Sandbox {
    /// A process of this program if its `main` called [`enter`], else a thread.
    fn default() -> Self {
        Self { place: Place::Own, time: TIME, memory: MEMORY }
    }
}

impl Sandbox {
    /// A process of `program`, whose `main` must call [`enter`].
    pub fn in_program(program: impl Into<PathBuf>) -> Self {
        Self { place: Place::Program(program.into()), ..Self::default() }
    }

    /// A thread of this program.
    pub fn in_thread() -> Self {
        Self { place: Place::Thread, ..Self::default() }
    }

    /// With another limit of time for each conversation: of the processor in a process, ten times
    /// as long by the clock in a thread.
    #[must_use]
    pub fn with_time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// With another limit of memory beside the program itself, in bytes.
    #[must_use]
    pub fn with_memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    pub(crate) fn time(&self) -> Duration {
        self.time
    }

    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// The program to start; none for a thread.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Program(program) => Some(program.clone()),
            Place::Own if HAS_ENTRY.load(Ordering::Relaxed) => own_program(),
            Place::Own | Place::Thread => None,
        }
    }
}

/// This program, also when its file was replaced while it runs.
fn own_program() -> Option<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && link.exists() {
        return Some(link.to_owned());
    }
    std::env::current_exe().ok()
}
