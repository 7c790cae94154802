//! Weights that stay in memory as they are stored: indices and tables, whose elements are looked up
//! when they are read.
//!
//! They take a quarter of the memory of their elements with 4 bits, and nothing has to be decoded
//! before the first run. Where there is no fast way to look entries up, what is run often is better
//! rounded to whole numbers once, or decoded.

use crate::element::Element;
use crate::failure::Outcome;
use crate::fixed;
use crate::layout::element_count;
use crate::lookup;
use crate::rounded::Rounded;
use crate::shelf::Shelf;
use crate::simd;
use crate::storage::Buffer;
use crate::tensor::Tensor;
use anemll_mil::DataType;
use anemll_weights::{Values, unpack_into};
use half::f16;
use std::sync::Arc;

/// Indices that are unpacked at once.
const PIECE: usize = 2048;

/// Packed elements that are decoded at once for a product with a vector: they stay in the first-level
/// cache.
const DECODED: usize = 8 * 1024;

/// A weight of float16 elements that is not stored as these.
#[derive(Debug)]
pub(crate) struct Packed {
    shape: Vec<usize>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// As it is stored.
    Indices(Indices),
    /// Rows of whole numbers, where indices have no fast products.
    Rounded(Arc<Rounded>),
}

/// Elements that are entries of a table, which a stretch of neighbours share.
#[derive(Debug)]
struct Indices {
    bits: u8,
    /// Elements that share a table.
    run: usize,
    /// Tables of `2^bits` entries.
    entries: Vec<f16>,
    indices: Arc<Buffer>,
    fast: Option<Fast>,
}

/// Tables for products that look entries up without decoding.
#[derive(Debug)]
enum Fast {
    /// In f32, with the bits that decoded rows give.
    Exact(lookup::Tables),
    /// In whole numbers, several times as fast.
    Fixed(fixed::Tables),
}

impl Packed {
    /// A weight that can stay packed; none where it has another form. `exact` keeps its products those
    /// of decoded rows, to the bit.
    pub(crate) fn new(values: &Values<'_>, shelf: &Shelf, exact: bool) -> Outcome<Option<Self>> {
        let Some(palette) = values.palette() else { return Ok(None) };
        if values.data_type != DataType::Float16 || values.shape.is_empty() {
            return Ok(None);
        }
        let (bits, run, depth) = (palette.bits, palette.run, depth(&values.shape));
        let entries = || palette.entries.iter().copied();
        let fast = match exact {
            true => lookup::Tables::new(bits, run, depth, entries()).map(Fast::Exact),
            false => fixed::Tables::new(bits, run, depth, entries()).map(Fast::Fixed),
        };
        let form = Form::Indices(Indices {
            bits,
            run,
            // They were float16 when they were stored.
            entries: palette.entries.iter().map(|entry| f16::from_f32(*entry)).collect(),
            indices: shelf.weight(palette.file, palette.record)?,
            fast,
        });
        Ok(Some(Self { shape: values.shape.clone(), form }))
    }

    /// Its elements as whole numbers, whose products differ from its own as those of
    /// [`fixed::Tables::rounded`] do; none where they have no such form.
    pub(crate) fn rounded(&self) -> Outcome<Option<Arc<Rounded>>> {
        let depth = depth(&self.shape);
        let rows = self.count() / depth.max(1);
        let Some(size) = rows.checked_mul(fixed::rounded_bytes(depth)) else { return Ok(None) };
        let mut bytes = Buffer::zeroed(size)?;
        let made = fixed::Tables::rounded(depth, bytes.bytes_mut(), |row, output| {
            self.fill_wide(row * depth, output);
        });
        Ok(made.map(|rows| Arc::new(Rounded { rows, bytes })))
    }

    /// The weight with these elements.
    pub(crate) fn with(&self, rounded: Arc<Rounded>) -> Self {
        Self { shape: self.shape.clone(), form: Form::Rounded(rounded) }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether its elements are those that are stored.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self.form, Form::Indices(_))
    }

    /// Whether its products with few columns are computed without decoding.
    pub(crate) fn is_fast(&self) -> bool {
        match &self.form {
            Form::Indices(indices) => indices.fast.is_some(),
            Form::Rounded(_) => true,
        }
    }

    /// What products in whole numbers are computed with, and its bytes.
    pub(crate) fn fixed(&self) -> Option<(&fixed::Tables, &[u8])> {
        match &self.form {
            Form::Indices(Indices { fast: Some(Fast::Fixed(tables)), indices, .. }) => {
                Some((tables, indices.bytes()))
            }
            Form::Indices(_) => None,
            Form::Rounded(rounded) => Some((&rounded.rows, rounded.bytes.bytes())),
        }
    }

    /// Dot products with a vector of rows from number `first` on; a row has as many elements as the
    /// vector, which are those of one index of the first axis.
    pub(crate) fn times_vector(&self, first: usize, vector: &[f32], output: &mut [f32]) {
        if let Form::Indices(Indices { fast: Some(Fast::Exact(tables)), indices, .. }) = &self.form
        {
            return tables.times_vector(indices.bytes(), first, vector, output);
        }
        let depth = vector.len();
        // A row that is longer than that is decoded as a whole.
        let count = (DECODED / depth.max(1)).max(1).next_multiple_of(4).min(output.len());
        let mut halves = vec![f16::ZERO; count * depth];
        let mut at = first * depth;
        for output in output.chunks_mut(count.max(1)) {
            let halves = &mut halves[..output.len() * depth];
            self.fill(at, halves);
            simd::rows_times_vector(halves, vector, output);
            at += halves.len();
        }
    }

    /// Number of elements.
    pub(crate) fn count(&self) -> usize {
        element_count(&self.shape).unwrap_or(0)
    }

    /// Writes the elements from number `start` on, as many as `output` holds.
    pub(crate) fn fill(&self, start: usize, output: &mut [f16]) {
        match &self.form {
            Form::Indices(indices) => indices.fill(start, output),
            Form::Rounded(rounded) => {
                let mut wide = vec![0.0; output.len()];
                rounded.rows.widen(rounded.bytes.bytes(), start, &mut wide);
                simd::narrow(&wide, output);
            }
        }
    }

    /// As [`Packed::fill`], in f32.
    pub(crate) fn fill_wide(&self, start: usize, output: &mut [f32]) {
        match &self.form {
            Form::Indices(indices) => indices.fill_wide(start, output),
            Form::Rounded(rounded) => rounded.rows.widen(rounded.bytes.bytes(), start, output),
        }
    }

    /// All elements.
    pub(crate) fn decoded(&self) -> Outcome<Tensor> {
        let mut buffer = Buffer::zeroed(self.count() * 2)?;
        self.fill(0, buffer.slice_mut());
        Ok(Tensor::owned(Element::F16, &self.shape, buffer))
    }
}

/// Elements of a row: those of one index of the first axis.
fn depth(shape: &[usize]) -> usize {
    element_count(shape.get(1..).unwrap_or_default()).unwrap_or(0)
}

impl Indices {
    fn fill(&self, start: usize, output: &mut [f16]) {
        self.by_table(start, output, |at, table, part| match self.bits {
            4 if at.is_multiple_of(2) => fill_pairs(self.indices.bytes(), table, at, part),
            bits => fill_each(self.indices.bytes(), bits, table, at, part),
        });
    }

    fn fill_wide(&self, start: usize, output: &mut [f32]) {
        let bits = usize::from(self.bits);
        self.by_table(start, output, |at, table, part| {
            let whole = (at * bits).is_multiple_of(8);
            let from = whole.then(|| &self.indices.bytes()[at * bits / 8..]);
            if !from.is_some_and(|from| fixed::decode(self.bits, from, table, part)) {
                let mut halves = vec![f16::ZERO; part.len()];
                self.fill(at, &mut halves);
                simd::widen(&halves, part);
            }
        });
    }

    /// Calls `each` with the number of the first element, the table and the place for each run of
    /// elements from `start` on that share a table.
    fn by_table<T>(
        &self,
        start: usize,
        output: &mut [T],
        mut each: impl FnMut(usize, &[f16], &mut [T]),
    ) {
        let size = 1_usize << self.bits;
        let (mut rest, mut at) = (output, start);
        while !rest.is_empty() {
            let group = at / self.run;
            let here = ((group + 1) * self.run - at).min(rest.len());
            let (part, behind) = rest.split_at_mut(here);
            let table = self.entries.get(group * size..(group + 1) * size).unwrap_or_default();
            each(at, table, part);
            at += here;
            rest = behind;
        }
    }
}

/// Entries of one table, by indices of so many bits.
fn fill_each(indices: &[u8], bits: u8, table: &[f16], start: usize, output: &mut [f16]) {
    // As many entries as a byte has values: no index is outside.
    let mut entries = [f16::ZERO; 256];
    entries[..table.len()].copy_from_slice(table);
    let mut unpacked = [0; PIECE];
    for (number, part) in output.chunks_mut(PIECE).enumerate() {
        let unpacked = &mut unpacked[..part.len()];
        unpack_into(indices, bits, start + number * PIECE, unpacked);
        for (slot, index) in part.iter_mut().zip(unpacked) {
            *slot = entries[usize::from(*index)];
        }
    }
}

/// As [`fill_each`] for 4 bits from an even place on: two entries at a time, by the byte that has both
/// indices.
fn fill_pairs(indices: &[u8], table: &[f16], start: usize, output: &mut [f16]) {
    let mut pairs = [[f16::ZERO; 2]; 256];
    for (byte, pair) in pairs.iter_mut().enumerate() {
        *pair = [byte % 16, byte / 16].map(|at| table.get(at).copied().unwrap_or_default());
    }
    let bytes = indices.get(start / 2..).unwrap_or_default();
    let (slots, last) = output.as_chunks_mut::<2>();
    for (slots, byte) in slots.iter_mut().zip(bytes) {
        *slots = pairs[usize::from(*byte)];
    }
    if let ([last], Some(byte)) = (last, bytes.get(slots.len())) {
        *last = pairs[usize::from(*byte)][0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn elements_are_entries_by_index_wherever_one_begins() {
        let mut random = Random::new(8);
        for bits in [1, 2, 3, 4, 6, 8_u8] {
            for (rows, columns, group) in [(6, 35, 2), (4, 16, 4), (3, 9, 1)] {
                let count = rows * columns;
                let size = 1_usize << bits;
                let indices: Vec<usize> = (0..count).map(|_| random.below(size)).collect();
                let mut bytes = vec![0_u8; (count * usize::from(bits)).div_ceil(8)];
                for (at, index) in indices.iter().enumerate() {
                    for bit in 0..usize::from(bits) {
                        let to = at * usize::from(bits) + bit;
                        bytes[to / 8] |= ((index >> bit & 1) as u8) << (to % 8);
                    }
                }
                let entries: Vec<f16> =
                    (0..rows / group * size).map(|_| f16::from_f32(random.unit())).collect();
                let form = Form::Indices(Indices {
                    bits,
                    run: group * columns,
                    entries: entries.clone(),
                    indices: Arc::new(Buffer::from_bytes(&bytes)),
                    fast: None,
                });
                let packed = Packed { shape: vec![rows, columns], form };
                let all = packed.decoded().unwrap();
                for (at, value) in all.raw::<f16>().iter().enumerate() {
                    let expected = entries[at / (group * columns) * size + indices[at]];
                    assert_eq!(value.to_bits(), expected.to_bits(), "{bits} bits, {at}");
                }
                for (start, end) in [(0, 1), (1, 2), (3, count), (columns, 2 * columns)] {
                    let mut part = vec![f16::NAN; end - start];
                    packed.fill(start, &mut part);
                    assert_eq!(part, all.raw::<f16>()[start..end], "{bits} bits, {start}");
                    let mut wide = vec![f32::NAN; end - start];
                    packed.fill_wide(start, &mut wide);
                    assert!(wide.iter().zip(&part).all(|(wide, half)| *wide == half.to_f32()));
                }
                let Some(rounded) = packed.rounded().unwrap() else { continue };
                let rounded = packed.with(rounded);
                assert!(rounded.is_fast() && rounded.shape() == packed.shape());
                let all = all.raw::<f16>();
                let near = rounded.decoded().unwrap();
                for (row, near) in all.chunks(columns).zip(near.raw::<f16>().chunks(columns)) {
                    let largest =
                        row.iter().fold(0.0, |most: f32, one| most.max(one.to_f32().abs()));
                    for (one, near) in row.iter().zip(near) {
                        let error = (one.to_f32() - near.to_f32()).abs();
                        assert!(
                            error <= largest / 4094.0 + near.to_f32().abs() / 2048.0,
                            "{bits} bits"
                        );
                    }
                }
            }
        }
    }
}
