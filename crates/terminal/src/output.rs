//! Standard output, and how it is kept from libraries that print.
//!
//! What a command prints may be read by a program, or be a terminal. A library in this process can
//! write to it as well. After [`keep_output`], the process's standard output is a pipe whose lines are told
//! on standard error as what they are, and [`Output`] alone writes to where it went before. Only Unix
//! systems let a process do that; elsewhere nothing changes.

use std::io::{IsTerminal as _, Write};

/// Standard output, as it was when the program started.
#[derive(Debug, Default)]
pub struct Output(());

/// Standard output, as it was when the program started.
pub fn stdout() -> Output {
    Output(())
}

impl Output {
    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        match kept::own() {
            Some(own) => own.is_terminal(),
            None => std::io::stdout().is_terminal(),
        }
    }

    /// Whether texts have colours there.
    pub(crate) fn colors(&self) -> anstream::ColorChoice {
        match kept::own() {
            Some(own) => anstream::AutoStream::choice(own),
            None => anstream::AutoStream::choice(&std::io::stdout()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match kept::own() {
            Some(mut own) => own.write(bytes),
            None => std::io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match kept::own() {
            Some(mut own) => own.flush(),
            None => std::io::stdout().flush(),
        }
    }
}

pub use kept::{keep_output, release_output, with_process_output};

/// Lines of libraries that are told; the rest is counted.
#[cfg(unix)]
const TOLD: u64 = 20;
/// Bytes of such a line that are told.
#[cfg(unix)]
const WIDTH: usize = 300;

/// Tells the lines that come from a pipe, until it is closed.
#[cfg(unix)]
fn tell_lines(mut pipe: impl std::io::Read) {
    let (mut line, mut count) = (Vec::new(), 0);
    let mut end = |line: &mut Vec<u8>| {
        count += 1;
        if count <= TOLD {
            let text = String::from_utf8_lossy(line).into_owned();
            crate::tell(&format!("note: a plugin wrote to standard output: {}", text.trim_end()));
        }
        line.clear();
    };
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut buffer) {
        for byte in &buffer[..read] {
            match byte {
                b'\n' => end(&mut line),
                _ if line.len() < WIDTH => line.push(*byte),
                _ => {}
            }
        }
    }
    if !line.is_empty() {
        end(&mut line);
    }
    if count > TOLD {
        let more = count - TOLD;
        crate::tell(&format!("note: plugins wrote {more} more lines to standard output"));
    }
}

#[cfg(unix)]
mod kept {
    use std::fs::File;
    use std::io::{PipeWriter, Write as _};
    use std::os::fd::AsFd as _;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    struct Kept {
        /// Where standard output went before.
        own: File,
        /// What libraries write to, and the end of who reads it.
        pipe: Mutex<Option<(PipeWriter, Receiver<()>)>>,
    }

    static KEPT: OnceLock<Kept> = OnceLock::new();

    pub(super) fn own() -> Option<&'static File> {
        KEPT.get().map(|kept| &kept.own)
    }

    /// From now on, standard output is [`Output`](super::Output)'s alone.
    ///
    /// # Errors
    /// Where the system does not allow it, all is as before.
    pub fn keep_output() -> std::io::Result<()> {
        if KEPT.get().is_some() {
            return Ok(());
        }
        let mut standard = std::io::stdout().lock();
        standard.flush()?;
        let own = File::from(standard.as_fd().try_clone_to_owned()?);
        let (reader, writer) = std::io::pipe()?;
        let (ended, end) = channel();
        std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            super::tell_lines(reader);
            let _ = ended.send(());
        })?;
        rustix::stdio::dup2_stdout(&writer)?;
        let pipe = Mutex::new(Some((writer, end)));
        let _ = KEPT.set(Kept { own, pipe });
        Ok(())
    }

    /// Gives standard output back, when no library writes any more, and waits a moment until all
    /// that came is told.
    pub fn release_output() {
        let Some(kept) = KEPT.get() else { return };
        let pipe = kept.pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((writer, end)) = pipe
            && rustix::stdio::dup2_stdout(&kept.own).is_ok()
        {
            drop(writer);
            // A process that a library has started may hold the other end for ever.
            let _ = end.recv_timeout(Duration::from_millis(500));
        }
    }

    /// Calls what needs the terminal as the process's standard output, such as an editor of lines.
    pub fn with_process_output<R>(call: impl FnOnce() -> R) -> R {
        let Some(kept) = KEPT.get() else { return call() };
        let pipe = kept.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = pipe.is_some() && rustix::stdio::dup2_stdout(&kept.own).is_ok();
        let result = call();
        if let (true, Some((writer, _))) = (lent, &*pipe) {
            let _ = rustix::stdio::dup2_stdout(writer);
        }
        result
    }
}

#[cfg(not(unix))]
mod kept {
    pub(super) fn own() -> Option<&'static std::fs::File> {
        None
    }

    /// From now on, standard output is [`Output`](super::Output)'s alone; not on this system.
    ///
    /// # Errors
    /// None.
    pub fn keep_output() -> std::io::Result<()> {
        Ok(())
    }

    /// Gives standard output back.
    pub fn release_output() {}

    /// Calls what needs the terminal as the process's standard output, such as an editor of lines.
    pub fn with_process_output<R>(call: impl FnOnce() -> R) -> R {
        call()
    }
}
