//! The progress bars that stand on the terminal, and how others write beside them.

use indicatif::MultiProgress;
use std::sync::OnceLock;

/// All bars of the program.
pub fn all() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Writes to standard error while no bar is in the way.
pub fn suspended<R>(write: impl FnOnce() -> R) -> R {
    all().suspend(write)
}

/// Standard error for the log, which leaves bars whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        suspended(|| std::io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
