//! Reading weight data in pieces, without mapping the file.
//!
//! Pages of a mapping count as the process's memory; pieces read into a buffer do not stay.

use crate::blob::BlobRecord;
use crate::error::{ErrorKind, PackageError, Result};
use crate::paths;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// A weight file open for reading from several threads at once.
#[derive(Debug)]
pub struct BlobReader {
    path: PathBuf,
    file: File,
}

impl BlobReader {
    /// Opens a regular file; its header is not looked at.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Ok(Self { path: path.to_owned(), file: paths::open_regular(path)? })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `buffer` with the data of a record from its byte `start` on.
    ///
    /// Errors: a piece that is not inside the record, a file that became shorter.
    pub fn read_at(&self, record: &BlobRecord, start: u64, buffer: &mut [u8]) -> Result<()> {
        let inside =
            start.checked_add(buffer.len() as u64).is_some_and(|end| end <= record.size_in_bytes());
        // The record's own end was checked against the size of a file: the sum does not overflow.
        let offset = record.data_offset().checked_add(start).filter(|_| inside);
        let Some(offset) = offset else {
            return Err(PackageError::new(
                ErrorKind::Usage,
                &self.path,
                format!("record at offset {}: a piece is not inside it", record.offset()),
            ));
        };
        read_exact_at(&self.file, offset, buffer)
            .map_err(|error| PackageError::io(&self.path, "cannot read", &error))
    }
}

impl BlobReader {
    /// Copies the data of a record to `target`, in the system's own way where it has one. The
    /// file's own cursor moves, which positional reads do not look at.
    pub(crate) fn copy_to(
        &self,
        record: &BlobRecord,
        target: &mut BufWriter<File>,
    ) -> std::io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(record.data_offset()))?;
        let copied = std::io::copy(&mut file.take(record.size_in_bytes()), target)?;
        if copied == record.size_in_bytes() {
            Ok(())
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlobFile, BlobType, BlobWriter};

    #[test]
    fn pieces_are_those_of_the_mapping_and_copies_are_equal() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        let mut writer = BlobWriter::create(&first).unwrap();
        let odd = [0b10_1010, 0, 0b1];
        let data: Vec<u8> = (0..200).collect();
        let offsets = [
            writer.append(BlobType::UInt3, 6, &odd).unwrap().offset,
            writer.append(BlobType::Float16, 100, &data).unwrap().offset,
        ];
        writer.finish().unwrap();
        let (file, reader) = (BlobFile::open(&first).unwrap(), BlobReader::open(&first).unwrap());
        let record = file.record(offsets[1]).unwrap();
        let mut piece = [0; 7];
        reader.read_at(&record, 11, &mut piece).unwrap();
        assert_eq!(piece, data[11..18]);
        for start in [194, 200, u64::MAX] {
            let error = reader.read_at(&record, start, &mut piece).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{start}");
        }

        let mut writer = BlobWriter::create(&second).unwrap();
        for offset in offsets {
            let record = file.record(offset).unwrap();
            assert_eq!(writer.copy(&reader, &record).unwrap(), offset);
        }
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());

        std::fs::OpenOptions::new().write(true).open(&first).unwrap().set_len(300).unwrap();
        assert!(reader.read_at(&record, 0, &mut [0; 200]).is_err());
        let mut writer = BlobWriter::create(folder.path().join("c")).unwrap();
        let error = writer.copy(&reader, &record).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(writer.finish().is_err(), "what came of it is no weight file");
    }
}
