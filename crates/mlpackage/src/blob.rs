//! Reading a weight file: blob storage version 2, memory-mapped.
//!
//! COREML_FORMAT section 7. A file is a 64-byte header (count, version) and records: 64 bytes of
//! metadata at an aligned offset, and the data, usually right after it. Programs name a record by
//! the offset of its metadata.

use crate::blob_type::BlobType;
use crate::error::{ErrorKind, PackageError, Result};
use crate::paths;
use memmap2::Mmap;
use std::path::{Path, PathBuf};

/// Alignment of headers, metadata and data, and the size of the first two.
pub(crate) const ALIGNMENT: u64 = 64;
/// First word of every record's metadata.
pub(crate) const SENTINEL: u32 = 0xDEAD_BEEF;
/// Version of the format in the header.
pub(crate) const VERSION: u32 = 2;

/// A weight file, mapped into memory.
///
/// The file must not change while it is open: on most systems a change shows in the mapping, and
/// reading past a shortened end kills the process. Packages are therefore replaced, not edited.
#[derive(Debug)]
pub struct BlobFile {
    path: PathBuf,
    map: Mmap,
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
    /// Maps a weight file and checks its header. Records are checked when they are asked for.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = paths::open_regular(path)?;
        // SAFETY: the mapping is read-only; the file may not be changed while it is open, as the
        // type's documentation says, which no program can enforce.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }
            .map_err(|error| PackageError::io(path, "cannot map", &error))?;
        let wrong = |reason: String| PackageError::new(ErrorKind::Weights, path, reason);

        if map.starts_with(b"version https://git-lfs") {
            return Err(wrong("this is a Git LFS pointer, not the weights".to_owned())
                .with_hint("fetch the file itself with `git lfs pull`"));
        }
        let Some(header) = map.get(..ALIGNMENT as usize) else {
            return Err(wrong(format!(
                "truncated: {} bytes, but the header alone has {ALIGNMENT}",
                map.len()
            )));
        };
        let count = u32_at(header, 0);
        let version = u32_at(header, 4);
        if version != VERSION {
            return Err(wrong(format!("blob storage version {version}, expected {VERSION}"))
                .with_hint("only weight files of ML Programs can be read"));
        }
        if u64::from(count) > map.len() as u64 / ALIGNMENT - 1 {
            return Err(wrong(format!(
                "truncated: the header announces {count} records, but the file has only {} bytes",
                map.len()
            ))
            .with_hint("copy or download the package again"));
        }
        Ok(Self { path: path.to_owned(), map, count })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of records that the header announces.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Size of the file in bytes.
    pub fn size_in_bytes(&self) -> u64 {
        self.map.len() as u64
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
        let metadata =
            offset.checked_add(ALIGNMENT).filter(|end| *end <= file_size).and_then(|end| {
                self.map.get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?)
            });
        let Some(metadata) = metadata else {
            return Err(wrong(format!("past the end of the file, which has {file_size} bytes"))
                .with_hint("the weight file is truncated, or belongs to another model"));
        };
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
            // The file is far below 2^60 bytes, since it is mapped: the product cannot overflow.
            _ => {
                padding_bits < 8
                    && (size_in_bytes * 8)
                        .checked_sub(padding_bits)
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

    /// The data of a record of this file. Empty if the record is of another, longer file.
    pub fn bytes(&self, record: &BlobRecord) -> &[u8] {
        let range = usize::try_from(record.data_offset).ok().and_then(|start| {
            Some(start..start.checked_add(usize::try_from(record.size_in_bytes).ok()?)?)
        });
        range.and_then(|range| self.map.get(range)).unwrap_or_default()
    }

    /// Gives the memory behind the mapping back to the system, which reads what is asked for again
    /// when it is. Whoever walks over a large file calls this now and then, so that not all of it
    /// counts as memory of the process. Does nothing where the system has no such call.
    pub fn release(&self) {
        #[cfg(unix)]
        {
            // SAFETY: the mapping is of a file and read-only, so that no page differs from the file:
            // one that is dropped comes back with the same bytes, also under a borrowed slice.
            #[allow(unsafe_code)]
            let released = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            // Where that fails, nothing is lost but memory.
            let _ = released;
        }
    }

    /// The data as elements of `T`, such as `half::f16`. The size of `T` must be that of the
    /// record's element (for sub-byte types: one byte).
    pub fn values<T: bytemuck::AnyBitPattern>(&self, record: &BlobRecord) -> Result<&[T]> {
        let wrong = |reason: String| {
            PackageError::new(
                ErrorKind::Usage,
                &self.path,
                format!("record at offset {}: {reason}", record.offset),
            )
        };
        let width = (record.blob_type.bits() as usize).div_ceil(8);
        if size_of::<T>() != width {
            return Err(wrong(format!(
                "{} has elements of {width} bytes, asked for {}",
                record.blob_type,
                size_of::<T>()
            )));
        }
        bytemuck::try_cast_slice(self.bytes(record)).map_err(|error| wrong(error.to_string()))
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
