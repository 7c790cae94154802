//! Dot products of rows that are stored as indices into tables: entries are looked up in registers,
//! and no decoded weight is written to memory.
//!
//! The sums are those of [`crate::simd::rows_times_vector`] over the decoded rows, term by term in the
//! same order: which of the two computes a product does not show in its bits.

/// Entries that a table is padded to. Up to four bits its entries repeat until it has 16, so that bits
/// above an index, which belong to its neighbour, do not matter.
fn padded(bits: u8) -> usize {
    if bits <= 4 { 16 } else { 1 << bits }
}

/// Columns that are looked up at once.
#[cfg(target_arch = "x86_64")]
const STEP: usize = 16;

/// The instructions that a product is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Tables of 16 entries in two registers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Tables of 16 entries in one register, of 64 in four.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The best one that this processor has for indices of so many bits; none where decoded rows are
    /// faster.
    pub(crate) fn of(bits: u8) -> Option<Self> {
        Self::all(bits).last().copied()
    }

    /// All that this processor has, the best one last.
    #[cfg(target_arch = "x86_64")]
    fn all(bits: u8) -> &'static [Self] {
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vbmi");
        match bits {
            _ if !crate::simd::has_avx2() => &[],
            1..=4 if wide => &[Self::Avx2, Self::Avx512],
            1..=4 => &[Self::Avx2],
            6 if wide => &[Self::Avx512],
            _ => &[],
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn all(_: u8) -> &'static [Self] {
        &[]
    }
}

/// Tables in the form that the products look entries up in.
#[derive(Debug)]
pub(crate) struct Tables {
    level: Level,
    bits: u8,
    /// Neighbouring rows that share a table.
    rows: usize,
    /// Columns of a row.
    depth: usize,
    /// Entries of each table, [`padded`].
    entries: Vec<f32>,
}

impl Tables {
    /// Tables of `2^bits` entries for rows of `depth` columns; each is shared by `run` elements. None
    /// where rows do not begin at a byte, where a row has several tables, or where the processor has
    /// no fast way.
    pub(crate) fn new(
        bits: u8,
        run: usize,
        depth: usize,
        entries: impl ExactSizeIterator<Item = f32>,
    ) -> Option<Self> {
        Self::with_level(Level::of(bits)?, bits, run, depth, entries)
    }

    fn with_level(
        level: Level,
        bits: u8,
        run: usize,
        depth: usize,
        entries: impl ExactSizeIterator<Item = f32>,
    ) -> Option<Self> {
        let size = 1_usize << bits;
        let whole = depth > 0
            && (depth.checked_mul(usize::from(bits))?).is_multiple_of(8)
            && run.is_multiple_of(depth)
            && run > 0
            && entries.len().is_multiple_of(size);
        if !whole {
            return None;
        }
        let entries: Vec<f32> = entries.collect();
        let padded = padded(bits);
        let entries = entries
            .chunks_exact(size)
            .flat_map(|table| table.iter().copied().cycle().take(padded))
            .collect();
        Some(Self { level, bits, rows: run / depth, depth, entries })
    }

    /// `output[r]` becomes the dot product of row `first + r` with the vector, accumulated in f32.
    ///
    /// # Panics
    /// When the vector has not one element per column, or a row has no indices or no table.
    pub(crate) fn times_vector(
        &self,
        indices: &[u8],
        first: usize,
        vector: &[f32],
        output: &mut [f32],
    ) {
        let end = first + output.len();
        assert_eq!(vector.len(), self.depth, "one element per column");
        assert!(end * self.row_bytes() <= indices.len(), "indices of every row");
        assert!(end.div_ceil(self.rows) * padded(self.bits) <= self.entries.len(), "every table");
        match self.level {
            #[cfg(target_arch = "x86_64")]
            level => {
                let mut row = first;
                for part in output.chunks_mut(4) {
                    // SAFETY: a level is only chosen where the processor has its features; the
                    // asserts above show that the rows have their indices and tables.
                    #[allow(unsafe_code)]
                    unsafe {
                        match (level, part.len()) {
                            (Level::Avx512, 4) if self.bits <= 4 => part.copy_from_slice(
                                &x86::wide::<4, false>(self, indices, row, vector),
                            ),
                            (Level::Avx512, 4) => part
                                .copy_from_slice(&x86::wide::<4, true>(self, indices, row, vector)),
                            (Level::Avx2, 4) => {
                                part.copy_from_slice(&x86::narrow::<4>(self, indices, row, vector));
                            }
                            _ => {
                                for (at, value) in part.iter_mut().enumerate() {
                                    let row = row + at;
                                    *value = match level {
                                        Level::Avx512 if self.bits <= 4 => {
                                            x86::wide::<1, false>(self, indices, row, vector)
                                        }
                                        Level::Avx512 => {
                                            x86::wide::<1, true>(self, indices, row, vector)
                                        }
                                        Level::Avx2 => x86::narrow::<1>(self, indices, row, vector),
                                    }[0];
                                }
                            }
                        }
                    }
                    row += part.len();
                }
            }
        }
    }

    fn row_bytes(&self) -> usize {
        self.depth * usize::from(self.bits) / 8
    }

    /// The table of a row.
    #[cfg(target_arch = "x86_64")]
    fn of_row(&self, row: usize) -> &[f32] {
        let size = padded(self.bits);
        &self.entries[row / self.rows * size..][..size]
    }

    /// What the columns from number `start` on add to the dot product of a row, one by one.
    #[cfg(target_arch = "x86_64")]
    fn rest(&self, indices: &[u8], row: usize, start: usize, vector: &[f32], mut sum: f32) -> f32 {
        let (table, bits) = (self.of_row(row), usize::from(self.bits));
        let bytes = &indices[row * self.row_bytes()..][..self.row_bytes()];
        for (column, factor) in vector.iter().enumerate().skip(start) {
            let at = column * bits;
            let above = bytes.get(at / 8 + 1).copied().unwrap_or(0);
            let both = u16::from_le_bytes([bytes[at / 8], above]);
            sum += table[usize::from(both >> (at % 8)) & ((1 << bits) - 1)] * factor;
        }
        sum
    }
}

/// Eight bytes from number `at` on, zeros behind the end.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8) {
        Some(eight) => u64::from_le_bytes(eight.try_into().unwrap_or_default()),
        None => {
            let rest = bytes.get(at..).unwrap_or_default();
            rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_code)]
    use super::{STEP, Tables, word};
    use crate::simd::x86::sum;
    use std::arch::x86_64::*;
    use std::array;

    /// Dot products of R neighbouring rows; `SIX` for indices of six bits, else of four at most.
    ///
    /// SAFETY: the processor must have the features; the rows must have their indices and tables, and
    /// the vector one element per column.
    #[target_feature(enable = "avx512f,avx512vbmi,avx2,fma,f16c")]
    pub(super) unsafe fn wide<const R: usize, const SIX: bool>(
        tables: &Tables,
        indices: &[u8],
        first: usize,
        vector: &[f32],
    ) -> [f32; R] {
        let (bits, width) = (usize::from(tables.bits), tables.row_bytes());
        let whole = vector.len() / STEP * STEP;
        // Which bits of its 64 become the low byte of each lane. Eight indices of six bits lie in one
        // word; 16 of four bits at most do.
        let mut offsets = [0_u8; 64];
        for (lane, offset) in offsets.chunks_exact_mut(4).enumerate() {
            offset[0] = (if SIX { lane % 8 } else { lane } * bits) as u8;
        }
        // SAFETY: it has 64 bytes.
        let offsets = unsafe { _mm512_loadu_si512(offsets.as_ptr().cast()) };
        let entries: [&[f32]; R] = array::from_fn(|r| tables.of_row(first + r));
        let quarter = |r: usize, part: usize| {
            let part = if SIX { part } else { 0 };
            let entries: &[f32] = &entries[r][16 * part..][..16];
            // SAFETY: the slice has 16 elements.
            unsafe { _mm512_loadu_ps(entries.as_ptr()) }
        };
        let table: [[__m512; 4]; R] =
            array::from_fn(|r| [quarter(r, 0), quarter(r, 1), quarter(r, 2), quarter(r, 3)]);
        let mut sums = [_mm512_setzero_ps(); R];
        for k in (0..whole).step_by(STEP) {
            // SAFETY: k + 16 <= whole <= the vector's length.
            let factors = unsafe { _mm512_loadu_ps(vector.as_ptr().add(k)) };
            for r in 0..R {
                let at = (first + r) * width + k / 8 * bits;
                let low = _mm512_set1_epi64(word(indices, at).cast_signed());
                let weights = if SIX {
                    let high = word(indices, at + 6).cast_signed();
                    let both = _mm512_mask_set1_epi64(low, 0xF0, high);
                    let index = _mm512_multishift_epi64_epi8(offsets, both);
                    let lower = _mm512_permutex2var_ps(table[r][0], index, table[r][1]);
                    let upper = _mm512_permutex2var_ps(table[r][2], index, table[r][3]);
                    let is_upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32));
                    _mm512_mask_blend_ps(is_upper, lower, upper)
                } else {
                    let index = _mm512_multishift_epi64_epi8(offsets, low);
                    _mm512_permutexvar_ps(index, table[r][0])
                };
                sums[r] = _mm512_fmadd_ps(weights, factors, sums[r]);
            }
        }
        array::from_fn(|r| {
            let even = _mm512_castps512_ps256(sums[r]);
            let odd = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sums[r]), 1));
            let total = sum(_mm256_add_ps(even, odd));
            tables.rest(indices, first + r, whole, vector, total)
        })
    }

    /// As [`wide`] for indices of four bits at most.
    ///
    /// SAFETY: as for [`wide`].
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn narrow<const R: usize>(
        tables: &Tables,
        indices: &[u8],
        first: usize,
        vector: &[f32],
    ) -> [f32; R] {
        let (bits, width) = (usize::from(tables.bits), tables.row_bytes());
        let whole = vector.len() / STEP * STEP;
        let shifts: [i32; 8] = array::from_fn(|lane| (lane * bits) as i32);
        // SAFETY: it has eight elements.
        let shifts = unsafe { _mm256_loadu_si256(shifts.as_ptr().cast()) };
        let entries: [&[f32]; R] = array::from_fn(|r| tables.of_row(first + r));
        let mut even = [_mm256_setzero_ps(); R];
        let mut odd = [_mm256_setzero_ps(); R];
        for k in (0..whole).step_by(STEP) {
            // SAFETY: k + 16 <= whole <= the vector's length.
            let (left, right) = unsafe {
                let at = vector.as_ptr().add(k);
                (_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8)))
            };
            for r in 0..R {
                // SAFETY: a table has 16 entries.
                let (lower, upper) = unsafe {
                    let table = entries[r].as_ptr();
                    (_mm256_loadu_ps(table), _mm256_loadu_ps(table.add(8)))
                };
                let weights = |word: u64| {
                    let index = _mm256_srlv_epi32(_mm256_set1_epi32(word as i32), shifts);
                    // The fourth bit of an index, as a sign, says in which half its entry is.
                    let is_upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
                    _mm256_blendv_ps(
                        _mm256_permutevar8x32_ps(lower, index),
                        _mm256_permutevar8x32_ps(upper, index),
                        is_upper,
                    )
                };
                let word = word(indices, (first + r) * width + k / 8 * bits);
                even[r] = _mm256_fmadd_ps(weights(word), left, even[r]);
                odd[r] = _mm256_fmadd_ps(weights(word >> (8 * bits)), right, odd[r]);
            }
        }
        array::from_fn(|r| {
            let total = sum(_mm256_add_ps(even[r], odd[r]));
            tables.rest(indices, first + r, whole, vector, total)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;
    use crate::testing::{Random, pack};
    use half::f16;

    #[test]
    fn products_have_the_bits_of_those_with_decoded_rows() {
        let mut random = Random::new(5);
        for bits in [1, 2, 3, 4, 6, 8_u8] {
            for (rows, depth, group) in [(11, 8, 1), (8, 48, 8), (13, 200, 13), (6, 64, 2)] {
                let size = 1_usize << bits;
                let indices: Vec<usize> = (0..rows * depth).map(|_| random.below(size)).collect();
                let entries: Vec<f16> =
                    (0..rows / group * size).map(|_| f16::from_f32(random.unit())).collect();
                let decoded: Vec<f16> = (indices.iter().enumerate())
                    .map(|(at, index)| entries[at / (group * depth) * size + index])
                    .collect();
                let (bytes, vector) = (pack(&indices, bits), random.units(depth));
                let mut expected = vec![f32::NAN; rows];
                simd::rows_times_vector(&decoded, &vector, &mut expected);
                for &level in Level::all(bits) {
                    let entries = entries.iter().map(|entry| entry.to_f32());
                    let tables = Tables::with_level(level, bits, group * depth, depth, entries);
                    let tables = tables.unwrap();
                    for first in [0, 1, rows - 1] {
                        let mut output = vec![f32::NAN; rows - first];
                        tables.times_vector(&bytes, first, &vector, &mut output);
                        assert_eq!(output, expected[first..], "{level:?}, {bits} bits, {depth}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_without_an_own_beginning_or_with_several_tables_have_no_tables_of_this_form() {
        let entries = || std::iter::repeat_n(0.5, 32);
        let fits = |bits, run, depth| Tables::new(bits, run, depth, entries()).is_some();
        assert_eq!(fits(4, 64, 32), Level::of(4).is_some());
        assert!(!fits(4, 66, 33), "a row begins inside of a byte");
        assert!(!fits(4, 16, 32), "a row has two tables");
        assert!(!fits(4, 0, 0), "rows have no columns");
        assert!(!fits(8, 64, 32), "too many entries for registers");
    }
}
