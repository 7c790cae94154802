//! The place of all bars on standard error.

use indicatif::MultiProgress;
use std::sync::OnceLock;

/// All bars of the program.
pub(crate) fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Writes to standard error while no bar is in the way.
pub fn beside_bars<R>(write: impl FnOnce() -> R) -> R {
    bars().suspend(write)
}

/// Standard error for the log, which leaves bars whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        beside_bars(|| std::io::Write::write_all(&mut std::io::stderr(), bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::Write::flush(&mut std::io::stderr())
    }
}
