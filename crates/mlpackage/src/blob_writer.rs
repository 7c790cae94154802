//! Writing a weight file: blob storage version 2, streamed to disk, equal blobs stored once.
//!
//! COREML_FORMAT section 7.

use crate::blob::BlobFile;
use crate::blob::{ALIGNMENT, BlobRecord, SENTINEL, VERSION};
use crate::blob_type::BlobType;
use crate::error::{ErrorKind, PackageError, Result};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes collected before a system call.
const BUFFER: usize = 1 << 20;
const ZEROS: [u8; ALIGNMENT as usize] = [0; ALIGNMENT as usize];

/// Writes a weight file record by record; its memory does not grow with the data.
///
/// A record of the same element type, element count and bytes as an earlier one is not stored
/// again: its offset is that of the earlier one. Until [`BlobWriter::finish`] the file is not
/// valid, and it is removed when the writer is dropped before.
#[derive(Debug)]
pub struct BlobWriter {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    /// End of what has been written.
    position: u64,
    records: u32,
    deduplicated_records: u64,
    deduplicated_bytes: u64,
    offsets: HashMap<[u8; 32], u64>,
    /// Set while a record is incomplete, and for good after a failed write.
    broken: bool,
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the metadata: what a program refers to.
    pub offset: u64,
    /// Whether the record was there already.
    pub shared: bool,
}

/// What a finished weight file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Records in the file.
    pub records: u32,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Records that were not stored because an equal one was there.
    pub deduplicated_records: u64,
    /// Data bytes of those records.
    pub deduplicated_bytes: u64,
}

impl BlobWriter {
    /// Creates the file, which must not exist.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::options().write(true).create_new(true).open(path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                PackageError::new(ErrorKind::Exists, path, "the weight file exists already")
            } else {
                PackageError::writing(path, "cannot create", &error)
            }
        })?;
        let mut writer = Self {
            path: path.to_owned(),
            file: Some(BufWriter::with_capacity(BUFFER, file)),
            position: 0,
            records: 0,
            deduplicated_records: 0,
            deduplicated_bytes: 0,
            offsets: HashMap::new(),
            broken: false,
        };
        writer.put(&header(0))?;
        Ok(writer)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores `elements` elements, packed as the format wants (little endian, sub-byte elements
    /// from the low bits up, unused high bits zero): `bytes` has ceil(elements * bits / 8) bytes.
    pub fn append(&mut self, blob_type: BlobType, elements: u64, bytes: &[u8]) -> Result<Appended> {
        let size = self.check_size(blob_type, elements)?;
        self.check_bytes(blob_type, elements, size, bytes)?;
        let mut hash = content_hash(blob_type, elements);
        hash.update(bytes);
        let key = hash.finalize().into();
        if let Some(appended) = self.find(&key, size) {
            return Ok(appended);
        }
        let offset = self.start(blob_type, elements, size)?;
        self.put(bytes)?;
        self.complete(key, offset)
    }

    /// Begins a record of `elements` elements whose bytes come in pieces. The writer is borrowed
    /// until the record is finished; a record that is dropped unfinished is taken back.
    pub fn begin(&mut self, blob_type: BlobType, elements: u64) -> Result<RecordWriter<'_>> {
        let size = self.check_size(blob_type, elements)?;
        let rollback = self.position;
        let offset = self.start(blob_type, elements, size)?;
        Ok(RecordWriter {
            hash: content_hash(blob_type, elements),
            blob_type,
            elements,
            size,
            written: 0,
            last: 0,
            rollback,
            offset,
            done: false,
            writer: self,
        })
    }

    /// Stores a record of another file as it is, without looking whether an equal one is there;
    /// returns its offset. Of one reader only one record may be copied at a time.
    pub fn copy(&mut self, source: &BlobFile, record: &BlobRecord) -> Result<u64> {
        let (blob_type, size) = (record.blob_type(), record.size_in_bytes());
        if self.check_size(blob_type, record.elements())? != size {
            let reason = "a record that cannot be copied".to_owned();
            return Err(PackageError::new(ErrorKind::Usage, &self.path, reason));
        }
        let offset = self.start(blob_type, record.elements(), size)?;
        let outcome = match self.file.as_mut() {
            Some(file) => source.copy_to(record, file),
            None => return Err(self.broken_error()),
        };
        outcome.map_err(|error| {
            self.broken = true;
            let what = format!("cannot copy weights from {}", source.path().display());
            PackageError::writing(&self.path, &what, &error)
        })?;
        self.position += size;
        self.records = self.records.checked_add(1).ok_or_else(|| {
            PackageError::new(ErrorKind::Usage, &self.path, "more than 2^32 - 1 records")
        })?;
        Ok(offset)
    }

    /// Writes the number of records, and waits until all is on disk.
    pub fn finish(mut self) -> Result<Summary> {
        if self.broken {
            return Err(self.broken_error());
        }
        let summary = Summary {
            records: self.records,
            bytes: self.position,
            deduplicated_records: self.deduplicated_records,
            deduplicated_bytes: self.deduplicated_bytes,
        };
        let header = header(self.records);
        // Until the end the writer counts as broken, so that dropping it removes the file.
        self.broken = true;
        let outcome = match self.file.as_mut() {
            Some(file) => file
                .seek(SeekFrom::Start(0))
                .and_then(|_| file.write_all(&header))
                .and_then(|()| file.flush())
                .and_then(|()| file.get_ref().sync_all()),
            None => return Err(self.broken_error()),
        };
        outcome.map_err(|error| PackageError::writing(&self.path, "cannot write", &error))?;
        self.file = None;
        Ok(summary)
    }

    fn broken_error(&self) -> PackageError {
        PackageError::new(ErrorKind::Usage, &self.path, "an earlier write of this file failed")
    }

    fn check_size(&self, blob_type: BlobType, elements: u64) -> Result<u64> {
        if self.broken {
            return Err(self.broken_error());
        }
        let wrong = |reason: String| PackageError::new(ErrorKind::Usage, &self.path, reason);
        if elements == 0 {
            return Err(wrong("a weight without elements cannot be stored".to_owned()));
        }
        let size = blob_type.size_in_bytes(elements);
        // i64 bounds what any file system takes, so that the sums below cannot overflow.
        size.filter(|size| *size <= (i64::MAX as u64 - 3 * ALIGNMENT).saturating_sub(self.position))
            .ok_or_else(|| wrong(format!("{elements} elements of {blob_type} are too many")))
    }

    fn check_bytes(
        &self,
        blob_type: BlobType,
        elements: u64,
        size: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let wrong = |reason: String| PackageError::new(ErrorKind::Usage, &self.path, reason);
        if bytes.len() as u64 != size {
            return Err(wrong(format!(
                "{elements} elements of {blob_type} take {size} bytes, got {}",
                bytes.len()
            )));
        }
        match bytes.last() {
            Some(last) => check_padding(blob_type, elements, *last).map_err(wrong),
            None => Ok(()),
        }
    }

    /// An earlier record of the same content, which is then counted as shared.
    fn find(&mut self, key: &[u8; 32], size: u64) -> Option<Appended> {
        let offset = *self.offsets.get(key)?;
        self.deduplicated_records += 1;
        self.deduplicated_bytes += size;
        Some(Appended { offset, shared: true })
    }

    /// Pads to the next place for a record and writes its metadata; returns its offset.
    fn start(&mut self, blob_type: BlobType, elements: u64, size: u64) -> Result<u64> {
        let offset = self.position.next_multiple_of(ALIGNMENT);
        let padding = usize::try_from(offset - self.position).unwrap_or_default();
        self.put(&ZEROS[..padding])?;
        let mut metadata = ZEROS;
        metadata[0..4].copy_from_slice(&SENTINEL.to_le_bytes());
        metadata[4..8].copy_from_slice(&blob_type.code().to_le_bytes());
        metadata[8..16].copy_from_slice(&size.to_le_bytes());
        metadata[16..24].copy_from_slice(&(offset + ALIGNMENT).to_le_bytes());
        metadata[24..32].copy_from_slice(&blob_type.padding_bits(elements).to_le_bytes());
        self.put(&metadata)?;
        Ok(offset)
    }

    fn complete(&mut self, key: [u8; 32], offset: u64) -> Result<Appended> {
        self.records = self.records.checked_add(1).ok_or_else(|| {
            PackageError::new(ErrorKind::Usage, &self.path, "more than 2^32 - 1 records")
        })?;
        self.offsets.insert(key, offset);
        Ok(Appended { offset, shared: false })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let outcome = match self.file.as_mut() {
            Some(file) if !self.broken => file.write_all(bytes),
            _ => return Err(self.broken_error()),
        };
        outcome.map_err(|error| {
            self.broken = true;
            PackageError::writing(&self.path, "cannot write", &error)
        })?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Takes back everything after `position`.
    fn truncate(&mut self, position: u64) -> Result<()> {
        let outcome = match self.file.as_mut() {
            Some(file) if !self.broken => file
                .flush()
                .and_then(|()| file.get_ref().set_len(position))
                .and_then(|()| file.seek(SeekFrom::Start(position)).map(drop)),
            _ => return Err(self.broken_error()),
        };
        outcome.map_err(|error| {
            self.broken = true;
            PackageError::writing(&self.path, "cannot write", &error)
        })?;
        self.position = position;
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Without the flush that dropping the buffer would try: the file goes anyway.
            drop(file.into_parts());
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// One record whose bytes come in pieces; made by [`BlobWriter::begin`].
#[derive(Debug)]
pub struct RecordWriter<'a> {
    writer: &'a mut BlobWriter,
    hash: Sha256,
    blob_type: BlobType,
    elements: u64,
    size: u64,
    written: u64,
    last: u8,
    rollback: u64,
    offset: u64,
    done: bool,
}

impl RecordWriter<'_> {
    /// Adds bytes; more than the record has room for are refused.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(last) = bytes.last() else { return Ok(()) };
        if bytes.len() as u64 > self.size - self.written {
            return Err(self.wrong(format!(
                "{} bytes written to a record of {}",
                self.written.saturating_add(bytes.len() as u64),
                self.size
            )));
        }
        self.writer.put(bytes)?;
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        self.last = *last;
        Ok(())
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.size - self.written
    }

    /// Ends the record, which must be complete. If an equal one is in the file already, the bytes
    /// just written are taken back.
    pub fn finish(mut self) -> Result<Appended> {
        if self.written != self.size {
            return Err(
                self.wrong(format!("{} bytes written to a record of {}", self.written, self.size))
            );
        }
        check_padding(self.blob_type, self.elements, self.last)
            .map_err(|reason| self.wrong(reason))?;
        let key = std::mem::take(&mut self.hash).finalize().into();
        if let Some(appended) = self.writer.find(&key, self.size) {
            self.done = true;
            self.writer.truncate(self.rollback)?;
            return Ok(appended);
        }
        let appended = self.writer.complete(key, self.offset)?;
        self.done = true;
        Ok(appended)
    }

    fn wrong(&self, reason: String) -> PackageError {
        PackageError::new(ErrorKind::Usage, self.writer.path(), reason)
    }
}

impl Drop for RecordWriter<'_> {
    fn drop(&mut self) {
        if !self.done {
            // A failure marks the writer as broken, so its next call reports it.
            let _ = self.writer.truncate(self.rollback);
        }
    }
}

fn header(records: u32) -> [u8; ALIGNMENT as usize] {
    let mut header = ZEROS;
    header[0..4].copy_from_slice(&records.to_le_bytes());
    header[4..8].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// The element count stands for the padding, which is part of a sub-byte record.
fn content_hash(blob_type: BlobType, elements: u64) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(blob_type.code().to_le_bytes());
    hash.update(elements.to_le_bytes());
    hash
}

fn check_padding(blob_type: BlobType, elements: u64, last: u8) -> std::result::Result<(), String> {
    let padding = blob_type.padding_bits(elements);
    // Zero padding shifts by 8: no bit is left to look at.
    if u32::from(last) >> (8 - padding) != 0 {
        return Err(format!(
            "the {padding} unused high bits after {elements} elements of {blob_type} are not zero"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weight.bin");
        let mut writer = BlobWriter::create(&path).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        writer.file = Some(BufWriter::with_capacity(16, full));
        let error = writer.append(BlobType::UInt8, 100, &[7; 100]).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::DiskFull, path.as_path()));
        assert!(error.hint().is_some());
        let error = writer.append(BlobType::UInt8, 1, &[7]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(writer.finish().is_err());
        assert!(!path.exists());
    }

    #[test]
    fn sizes_that_no_file_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = BlobWriter::create(folder.path().join("w")).unwrap();
        for elements in [0, u64::MAX, u64::MAX / 4, i64::MAX as u64 / 4] {
            let error = writer.begin(BlobType::Float32, elements).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{elements}");
        }
        writer.position = i64::MAX as u64 - 10;
        assert!(writer.begin(BlobType::UInt8, 1).is_err());
    }
}
