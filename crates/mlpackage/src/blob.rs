//! Reading a weight file: blob storage version 2, by position.
//!
//! COREML_FORMAT section 7. A file is a 64-byte header (count, version) and records: 64 bytes of
//! metadata at an aligned offset, and the data, usually right after it. Programs name a record by
//! the offset of its metadata.

use crate::blob_type::BlobType;
use crate::error::{ErrorKind, PackageError, Result};
use crate::paths;
use std::fs::{File, Metadata};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Alignment of headers, metadata and data, and the size of the first two.
pub(crate) const ALIGNMENT: u64 = 64;
/// First word of every record's metadata.
pub(crate) const SENTINEL: u32 = 0xDEAD_BEEF;
/// Version of the format in the header.
pub(crate) const VERSION: u32 = 2;

/// A weight file, open for reading from several threads at once.
///
/// It is read by position and never mapped: what is read does not stay as memory of the process,
/// and a file that another process cuts short gives an error, where a map would end the process.
#[derive(Debug)]
pub struct BlobFile {
    path: PathBuf,
    file: File,
    opened: Metadata,
    count: u32,
}

/// Where one blob lies in its file. All values were checked against the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRecord {
    offset: u64,
    blob_type: BlobType,
    size_in_bytes: u64,
    data_offset: u64,
    padding_bits: u64,
}

impl BlobRecord {
    /// Offset of the metadata: the number by which programs name the record.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Element type.
    pub fn blob_type(&self) -> BlobType {
        self.blob_type
    }

    /// Size of the data in bytes.
    pub fn size_in_bytes(&self) -> u64 {
        self.size_in_bytes
    }

    /// Offset of the first byte of data in the file.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// Unused high bits of the last byte.
    pub fn padding_bits(&self) -> u64 {
        self.padding_bits
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        // Divided in two steps, so that no size overflows.
        let bits = u64::from(self.blob_type.bits());
        match bits {
            16 | 32 => self.size_in_bytes / (bits / 8),
            _ => {
                let total = u128::from(self.size_in_bytes) * 8 - u128::from(self.padding_bits);
                u64::try_from(total / u128::from(bits)).unwrap_or(u64::MAX)
            }
        }
    }
}

impl BlobFile {
    /// Opens a weight file and checks its header. Records are checked when they are asked for.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = paths::open_regular(path)?;
        let metadata =
            file.metadata().map_err(|error| PackageError::reading(path, "cannot open", &error))?;
        let size = metadata.len();
        let mut opened = Self { path: path.to_owned(), file, opened: metadata, count: 0 };
        let wrong = |reason: String| PackageError::new(ErrorKind::Weights, path, reason);
        let mut header = [0; ALIGNMENT as usize];
        let there = size.min(ALIGNMENT) as usize;
        opened.read_exact(0, &mut header[..there])?;
        if anemll_files::is_lfs_pointer(&header) {
            return Err(wrong("this is a Git LFS pointer, not the weights".to_owned())
                .with_hint("fetch the file itself with `git lfs pull`"));
        }
        if size < ALIGNMENT {
            return Err(wrong(format!(
                "truncated: {size} bytes, but the header alone has {ALIGNMENT}"
            )));
        }
        let count = u32_at(&header, 0);
        let version = u32_at(&header, 4);
        if version != VERSION {
            return Err(wrong(format!("blob storage version {version}, expected {VERSION}"))
                .with_hint("only weight files of ML Programs can be read"));
        }
        if u64::from(count) > size / ALIGNMENT - 1 {
            return Err(wrong(format!(
                "truncated: the header announces {count} records, but the file has only {size} \
                 bytes"
            ))
            .with_hint("copy or download the package again"));
        }
        opened.count = count;
        Ok(opened)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the system said of the file when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.opened
    }

    /// Number of records that the header announces.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Size of the file in bytes, as it was when it was opened.
    pub fn size_in_bytes(&self) -> u64 {
        self.opened.len()
    }

    /// Reads and checks the metadata at `offset`: aligned, inside the file, sentinel, known type,
    /// data aligned and inside the file, size and padding that fit the type.
    pub fn record(&self, offset: u64) -> Result<BlobRecord> {
        let file_size = self.size_in_bytes();
        let wrong = |reason: String| {
            PackageError::new(
                ErrorKind::Weights,
                &self.path,
                format!("record at offset {offset}: {reason}"),
            )
        };
        if !offset.is_multiple_of(ALIGNMENT) {
            return Err(wrong(format!("not a multiple of {ALIGNMENT}")));
        }
        if offset == 0 {
            return Err(wrong("this is the file's header".to_owned()));
        }
        if offset.checked_add(ALIGNMENT).is_none_or(|end| end > file_size) {
            return Err(wrong(format!("past the end of the file, which has {file_size} bytes"))
                .with_hint("the weight file is truncated, or belongs to another model"));
        }
        let mut metadata = [0; ALIGNMENT as usize];
        self.read_exact(offset, &mut metadata)?;
        let metadata = &metadata;
        let sentinel = u32_at(metadata, 0);
        if sentinel != SENTINEL {
            return Err(wrong(format!("no record starts here (sentinel is {sentinel:#010x})"))
                .with_hint("the weight file is damaged, or belongs to another model"));
        }
        let code = u32_at(metadata, 4);
        let Some(blob_type) = BlobType::from_code(code) else {
            return Err(wrong(format!("unknown element type {code}")));
        };
        let size_in_bytes = u64_at(metadata, 8);
        let data_offset = u64_at(metadata, 16);
        let padding_bits = u64_at(metadata, 24);
        if !data_offset.is_multiple_of(ALIGNMENT) || data_offset == 0 {
            return Err(wrong(format!("data offset {data_offset} is not a place for data")));
        }
        let data_end = data_offset.checked_add(size_in_bytes).filter(|end| *end <= file_size);
        let Some(data_end) = data_end else {
            return Err(wrong(format!(
                "{size_in_bytes} bytes at {data_offset} end past the file, which has {file_size}"
            ))
            .with_hint("the weight file is truncated: copy or download it again"));
        };
        if data_offset < offset + ALIGNMENT && data_end > offset {
            return Err(wrong(format!("its data at {data_offset} covers its own metadata")));
        }
        let bits = u64::from(blob_type.bits());
        let fits = match bits {
            8 | 16 | 32 => padding_bits == 0 && size_in_bytes.is_multiple_of(bits / 8),
            _ => {
                padding_bits < 8
                    && size_in_bytes
                        .checked_mul(8)
                        .and_then(|all| all.checked_sub(padding_bits))
                        .is_some_and(|used| used.is_multiple_of(bits))
            }
        };
        if !fits {
            return Err(wrong(format!(
                "{size_in_bytes} bytes with {padding_bits} bits of padding hold no whole number \
                 of {blob_type} elements"
            )));
        }
        Ok(BlobRecord { offset, blob_type, size_in_bytes, data_offset, padding_bits })
    }

    /// The data of a record of this file, all of it.
    ///
    /// # Errors
    /// Those of [`Self::read_at`], and where there is not so much memory.
    pub fn read(&self, record: &BlobRecord) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let reserved = usize::try_from(record.size_in_bytes)
            .ok()
            .filter(|size| bytes.try_reserve_exact(*size).is_ok());
        let Some(size) = reserved else {
            return Err(PackageError::new(
                ErrorKind::Io,
                &self.path,
                format!(
                    "no memory for the {} bytes of the record at offset {}",
                    record.size_in_bytes, record.offset
                ),
            ));
        };
        bytes.resize(size, 0);
        self.read_at(record, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `buffer` with the data of a record from its byte `start` on.
    ///
    /// # Errors
    /// A piece that is not inside the record; a file that something wrote to since it was opened.
    pub fn read_at(&self, record: &BlobRecord, start: u64, buffer: &mut [u8]) -> Result<()> {
        let end = start.checked_add(buffer.len() as u64);
        let inside = end.is_some_and(|end| end <= record.size_in_bytes);
        let offset = record.data_offset.checked_add(start).filter(|_| inside);
        let Some(offset) = offset else {
            return Err(PackageError::new(
                ErrorKind::Usage,
                &self.path,
                format!("record at offset {}: a piece is not inside it", record.offset),
            ));
        };
        self.read_exact(offset, buffer)?;
        self.check_unchanged()
    }

    /// That the file is the one that was opened: what is read now must not be of other weights than
    /// what was read before.
    fn check_unchanged(&self) -> Result<()> {
        let failed = |error| PackageError::reading(&self.path, "cannot read", &error);
        let now = self.file.metadata().map_err(failed)?;
        let times = (self.opened.modified().ok(), now.modified().ok());
        if now.len() == self.opened.len() && times.0 == times.1 {
            return Ok(());
        }
        Err(PackageError::new(
            ErrorKind::Weights,
            &self.path,
            "something wrote to the file since it was opened",
        )
        .with_hint("wait until that is done, and run again"))
    }

    fn read_exact(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        anemll_files::read_exact_at(&self.file, buffer, offset).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                return PackageError::new(
                    ErrorKind::Weights,
                    &self.path,
                    format!(
                        "the file became shorter than the {} bytes that it had when it was opened",
                        self.opened.len()
                    ),
                )
                .with_hint(
                    "something else is writing to it: wait until that is done, and run again",
                );
            }
            PackageError::reading(&self.path, "cannot read", &error)
        })
    }

    /// Copies the data of a record to `target`, in the system's own way where it has one. The
    /// file's own cursor moves, which positional reads do not look at.
    pub(crate) fn copy_to(
        &self,
        record: &BlobRecord,
        target: &mut BufWriter<File>,
    ) -> std::io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(record.data_offset))?;
        let copied = std::io::copy(&mut file.take(record.size_in_bytes), target)?;
        if copied == record.size_in_bytes {
            Ok(())
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Walks over the records in file order, as many as the header announces. Ends after the
    /// first error.
    pub fn records(&self) -> Records<'_> {
        Records { file: self, next: ALIGNMENT, left: self.count }
    }
}

/// Iterator of [`BlobFile::records`].
#[derive(Debug)]
pub struct Records<'a> {
    file: &'a BlobFile,
    next: u64,
    left: u32,
}

impl Iterator for Records<'_> {
    type Item = Result<BlobRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.file.record(self.next);
        match &record {
            Ok(record) => {
                // A record whose data lies before it borrows the bytes of another one.
                self.next = if record.data_offset > record.offset {
                    (record.data_offset + record.size_in_bytes).next_multiple_of(ALIGNMENT)
                } else {
                    record.offset + ALIGNMENT
                };
            }
            Err(_) => self.left = 0,
        }
        Some(record)
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlobWriter;

    #[test]
    fn pieces_and_copies_are_the_records() {
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
        let file = BlobFile::open(&first).unwrap();
        let record = file.record(offsets[1]).unwrap();
        let mut piece = [0; 7];
        file.read_at(&record, 11, &mut piece).unwrap();
        assert_eq!(piece, data[11..18]);
        assert_eq!(file.read(&record).unwrap(), data);
        for start in [194, 200, u64::MAX] {
            let error = file.read_at(&record, start, &mut piece).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{start}");
        }

        let mut writer = BlobWriter::create(&second).unwrap();
        for offset in offsets {
            let record = file.record(offset).unwrap();
            assert_eq!(writer.copy(&file, &record).unwrap(), offset);
        }
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());

        // Other bytes in place of the same number.
        let original = std::fs::read(&first).unwrap();
        let later = file.metadata().modified().unwrap() + std::time::Duration::from_secs(1);
        std::fs::write(&first, vec![7; original.len()]).unwrap();
        File::options().write(true).open(&first).unwrap().set_modified(later).unwrap();
        let error = file.read(&record).unwrap_err();
        assert!(error.reason().contains("wrote to the file"), "{error}");
        std::fs::OpenOptions::new().write(true).open(&first).unwrap().set_len(300).unwrap();
        let error = file.read(&record).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Weights, first.as_path()));
        assert!(error.reason().contains("became shorter"), "{error}");
        let mut writer = BlobWriter::create(folder.path().join("c")).unwrap();
        let error = writer.copy(&file, &record).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(writer.finish().is_err(), "what came of it is not a weight file");
    }
}
