//! Reading a file here and there without asking the system for each piece.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};

/// A file that is read in blocks: tables of symbols are read name by name.
pub(crate) struct Blocks {
    file: File,
    length: u64,
    at: u64,
    block: Vec<u8>,
    /// Where the block begins.
    start: u64,
}

impl Blocks {
    const SIZE: u64 = 1 << 16;

    pub(crate) fn new(file: File, length: u64) -> Self {
        Self { file, length, at: 0, block: Vec::new(), start: 0 }
    }

    /// Reads the block that begins at `start`, in as few calls as the system allows: `read_to_end`
    /// would begin with small ones.
    fn fill(&mut self) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.start))?;
        self.block.resize(Self::SIZE as usize, 0);
        let mut filled = 0;
        while filled < self.block.len() {
            match self.file.read(&mut self.block[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.block.clear();
                    return Err(error);
                }
            }
        }
        self.block.truncate(filled);
        Ok(())
    }

    /// The first block, which tells what kind of file it is.
    pub(crate) fn beginning(&mut self) -> std::io::Result<&[u8]> {
        self.at = 0;
        self.rest()
    }

    /// What the block has from the present position on; a new block where it has nothing.
    fn rest(&mut self) -> std::io::Result<&[u8]> {
        let end = self.start + self.block.len() as u64;
        if !(self.start..end).contains(&self.at) {
            self.start = self.at - self.at % Self::SIZE;
            self.fill()?;
        }
        let inside = usize::try_from(self.at - self.start).unwrap_or(usize::MAX);
        Ok(self.block.get(inside..).unwrap_or_default())
    }
}

impl object::read::ReadCacheOps for Blocks {
    fn len(&mut self) -> std::result::Result<u64, ()> {
        Ok(self.length)
    }

    fn seek(&mut self, position: u64) -> std::result::Result<u64, ()> {
        self.at = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::result::Result<usize, ()> {
        let rest = self.rest().map_err(drop)?;
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count as u64;
        Ok(count)
    }

    fn read_exact(&mut self, mut buffer: &mut [u8]) -> std::result::Result<(), ()> {
        while !buffer.is_empty() {
            match object::read::ReadCacheOps::read(self, buffer)? {
                0 => return Err(()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::read::ReadCacheOps as _;

    #[test]
    fn pieces_are_those_of_the_file() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let mut blocks = Blocks::new(file, bytes.len() as u64);
        for (start, length) in [(0, 10), (65_530, 20), (199_990, 10), (3, 150_000), (70_000, 0)] {
            let mut piece = vec![0; length];
            blocks.seek(start as u64).unwrap();
            blocks.read_exact(&mut piece).unwrap();
            assert_eq!(piece, bytes[start..start + length]);
        }
        for start in [199_999, 200_000, 1 << 40] {
            blocks.seek(start).unwrap();
            assert!(blocks.read_exact(&mut [0; 2]).is_err());
        }
        // A file that was cut short meanwhile.
        blocks.file.set_len(100).unwrap();
        blocks.seek(180_000).unwrap();
        assert!(blocks.read_exact(&mut [0; 2]).is_err());
    }
}
