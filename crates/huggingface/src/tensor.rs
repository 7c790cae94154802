//! A tensor of the source model: its type, its shape, and where its bytes are.

use crate::decode::decode;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::info::{SourceType, TensorInfo};
use crate::shard::Shard;
use std::cell::RefCell;
use std::fmt;
use std::path::Path;

/// Bytes of a file that are read at once. A multiple of the width of every type, and small enough
/// for a processor's cache.
pub(crate) const PIECE: usize = 256 << 10;

thread_local! {
    /// What pieces are read into: fresh memory for each would cost more than reading.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A tensor of a usable type, or some rows of one, in a file or in memory. The bytes are little
/// endian, row-major, and need not be aligned.
#[derive(Debug, Clone, Copy)]
pub struct TensorData<'a> {
    pub(crate) file: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) source_type: SourceType,
    /// Shape of the whole tensor.
    pub(crate) full_shape: &'a [u64],
    pub(crate) first_row: u64,
    pub(crate) rows: Option<u64>,
    pub(crate) bytes: Bytes<'a>,
}

/// Where the bytes of a tensor are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bytes<'a> {
    Memory(&'a [u8]),
    /// `length` bytes of a file from `start` on.
    File {
        shard: &'a Shard,
        start: u64,
        length: u64,
    },
    /// `length` bytes from `start` on of what is made while it is read.
    Made {
        values: &'a dyn Made,
        start: u64,
        length: u64,
    },
}

/// The bytes of a tensor that stand in no file as they are, made from some that do.
pub(crate) trait Made: fmt::Debug + Send + Sync {
    /// Fills `buffer`, whole elements, from the byte `start` of the tensor on.
    fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()>;
}

impl Bytes<'_> {
    fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } | Self::Made { length, .. } => *length,
        }
    }

    /// Fills `buffer` from the byte `at` on.
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        match self {
            // Memory is handed out as it is.
            Self::Memory(_) => Ok(()),
            Self::File { shard, start, .. } => shard.read(buffer, start + at),
            Self::Made { values, start, .. } => values.read(start + at, buffer),
        }
    }

    /// The bytes `from..to`; none where there are not as many.
    fn part(&self, from: u64, to: u64) -> Self {
        match *self {
            Self::Memory(bytes) => {
                let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
                let part = range.and_then(|(from, to)| bytes.get(from..to));
                Self::Memory(part.unwrap_or_default())
            }
            Self::File { shard, start, length } => {
                let to = to.min(length);
                let from = from.min(to);
                Self::File { shard, start: start + from, length: to - from }
            }
            Self::Made { values, start, length } => {
                let to = to.min(length);
                let from = from.min(to);
                Self::Made { values, start: start + from, length: to - from }
            }
        }
    }
}

impl<'a> TensorData<'a> {
    /// A tensor that does not come from a file; `name` stands in error messages. The bytes must
    /// be as many as type and shape say.
    pub fn new(
        name: &'a str,
        source_type: SourceType,
        shape: &'a [u64],
        bytes: &'a [u8],
    ) -> Result<Self> {
        let tensor = Self {
            file: Path::new("(memory)"),
            name,
            source_type,
            full_shape: shape,
            first_row: 0,
            rows: shape.first().copied(),
            bytes: Bytes::Memory(bytes),
        };
        let Some(width) = source_type.width() else {
            return Err(tensor.unusable());
        };
        let size = shape.iter().try_fold(width as u64, |size, side| size.checked_mul(*side));
        if size != Some(bytes.len() as u64) {
            return Err(tensor.error(
                ErrorKind::Usage,
                format!("{} bytes do not make a {source_type} tensor {shape:?}", bytes.len()),
            ));
        }
        Ok(tensor)
    }

    /// A tensor of a safetensors file.
    pub(crate) fn of_file(shard: &'a Shard, name: &'a str, info: &'a TensorInfo) -> Self {
        let bytes = Bytes::File { shard, start: info.range.start, length: info.size_in_bytes() };
        Self {
            file: &shard.path,
            name,
            source_type: info.source_type,
            full_shape: &info.shape,
            first_row: 0,
            rows: info.shape.first().copied(),
            bytes,
        }
    }

    /// The bytes `from..to`, whatever the shape is.
    pub(crate) fn part(&self, from: u64, to: u64) -> Self {
        Self { bytes: self.bytes.part(from, to), ..*self }
    }

    /// Name of the tensor.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Element type.
    pub fn source_type(&self) -> SourceType {
        self.source_type
    }

    /// Dimensions, outermost first; the first is the number of chosen rows.
    pub fn shape(&self) -> Vec<u64> {
        let mut shape = self.full_shape.to_vec();
        if let (Some(first), Some(rows)) = (shape.first_mut(), self.rows) {
            *first = rows;
        }
        shape
    }

    /// Size in bytes.
    pub fn size_in_bytes(&self) -> u64 {
        self.bytes.length()
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        let width = self.source_type.width().unwrap_or(1) as u64;
        usize::try_from(self.size_in_bytes() / width).unwrap_or(usize::MAX)
    }

    /// The bytes, from the first to the last, in pieces of whole elements: little endian,
    /// row-major. A file is read piece by piece into memory that the thread keeps for it.
    ///
    /// # Errors
    /// Those of `piece`, and files that cannot be read or were cut short.
    pub fn for_each_piece(&self, mut piece: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Bytes::Memory(bytes) = self.bytes {
            return piece(bytes);
        }
        let (mut start, mut left) = (0, self.bytes.length());
        // A piece that reads another tensor finds the buffer taken, and uses one of its own.
        let mut buffer = BUFFER.with(RefCell::take);
        let mut result = Ok(());
        while left > 0 && result.is_ok() {
            let length = left.min(PIECE as u64);
            buffer.resize(length as usize, 0);
            result = self.bytes.read(start, &mut buffer).and_then(|()| piece(&buffer));
            start += length;
            left -= length;
        }
        BUFFER.with(|kept| kept.replace(buffer));
        result
    }

    /// All bytes, little endian and row-major.
    ///
    /// # Errors
    /// As [`Self::for_each_piece`], and a tensor that does not fit into memory.
    pub fn read(&self) -> Result<Vec<u8>> {
        let size = usize::try_from(self.size_in_bytes()).unwrap_or(usize::MAX);
        let mut bytes = self.reserve(size)?;
        self.for_each_piece(|piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Memory for `count` values made from the tensor.
    pub(crate) fn reserve<T>(&self, count: usize) -> Result<Vec<T>> {
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| {
            self.error(ErrorKind::Io, format!("{count} values do not fit into memory"))
        })?;
        Ok(values)
    }

    /// Whether two tensors have one shape and the same values; types may differ. Ends at the first
    /// difference.
    ///
    /// # Errors
    /// As [`Self::for_each_piece`].
    pub fn has_values_of(&self, other: &TensorData<'_>) -> Result<bool> {
        if self.shape() != other.shape() {
            return Ok(false);
        }
        let width = self.source_type.width().unwrap_or(1);
        let other_width = other.source_type.width().unwrap_or(1);
        let mut first = 0;
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut equal = true;
        let end = self.for_each_piece(|piece| {
            let count = piece.len() / width;
            let range = (first * other_width as u64, (first + count as u64) * other_width as u64);
            let part = TensorData { bytes: other.bytes.part(range.0, range.1), ..*other };
            first += count as u64;
            let mut position = 0;
            part.for_each_piece(|theirs| {
                let count = theirs.len() / other_width;
                let ours = &piece[position * width..(position + count) * width];
                position += count;
                if self.source_type == other.source_type && ours == theirs {
                    return Ok(());
                }
                left.resize(count, 0.0);
                right.resize(count, 0.0);
                decode(self.source_type, ours, &mut left);
                decode(other.source_type, theirs, &mut right);
                if left == right { Ok(()) } else { Err(self.stop()) }
            })
        });
        match end {
            Err(error) if error.kind() == ErrorKind::Cancelled => equal = false,
            end => end?,
        }
        Ok(equal)
    }

    /// What ends a comparison.
    fn stop(&self) -> HuggingFaceError {
        self.error(ErrorKind::Cancelled, "the tensors differ")
    }

    /// The rows `first..end` of axis 0, counted from the first row of `self`.
    pub fn rows(&self, first: u64, end: u64) -> Result<Self> {
        let count = self.rows.unwrap_or(0);
        if first > end || end > count {
            return Err(self.error(
                ErrorKind::Shape,
                format!("rows {first}..{end} asked for, but there are {count}"),
            ));
        }
        // Rows are equally long, and `end <= count` keeps the products inside the bytes.
        let row = self.size_in_bytes().checked_div(count).unwrap_or(0);
        let bytes = self.bytes.part(first * row, end * row);
        Ok(Self { first_row: self.first_row + first, rows: Some(end - first), bytes, ..*self })
    }

    /// The index, in the whole tensor, of the element `flat` of this view.
    pub(crate) fn index_of(&self, flat: usize) -> Vec<u64> {
        let mut rest = flat as u64;
        let mut index = vec![0; self.full_shape.len()];
        for (axis, side) in self.full_shape.iter().enumerate().rev() {
            if axis == 0 {
                index[axis] = rest + self.first_row;
            } else {
                index[axis] = rest % (*side).max(1);
                rest /= (*side).max(1);
            }
        }
        index
    }

    pub(crate) fn error(&self, kind: ErrorKind, reason: impl Into<String>) -> HuggingFaceError {
        HuggingFaceError::new(kind, self.file, reason).with_key(self.name)
    }

    pub(crate) fn unusable(&self) -> HuggingFaceError {
        self.error(
            ErrorKind::Type,
            format!("elements are {}, which cannot be weights", self.source_type),
        )
        .with_hint(
            "save the model as float16, bfloat16 or float32; quantized checkpoints cannot be read",
        )
    }
}
