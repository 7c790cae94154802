//! Where the bytes of a file come from.

use std::fs::File;
use std::io;

/// Bytes that can be read at any place.
pub trait Source {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// Those of the system, and `UnexpectedEof` where there are not as many bytes.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        anemll_files::read_exact_at(self, buffer, offset)
    }
}

impl Source for [u8] {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = start.checked_add(buffer.len()).and_then(|end| self.get(start..end));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
