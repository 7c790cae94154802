//! Where values come from: stored bytes, and what compressed forms make of them.

use crate::groups::Groups;
use crate::packed::unpack_into;
use anemll_mil::DataType;
use anemll_mil::literal::float8_e4m3;
use anemll_mlpackage::{BlobFile, BlobRecord, PackageError};
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use std::borrow::Cow;
use std::cell::RefCell;

/// Values that are made at once.
pub(crate) const PIECE: usize = 4096;

/// A tensor of values, any range of which can be asked for.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// Elements as they are stored.
    Stored { data_type: DataType, bytes: Cow<'a, [u8]> },
    /// Elements of a record, read when they are asked for.
    File { data_type: DataType, data: Box<FileData<'a>> },
    /// Table entries by index.
    Lookup(Box<Lookup<'a>>),
    /// (data - offset) * scale, rounded to fp16 where the result is fp16.
    Scaled(Box<Scaled<'a>>),
    /// Stored elements where the mask has a one, zeros elsewhere.
    Sparse { mask: Mask<'a>, values: Box<Self> },
    /// Elements where the mask has a one, zeros elsewhere.
    Masked { mask: Mask<'a>, values: Box<Self> },
    /// Rounded to fp16.
    Rounded(Box<Self>),
}

/// Table entries by index. `groups` are those of the indices; a table has `entries` vectors of
/// `length` values; the components of a vector lie along the axis which has `inner` elements behind
/// each of its places.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    pub(crate) indices: Source<'a>,
    pub(crate) table: Vec<f32>,
    pub(crate) groups: Groups,
    pub(crate) entries: usize,
    pub(crate) length: usize,
    pub(crate) inner: usize,
}

/// Scales, and offsets if there are any, one for each group.
#[derive(Debug)]
pub(crate) struct Scaled<'a> {
    pub(crate) data: Source<'a>,
    pub(crate) scales: Vec<f32>,
    pub(crate) offsets: Option<Vec<f32>>,
    pub(crate) groups: Groups,
}

/// One bit for each element, with the number of ones before each block.
#[derive(Debug, Clone)]
pub(crate) struct Mask<'a> {
    bytes: Cow<'a, [u8]>,
    before: Vec<usize>,
    ones: usize,
}

const BLOCK_BYTES: usize = 512;

impl<'a> Mask<'a> {
    /// A mask of `count` elements; further bits are ignored. `None` where bytes are missing.
    pub(crate) fn new(bytes: Cow<'a, [u8]>, count: usize) -> Option<Self> {
        let bytes = match bytes {
            Cow::Borrowed(all) => Cow::Borrowed(all.get(..count.div_ceil(8))?),
            Cow::Owned(mut all) => {
                if all.len() < count.div_ceil(8) {
                    return None;
                }
                all.truncate(count.div_ceil(8));
                Cow::Owned(all)
            }
        };
        let (mut before, mut ones) = (Vec::with_capacity(bytes.len() / BLOCK_BYTES + 1), 0);
        for block in bytes.chunks(BLOCK_BYTES) {
            before.push(ones);
            ones += block.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
        }
        if let (Some(last), used @ 1..) = (bytes.last(), count % 8) {
            ones -= (last >> used).count_ones() as usize;
        }
        Some(Self { bytes, before, ones })
    }

    /// Number of ones.
    pub(crate) fn ones(&self) -> usize {
        self.ones
    }

    pub(crate) fn is_set(&self, place: usize) -> bool {
        self.bytes.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1)
    }

    /// Number of ones before a place.
    fn rank(&self, place: usize) -> usize {
        let block = place / (8 * BLOCK_BYTES);
        let bytes = self.bytes.get(block * BLOCK_BYTES..place / 8).unwrap_or_default();
        let whole: usize = bytes.iter().map(|byte| byte.count_ones() as usize).sum();
        let part = match self.bytes.get(place / 8) {
            Some(byte) => (u32::from(*byte) & ((1 << (place % 8)) - 1)).count_ones() as usize,
            None => 0,
        };
        self.before.get(block).copied().unwrap_or(self.ones) + whole + part
    }
}

impl Source<'_> {
    /// Writes the values from number `start` on, as many as `output` holds.
    pub(crate) fn fill(&self, start: usize, output: &mut [f32]) -> Result<(), PackageError> {
        match self {
            Self::Stored { data_type, bytes } => stored(*data_type, bytes, start, output),
            Self::File { data_type, data } => {
                data.pieces(*data_type, start, output, |bytes, first, part| {
                    stored(*data_type, bytes, first, part);
                })?;
            }
            Self::Lookup(lookup) => lookup.fill(start, output)?,
            Self::Scaled(scaled) => {
                scaled.data.fill(start, output)?;
                scaled.groups.for_runs(start, start + output.len(), |range, group| {
                    let scale = scaled.scales.get(group).copied().unwrap_or(0.0);
                    let offsets = scaled.offsets.as_ref();
                    let offset =
                        offsets.and_then(|all| all.get(group)).copied().unwrap_or_default();
                    for value in &mut output[range.start - start..range.end - start] {
                        *value = (*value - offset) * scale;
                    }
                });
            }
            Self::Sparse { mask, values } => {
                let places = start..start + output.len();
                let count = places.clone().filter(|place| mask.is_set(*place)).count();
                let mut dense = vec![0.0; count];
                values.fill(mask.rank(start), &mut dense)?;
                let mut next = dense.into_iter();
                for (slot, place) in output.iter_mut().zip(places) {
                    let value = if mask.is_set(place) { next.next() } else { None };
                    *slot = value.unwrap_or(0.0);
                }
            }
            Self::Masked { mask, values } => {
                values.fill(start, output)?;
                for (offset, slot) in output.iter_mut().enumerate() {
                    if !mask.is_set(start + offset) {
                        *slot = 0.0;
                    }
                }
            }
            Self::Rounded(inner) => {
                inner.fill(start, output)?;
                let mut halves = [f16::ZERO; PIECE];
                for part in output.chunks_mut(PIECE) {
                    let halves = &mut halves[..part.len()];
                    halves.convert_from_f32_slice(part);
                    halves.convert_to_f32_slice(part);
                }
            }
        }
        Ok(())
    }

    /// Writes the values from number `start` on as indices into a table; what is no index becomes
    /// the nearest one.
    fn fill_indices(&self, start: usize, output: &mut [u8]) -> Result<(), PackageError> {
        match self {
            Self::Stored { data_type, bytes } if is_index(*data_type) => {
                unpack_into(bytes, width(*data_type), start, output);
            }
            Self::File { data_type, data } if is_index(*data_type) => {
                data.pieces(*data_type, start, output, |bytes, first, part| {
                    unpack_into(bytes, width(*data_type), first, part);
                })?;
            }
            _ => {
                let mut values = [0.0; PIECE];
                for (number, part) in output.chunks_mut(PIECE).enumerate() {
                    let values = &mut values[..part.len()];
                    self.fill(start + number * PIECE, values)?;
                    part.iter_mut().zip(values).for_each(|(slot, value)| *slot = *value as u8);
                }
            }
        }
        Ok(())
    }

    /// The lookup that gives these values, under masks and scales.
    pub(crate) fn lookup(&self) -> Option<(&Lookup<'_>, Option<&Mask<'_>>)> {
        match self {
            Self::Lookup(lookup) => Some((lookup, None)),
            Self::Scaled(scaled) => scaled.data.lookup(),
            Self::Masked { mask, values } => Some((values.lookup()?.0, Some(mask))),
            Self::Rounded(inner) => inner.lookup(),
            Self::Stored { .. } | Self::File { .. } | Self::Sparse { .. } => None,
        }
    }
}

/// Bytes of a record that are read at once.
const WINDOW: usize = 256 << 10;

/// The data of a record, of which one window is held.
#[derive(Debug)]
pub(crate) struct FileData<'a> {
    file: &'a BlobFile,
    record: BlobRecord,
    window: RefCell<Window>,
}

/// Bytes of a record from `start` on; `start` is a multiple of the alignment of all elements.
#[derive(Debug, Default)]
struct Window {
    start: usize,
    bytes: Vec<u8>,
}

impl<'a> FileData<'a> {
    /// The data of a record of this file.
    pub(crate) fn new(file: &'a BlobFile, record: BlobRecord) -> Self {
        Self { file, record, window: RefCell::default() }
    }

    /// The file and the record.
    pub(crate) fn place(&self) -> (&'a BlobFile, &BlobRecord) {
        (self.file, &self.record)
    }

    /// All bytes.
    pub(crate) fn all(&self) -> Result<Vec<u8>, PackageError> {
        self.file.read(&self.record)
    }

    fn len(&self) -> usize {
        usize::try_from(self.record.size_in_bytes()).unwrap_or(usize::MAX)
    }

    /// Calls `read` with stored bytes, the number of an element in them, and the part of `output`
    /// which this element and the following ones belong to, until all from `start` on were read.
    fn pieces<T>(
        &self,
        data_type: DataType,
        start: usize,
        output: &mut [T],
        read: impl Fn(&[u8], usize, &mut [T]),
    ) -> Result<(), PackageError> {
        let bits = data_type.bits().map_or(8, |bits| bits as usize);
        let mut window = self.window.borrow_mut();
        // Records are far below 2^60 bytes, and shapes were checked: no product overflows. Pieces
        // begin where an element begins at the start of a byte, whatever its bits.
        for (number, part) in output.chunks_mut(PIECE).enumerate() {
            let first = start + number * PIECE;
            let from = (first * bits / 8).min(self.len());
            let until = ((first + part.len()) * bits).div_ceil(8).min(self.len());
            if from < window.start || until > window.start + window.bytes.len() {
                // Eight elements of any width begin at a byte; 24 bytes hold whole ones of all.
                window.start = from - from % 24;
                let length = WINDOW.max(until - window.start).min(self.len() - window.start);
                window.bytes.resize(length, 0);
                let at = window.start;
                let outcome = self.file.read_at(&self.record, at as u64, &mut window.bytes);
                if outcome.is_err() {
                    window.bytes.clear();
                }
                outcome?;
            }
            read(&window.bytes, first - window.start * 8 / bits, part);
        }
        Ok(())
    }
}

impl Lookup<'_> {
    fn fill(&self, start: usize, output: &mut [f32]) -> Result<(), PackageError> {
        let mut indices = [0_u8; PIECE];
        let table =
            |group: usize| self.table.get(group * self.entries * self.length..).unwrap_or_default();
        if self.length == 1 {
            for (number, part) in output.chunks_mut(PIECE).enumerate() {
                let from = start + number * PIECE;
                let indices = &mut indices[..part.len()];
                self.indices.fill_indices(from, indices)?;
                self.groups.for_runs(from, from + part.len(), |range, group| {
                    let own = table(group);
                    let range = range.start - from..range.end - from;
                    for (slot, index) in part[range.clone()].iter_mut().zip(&indices[range]) {
                        *slot = own.get(usize::from(*index)).copied().unwrap_or(0.0);
                    }
                });
            }
            return Ok(());
        }
        // Element (outer, component, column) is a component of the vector of index (outer, column).
        let inner = self.inner.max(1);
        let (mut first, mut known) = (usize::MAX, 0);
        for (offset, slot) in output.iter_mut().enumerate() {
            let place = start + offset;
            let (row, column) = (place / inner, place % inner);
            let at = row / self.length * inner + column;
            if first == usize::MAX || !(first..first + known).contains(&at) {
                (first, known) = (at, PIECE);
                self.indices.fill_indices(at, &mut indices[..known])?;
            }
            let own = table(self.groups.of(at));
            let entry = usize::from(indices[at - first]) * self.length + row % self.length;
            *slot = own.get(entry).copied().unwrap_or(0.0);
        }
        Ok(())
    }
}

/// Whether elements of this type can be indices: unsigned, of 8 bits at the most.
fn is_index(data_type: DataType) -> bool {
    data_type.integer_range().is_some_and(|(low, high)| low == 0 && high < 256)
}

/// Bits of an element of one byte or less.
fn width(data_type: DataType) -> u8 {
    data_type.bits().and_then(|bits| u8::try_from(bits).ok()).unwrap_or(8)
}

/// Stored elements as floats; zeros where bytes are missing.
fn stored(data_type: DataType, bytes: &[u8], start: usize, output: &mut [f32]) {
    fn each<const N: usize>(
        bytes: &[u8],
        start: usize,
        output: &mut [f32],
        read: impl Fn([u8; N]) -> f32,
    ) {
        let elements = start.checked_mul(N).and_then(|from| bytes.get(from..));
        let (elements, _) = elements.unwrap_or_default().as_chunks::<N>();
        output.iter_mut().zip(elements).for_each(|(slot, element)| *slot = read(*element));
    }
    match data_type {
        DataType::UInt1 | DataType::UInt2 | DataType::UInt3 | DataType::UInt4 | DataType::UInt6 => {
            packed(data_type, bytes, start, output, f32::from);
        }
        // The upper bit of the nibble is the sign.
        DataType::Int4 => {
            packed(data_type, bytes, start, output, |value| f32::from((value << 4) as i8 >> 4));
        }
        DataType::Float16 => {
            let elements: &[f16] = bytemuck::try_cast_slice(bytes).unwrap_or_default();
            match elements.get(start..).and_then(|from| from.get(..output.len())) {
                Some(elements) => elements.convert_to_f32_slice(output),
                // Not aligned, or too short.
                None => {
                    output.fill(0.0);
                    each(bytes, start, output, |element| f16::from_le_bytes(element).to_f32());
                }
            }
        }
        other => {
            output.fill(0.0);
            match other {
                DataType::BFloat16 => {
                    each(bytes, start, output, |e| bf16::from_le_bytes(e).to_f32())
                }
                DataType::Float32 => each(bytes, start, output, f32::from_le_bytes),
                DataType::Float64 => each(bytes, start, output, |e| f64::from_le_bytes(e) as f32),
                DataType::Float8E4M3FN => {
                    each(bytes, start, output, |[byte]| float8_e4m3(byte) as f32);
                }
                // The upper byte of an fp16 is exactly this format.
                DataType::Float8E5M2 => each(bytes, start, output, |[byte]| {
                    f16::from_bits(u16::from(byte) << 8).to_f32()
                }),
                DataType::Int8 => each(bytes, start, output, |[byte]| f32::from(byte as i8)),
                DataType::UInt8 | DataType::Bool => {
                    each(bytes, start, output, |[byte]| f32::from(byte));
                }
                DataType::Int16 => each(bytes, start, output, |e| i16::from_le_bytes(e).into()),
                DataType::UInt16 => each(bytes, start, output, |e| u16::from_le_bytes(e).into()),
                DataType::Int32 => each(bytes, start, output, |e| i32::from_le_bytes(e) as f32),
                DataType::UInt32 => each(bytes, start, output, |e| u32::from_le_bytes(e) as f32),
                DataType::Int64 => each(bytes, start, output, |e| i64::from_le_bytes(e) as f32),
                DataType::UInt64 => each(bytes, start, output, |e| u64::from_le_bytes(e) as f32),
                _ => {}
            }
        }
    }
}

fn packed(
    data_type: DataType,
    bytes: &[u8],
    start: usize,
    output: &mut [f32],
    read: impl Fn(u8) -> f32,
) {
    let bits = width(data_type);
    let mut raw = [0_u8; PIECE];
    for (number, part) in output.chunks_mut(PIECE).enumerate() {
        let raw = &mut raw[..part.len()];
        unpack_into(bytes, bits, start + number * PIECE, raw);
        part.iter_mut().zip(raw).for_each(|(slot, value)| *slot = read(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_type_reads_the_same_from_any_place() {
        let bytes: Vec<u8> = (0..96_u8).map(|byte| byte.wrapping_mul(11)).collect();
        for data_type in DataType::ALL.iter().copied() {
            let Some(bits) = data_type.bits() else { continue };
            let count = 96 * 8 / bits as usize;
            let source = Source::Stored { data_type, bytes: Cow::Borrowed(&bytes) };
            let mut whole = vec![0.0; count];
            source.fill(0, &mut whole).unwrap();
            let mut part = vec![7.0; count - 3];
            source.fill(3, &mut part).unwrap();
            assert!(whole[3..].iter().zip(&part).all(|(a, b)| a.to_bits() == b.to_bits()));
            let mut beyond = [7.0; 2];
            source.fill(count, &mut beyond).unwrap();
            assert_eq!(beyond, [0.0, 0.0], "{data_type}");
        }
    }

    #[test]
    fn signs_and_small_floats() {
        let read = |data_type, bytes: &[u8]| {
            let mut value = [0.0];
            let source = Source::Stored { data_type, bytes: Cow::Borrowed(bytes) };
            source.fill(0, &mut value).unwrap();
            value[0]
        };
        assert_eq!(read(DataType::Int4, &[0x0f]), -1.0);
        assert_eq!(read(DataType::Int4, &[0x07]), 7.0);
        assert_eq!(read(DataType::Int8, &[0x80]), -128.0);
        assert_eq!(read(DataType::Float8E4M3FN, &[0x38]), 1.0);
        assert_eq!(read(DataType::Float8E5M2, &[0x3c]), 1.0);
        assert_eq!(read(DataType::BFloat16, &[0x80, 0x3f]), 1.0);
    }

    #[test]
    fn ranks_of_masks_count_across_blocks() {
        let bytes: Vec<u8> = (0..1500_u32).map(|i| (i * 7) as u8).collect();
        let count = 1500 * 8 - 3;
        let mask = Mask::new(Cow::Borrowed(&bytes), count).unwrap();
        let mut ones = 0;
        for place in 0..count {
            assert_eq!(mask.rank(place), ones, "{place}");
            ones += usize::from(mask.is_set(place));
        }
        assert_eq!(mask.ones(), ones);
        assert!(Mask::new(Cow::Borrowed(&bytes), count + 20).is_none());
    }
}
