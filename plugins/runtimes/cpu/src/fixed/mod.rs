//! Dot products of rows that are stored as indices into tables, in whole numbers: entries and factors
//! are rounded to 15 bits with their signs, what they stand for is multiplied and summed up exactly,
//! and every [`BLOCK`] columns the sum goes on in f32.
//!
//! Where entries cannot be looked up (of 8 bits there are too many for registers), rows are rounded to
//! numbers of 12 bits before, which take three quarters of float16's memory ([`Tables::rounded`]).
//!
//! Entries keep their place in registers, as two halves of one byte each, and no decoded weight is
//! written to memory. Rounding moves an entry by at most 1/32766 of the largest one of its table, and
//! a factor by at most as much of the largest one of its block. Float16 moves what is near the largest
//! by up to 1/4096. The results do not depend on how many rows or vectors are computed at once.

#[cfg(target_arch = "x86_64")]
mod x86;

use crate::simd;
use half::f16;

/// Columns that share a scale, and whose products are summed up in whole numbers.
pub(crate) const BLOCK: usize = 64;

/// The largest entry of a table and the largest factor of a block, as they are kept. Eight products of
/// both are below 2^31: four pairs go into each sum.
const LARGEST: f32 = 16383.0;

/// Rows whose products lie side by side, vector after vector.
pub(crate) const ROWS: usize = 16;

/// Entries that one register has.
const PART: usize = 16;

/// Whether this processor has the instructions, and indices of so many bits can be looked up so.
pub(crate) fn suits(bits: u8) -> bool {
    #[cfg(target_arch = "x86_64")]
    return matches!(bits, 1..=4 | 6) && crate::simd::has_avx2();
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = bits;
        false
    }
}

/// The low bytes of a table's entries, then the high ones; entries are repeated to 16 where there are
/// fewer. Of more than 16, each part after the first holds its difference (exclusive or) to the one
/// before it.
fn halves(entries: impl ExactSizeIterator<Item = [u8; 2]> + Clone) -> Vec<u8> {
    let size = entries.len().max(PART);
    let mut bytes = vec![0; 2 * size];
    for (at, [low, high]) in entries.cycle().take(size).enumerate() {
        (bytes[at], bytes[size + at]) = (low, high);
    }
    for half in bytes.chunks_exact_mut(size) {
        for at in (PART..size).rev() {
            half[at] ^= half[at - PART];
        }
    }
    bytes
}

/// Tables in the form that products in whole numbers look entries up in.
#[derive(Debug)]
pub(crate) struct Tables {
    bits: u8,
    /// Neighbouring rows that share a table.
    rows: usize,
    /// Columns of a row.
    depth: usize,
    /// For each table the [`halves`] of its entries.
    entries: Vec<u8>,
    /// What one stands for, of each table.
    scales: Vec<f32>,
}

impl Tables {
    /// Tables of `2^bits` entries for rows of `depth` columns; each is shared by `run` elements. None
    /// where rows do not begin at a byte, where a row has several tables, where an entry is not
    /// finite, or where the processor has no fast way.
    pub(crate) fn new(
        bits: u8,
        run: usize,
        depth: usize,
        entries: impl ExactSizeIterator<Item = f32>,
    ) -> Option<Self> {
        let size = 1_usize << bits;
        let whole = suits(bits)
            && depth > 0
            && (depth.checked_mul(usize::from(bits))?).is_multiple_of(8)
            && run.is_multiple_of(depth)
            && run > 0
            && entries.len().is_multiple_of(size);
        if !whole {
            return None;
        }
        let entries: Vec<f32> = entries.collect();
        let mut tables =
            Self { bits, rows: run / depth, depth, entries: Vec::new(), scales: Vec::new() };
        for table in entries.chunks_exact(size) {
            let (scale, factor) = scale(table, LARGEST)?;
            let rounded = table.iter().map(|entry| round(*entry, factor).to_le_bytes());
            tables.entries.extend(halves(rounded));
            tables.scales.push(scale);
        }
        Some(tables)
    }

    /// So many vectors side by side (one of the [`groups`]), each with as many elements as a row, in the
    /// form that these rows are multiplied with; none where an element is not finite. `read` writes the
    /// elements from a column on of all vectors, up to [`BLOCK`] of each.
    pub(crate) fn group(
        &self,
        size: usize,
        mut read: impl FnMut(usize, &mut [[f32; BLOCK]]),
    ) -> Option<Group> {
        let blocks = self.depth.div_ceil(BLOCK);
        let mut group = Group {
            bits: self.bits,
            size,
            values: vec![Block([0; BLOCK]); size * blocks],
            scales: vec![0.0; size * blocks],
        };
        let mut wide = [[0.0; BLOCK]; GROUP];
        let wide = &mut wide[..size];
        let blocks = group.values.chunks_exact_mut(size).zip(group.scales.chunks_exact_mut(size));
        for (number, (values, scales)) in blocks.enumerate() {
            let first = number * BLOCK;
            if first + BLOCK > self.depth {
                wide.as_flattened_mut().fill(0.0);
            }
            read(first, wide);
            for ((wide, values), scale) in wide.iter().zip(values).zip(scales) {
                *scale = rounded_block(self.bits, wide, values)?;
            }
        }
        Some(group)
    }

    /// The dot products of rows from number `first` on with every vector. Of each [`ROWS`] rows (the last
    /// ones may be fewer), those with the first vector lie side by side, then those with the next.
    ///
    /// # Panics
    /// When the vectors are not for these rows, or a row has no indices or no table.
    pub(crate) fn times(
        &self,
        indices: &[u8],
        first: usize,
        columns: &[Group],
        output: &mut [f32],
    ) {
        let vectors: usize = columns.iter().map(|group| group.size).sum();
        let end = first + output.len() / vectors.max(1);
        assert_eq!((end - first) * vectors, output.len(), "a product for each vector");
        let blocks = self.depth.div_ceil(BLOCK);
        let fits = |group: &Group| {
            let count = group.size * blocks;
            (group.bits, group.values.len(), group.scales.len()) == (self.bits, count, count)
        };
        assert!(columns.iter().all(fits), "vectors for these rows");
        assert!(end * self.row_bytes() <= indices.len(), "indices of every row");
        assert!(end.div_ceil(self.rows) <= self.scales.len(), "every table");
        #[cfg(target_arch = "x86_64")]
        x86::times(self, indices, first, columns, output);
    }

    fn row_bytes(&self) -> usize {
        match self.bits {
            ROUNDED => rounded_bytes(self.depth),
            bits => self.depth * usize::from(bits) / 8,
        }
    }

    /// As many rows of `depth` float16 elements as `bytes` has room for ([`rounded_bytes`]), each
    /// rounded to whole numbers of twelve bits with a factor of its own: by at most 1/4094 of its
    /// largest element, as float16 moves what is near the largest. `read` gives the row of a number. None
    /// where an element is not finite, or where the processor has no fast way.
    pub(crate) fn rounded(
        depth: usize,
        bytes: &mut [u8],
        mut read: impl FnMut(usize, &mut [f32]),
    ) -> Option<Self> {
        if depth == 0 || !suits(4) {
            return None;
        }
        let mut row = vec![0.0; depth.next_multiple_of(BLOCK)];
        let mut scales = Vec::new();
        for (number, bytes) in bytes.chunks_exact_mut(rounded_bytes(depth)).enumerate() {
            read(number, &mut row[..depth]);
            scales.push(simd::widest(|| rounded_row(&row, bytes))? / 8.0);
        }
        Some(Self { bits: ROUNDED, rows: 1, depth, entries: Vec::new(), scales })
    }

    /// What the elements from number `start` on stand for, of rows that [`Tables::rounded`] made.
    pub(crate) fn widen(&self, bytes: &[u8], start: usize, output: &mut [f32]) {
        for (element, value) in (start..).zip(output) {
            let (row, column) = (element / self.depth, element % self.depth);
            let block = row * rounded_bytes(self.depth) + column / BLOCK * ROUNDED_BLOCK;
            let (bytes, at) = (&bytes[block..][..ROUNDED_BLOCK], column % BLOCK);
            let (half, upper, place) = (at / 32, at / 16 % 2, at % 16);
            let low = bytes[BLOCK + half * 16 + place] >> (4 * upper) & 15;
            let number = i16::from(bytes[at].cast_signed()) << 4 | i16::from(low);
            *value = f32::from(number) * 8.0 * self.scales[row];
        }
    }
}

/// Bits of [`Tables::rounded`].
const ROUNDED: u8 = 12;

/// The largest number of twelve bits with its sign.
const LARGEST_ROUNDED: f32 = 2047.0;

/// Bytes of a block of such numbers.
const ROUNDED_BLOCK: usize = BLOCK * 12 / 8;

/// The elements of whole blocks as numbers of twelve bits, and what one stands for.
#[inline(always)]
fn rounded_row(row: &[f32], bytes: &mut [u8]) -> Option<f32> {
    let (scale, factor) = scale(row, LARGEST_ROUNDED)?;
    let blocks = bytes.as_chunks_mut::<ROUNDED_BLOCK>().0;
    for (block, bytes) in row.as_chunks::<BLOCK>().0.iter().zip(blocks) {
        let mut numbers = [0; BLOCK];
        for at in 0..BLOCK {
            numbers[at] = round(block[at], factor);
        }
        for at in 0..BLOCK {
            bytes[at] = (numbers[at] >> 4) as u8;
        }
        for at in 0..BLOCK / 2 {
            let first = at / 16 * 32 + at % 16;
            let (lower, upper) = (numbers[first] & 15, numbers[first + 16] & 15);
            bytes[BLOCK + at] = (lower | upper << 4) as u8;
        }
    }
    Some(scale)
}

/// Bytes of a row of [`Tables::rounded`].
pub(crate) fn rounded_bytes(depth: usize) -> usize {
    depth.div_ceil(BLOCK) * ROUNDED_BLOCK
}

/// Vectors side by side as [`Tables::times`] takes them.
#[derive(Debug)]
pub(crate) struct Group {
    bits: u8,
    size: usize,
    /// Block by block, of each vector: its elements in the order in which indices are unpacked, zeros
    /// behind the end.
    values: Vec<Block>,
    /// In the same order, what one stands for in each block.
    scales: Vec<f32>,
}

/// Elements of a vector. No register of them lies in two lines of a cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Block([i16; BLOCK]);

/// Vectors of a [`Group`], at most.
const GROUP: usize = 8;

/// So many vectors in groups: the number of the first of each, and how many they are. Groups have eight
/// vectors, or, at the end, a smaller power of two.
pub(crate) fn groups(count: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = count - first;
        let size = GROUP.min(1 << left.checked_ilog2()?);
        first += size;
        Some((first - size, size))
    })
}

/// What one stands for, and by what values are multiplied before they are rounded to numbers of so many
/// to each side of zero; none where a value is not finite or all are too small to be multiplied.
#[inline(always)]
fn scale(values: &[f32], most: f32) -> Option<(f32, f32)> {
    // Sizes are in the order of their bits, and those of what is not finite are the largest. Loops in
    // here: functions that are given others are not always inlined, and then have no wide registers.
    let mut largest = 0;
    for value in values {
        largest = value.abs().to_bits().max(largest);
    }
    let largest = f32::from_bits(largest);
    if largest == 0.0 {
        return Some((0.0, 0.0));
    }
    let factor = most / largest;
    (largest.is_finite() && factor.is_finite()).then_some((largest / most, factor))
}

/// Rounded to the nearest whole number.
#[inline(always)]
fn round(value: f32, factor: f32) -> i16 {
    (value * factor).round_ties_even() as i16
}

/// Elements of a block, rounded and in the [`order`] of their products. What one stands for, where
/// [`scale`] finds it.
fn rounded_block(bits: u8, wide: &[f32; BLOCK], values: &mut Block) -> Option<f32> {
    #[cfg(target_arch = "x86_64")]
    return x86::rounded_block(bits, wide, values);
    #[cfg(not(target_arch = "x86_64"))]
    {
        // Tables are not made there.
        let _ = (bits, wide, values);
        None
    }
}

/// See [`rounded_block`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn rounded<const BITS: usize>(wide: &[f32; BLOCK], values: &mut Block) -> Option<f32> {
    let (scale, factor) = scale(wide, LARGEST)?;
    let mut rounded = [0; BLOCK];
    for at in 0..BLOCK {
        rounded[at] = round(wide[at], factor);
    }
    let order = const { order(BITS) };
    for at in 0..BLOCK {
        values.0[at] = rounded[usize::from(order[at])];
    }
    Some(scale)
}

/// Which column of a block each element is of, in the order in which products are computed: indices
/// come out of [`x86::unpack`] in an order of their own, and entries out of the halves of lanes.
#[cfg(target_arch = "x86_64")]
const fn order(bits: usize) -> [u8; BLOCK] {
    let mut order = [0; BLOCK];
    let mut at = 0;
    while at < BLOCK {
        // Sixteen products come of the lower or upper eight bytes of both lanes.
        let (half, quarter, lane, byte) = (at / 32, at / 16 % 2, at / 8 % 2, at % 8);
        let byte = quarter * 8 + byte;
        let column = match bits {
            6 | 12 => lane * 16 + byte,
            3 | 4 => byte * 2 + lane,
            2 => byte % 8 * 4 + lane * 2 + byte / 8,
            _ => byte % 4 * 8 + lane * 4 + byte / 4,
        };
        order[at] = (half * 32 + column) as u8;
        at += 1;
    }
    order
}

/// Decodes elements of one table: `output` becomes the entries that the indices from the first byte on
/// name. False, and nothing is written, where the processor has no fast way.
pub(crate) fn decode(bits: u8, indices: &[u8], table: &[f16], output: &mut [f32]) -> bool {
    if !suits(bits) || table.len() != 1 << bits {
        return false;
    }
    assert!(indices.len() * 8 >= output.len() * usize::from(bits), "an index for each element");
    #[cfg(target_arch = "x86_64")]
    x86::decode(bits, indices, &halves(table.iter().map(|entry| entry.to_le_bytes())), output);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, pack};

    /// Vectors in the form that rows are multiplied with.
    fn columns(tables: &Tables, vectors: &[Vec<f32>]) -> Option<Vec<Group>> {
        let group = |(first, size)| {
            tables.group(size, |from, parts| {
                for (part, vector) in parts.iter_mut().zip(&vectors[first..]) {
                    let own = &vector[from..vector.len().min(from + BLOCK)];
                    part[..own.len()].copy_from_slice(own);
                }
            })
        };
        groups(vectors.len()).map(group).collect()
    }

    /// The row and the vector of a product at this place of all.
    fn place(at: usize, rows: usize, count: usize) -> (usize, usize) {
        let first = at / (ROWS * count) * ROWS;
        let (here, rest) = (ROWS.min(rows - first), at % (ROWS * count));
        (first + rest % here, rest / here)
    }

    /// What [`Tables::times`] computes, from its definition and one number after the other, up to the
    /// order in which blocks are summed up.
    fn definition(row: &[f32], table: &[f32], vector: &[f32]) -> f64 {
        let largest =
            |values: &[f32]| values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
        let whole =
            |value: f32, largest: f32| f64::from((value * (LARGEST / largest)).round_ties_even());
        let scale = |largest: f32| f64::from(largest / LARGEST);
        let of_table = largest(table);
        let blocks = row.chunks(BLOCK).zip(vector.chunks(BLOCK)).map(|(row, vector)| {
            let of_block = largest(vector);
            if of_block == 0.0 || of_table == 0.0 {
                return 0.0;
            }
            let products = row.iter().zip(vector);
            let sum: f64 = products.map(|(a, b)| whole(*a, of_table) * whole(*b, of_block)).sum();
            sum * scale(of_block)
        });
        blocks.sum::<f64>() * scale(of_table)
    }

    #[test]
    fn products_are_those_of_rounded_numbers_and_near_those_of_all_digits() {
        let mut random = Random::new(17);
        for bits in [1, 2, 3, 4, 6_u8].into_iter().filter(|bits| suits(*bits)) {
            for (rows, depth, group) in
                [(9, 8, 3), (8, 64, 4), (13, 200, 13), (6, 72, 1), (5, 320, 5)]
            {
                let size = 1_usize << bits;
                let indices: Vec<usize> = (0..rows * depth).map(|_| random.below(size)).collect();
                let entries = random.units(rows / group * size);
                let decoded: Vec<f32> = (indices.iter().enumerate())
                    .map(|(at, index)| entries[at / (group * depth) * size + index])
                    .collect();
                let tables =
                    Tables::new(bits, group * depth, depth, entries.iter().copied()).unwrap();
                let bytes = pack(&indices, bits);
                let vectors: Vec<Vec<f32>> = (0..23).map(|_| random.units(depth)).collect();
                for count in [1, 2, 3, 4, 7, 23] {
                    let columns = columns(&tables, &vectors[..count]).unwrap();
                    for first in [0, 1, rows - 1] {
                        let mut output = vec![f32::NAN; (rows - first) * count];
                        tables.times(&bytes, first, &columns, &mut output);
                        for (at, found) in output.iter().enumerate() {
                            let (row, vector) = place(at, rows - first, count);
                            let (row, vector) = (first + row, &vectors[vector]);
                            let own = &decoded[row * depth..][..depth];
                            let table = &entries[row / group * size..][..size];
                            let expected = definition(own, table, vector);
                            let exact: f64 =
                                own.iter().zip(vector).map(|(a, b)| f64::from(a * b)).sum();
                            let (found, root) = (f64::from(*found), (depth as f64).sqrt());
                            assert!((found - expected).abs() < 1e-6 * root, "{bits} {depth} {row}");
                            assert!((found - exact).abs() < 6e-5 * root, "{bits} {depth} {row}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_product_does_not_depend_on_its_neighbours() {
        let (rows, depth, count) = (20, 136, 21);
        let mut random = Random::new(23);
        for bits in [3, 4, 6_u8].into_iter().filter(|bits| suits(*bits)) {
            let size = 1_usize << bits;
            let indices: Vec<usize> = (0..rows * depth).map(|_| random.below(size)).collect();
            let bytes = pack(&indices, bits);
            let entries = random.units(10 * size);
            let tables = Tables::new(bits, 2 * depth, depth, entries.into_iter()).unwrap();
            let vectors: Vec<Vec<f32>> = (0..count).map(|_| random.units(depth)).collect();
            let together = columns(&tables, &vectors).unwrap();
            let mut all = vec![f32::NAN; rows * count];
            tables.times(&bytes, 0, &together, &mut all);
            for (column, vector) in vectors.iter().enumerate() {
                let one = columns(&tables, std::slice::from_ref(vector)).unwrap();
                for row in 0..rows {
                    let mut output = [f32::NAN];
                    tables.times(&bytes, row, &one, &mut output);
                    let found = (0..all.len()).find(|at| place(*at, rows, count) == (row, column));
                    assert_eq!(output[0].to_bits(), all[found.unwrap()].to_bits());
                }
            }
        }
    }

    #[test]
    fn products_of_rounded_rows_are_those_of_what_they_stand_for() {
        let mut random = Random::new(61);
        for (rows, depth) in [(1, 1), (5, 63), (7, 64), (21, 200)] {
            let mut exact = random.units(rows * depth);
            exact[..depth].fill(0.0);
            let mut bytes = vec![0; rows * rounded_bytes(depth)];
            let read = |row: usize, output: &mut [f32]| {
                output.copy_from_slice(&exact[row * depth..][..depth]);
            };
            let Some(tables) = Tables::rounded(depth, &mut bytes, read) else { return };
            let mut near = vec![f32::NAN; rows * depth];
            tables.widen(&bytes, 0, &mut near);
            for (row, exact) in near.chunks(depth).zip(exact.chunks(depth)) {
                let largest = exact.iter().fold(0.0, |most: f32, one| most.max(one.abs()));
                let errors = row.iter().zip(exact).map(|(a, b)| (a - b).abs());
                assert!(errors.fold(0.0, f32::max) <= largest / 4094.0 * 1.001);
            }
            let vectors: Vec<Vec<f32>> = (0..11).map(|_| random.units(depth)).collect();
            for count in [1, 2, 11] {
                let columns = columns(&tables, &vectors[..count]).unwrap();
                let mut output = vec![f32::NAN; rows * count];
                tables.times(&bytes, 0, &columns, &mut output);
                for (at, found) in output.iter().enumerate() {
                    let (row, vector) = place(at, rows, count);
                    let products = near[row * depth..][..depth].iter().zip(&vectors[vector]);
                    let sum: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let root = (depth as f64).sqrt();
                    assert!((f64::from(*found) - sum).abs() < 4e-5 * root, "{depth} {row}");
                }
            }
            let last = |row: usize, output: &mut [f32]| {
                output.fill(if row + 1 == rows { f32::INFINITY } else { 0.5 });
            };
            assert!(Tables::rounded(depth, &mut bytes, last).is_none());
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        for bits in [1, 4, 6_u8].into_iter().filter(|bits| suits(*bits)) {
            let entries = std::iter::repeat_n(-65504.0, 1 << bits);
            let tables = Tables::new(bits, 256, 256, entries).unwrap();
            let vectors = [vec![-65504.0; 256]];
            let given = columns(&tables, &vectors).unwrap();
            let mut output = [f32::NAN];
            tables.times(&[0; 192], 0, &given, &mut output);
            let expected = 256.0 * 65504.0 * 65504.0;
            assert!((output[0] / expected - 1.0).abs() < 1e-6, "{}", output[0]);
            let mut bytes = vec![0; rounded_bytes(256)];
            let tables = Tables::rounded(256, &mut bytes, |_, row| row.fill(-65504.0)).unwrap();
            let given = columns(&tables, &vectors).unwrap();
            tables.times(&bytes, 0, &given, &mut output);
            assert!((output[0] / expected - 1.0).abs() < 1e-6, "{}", output[0]);
        }
    }

    #[test]
    fn what_is_not_finite_has_no_such_form() {
        if !suits(4) {
            return;
        }
        let entries = |last| std::iter::repeat_n(0.5, 15).chain([last]).collect::<Vec<f32>>();
        let tables = |last, run, depth| Tables::new(4, run, depth, entries(last).into_iter());
        let good = tables(0.25, 32, 32).unwrap();
        assert!(tables(f32::INFINITY, 32, 32).is_none() && tables(f32::NAN, 32, 32).is_none());
        assert!(tables(0.25, 33, 33).is_none(), "a row begins inside of a byte");
        assert!(tables(0.25, 16, 32).is_none(), "a row has two tables");
        for last in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut vector = vec![1.0; 32];
            vector[31] = last;
            assert!(columns(&good, &[vector]).is_none());
        }
        let zeros = columns(&good, &[vec![0.0; 32]]).unwrap();
        let mut output = [f32::NAN];
        good.times(&[0x77; 16], 0, &zeros, &mut output);
        assert_eq!(output, [0.0]);
    }

    #[test]
    fn decoded_elements_are_the_entries_that_their_indices_name() {
        let mut random = Random::new(29);
        for bits in [1, 2, 3, 4, 6_u8].into_iter().filter(|bits| suits(*bits)) {
            let table: Vec<f16> =
                (0..1_usize << bits).map(|_| f16::from_f32(random.unit())).collect();
            for count in [8, 64, 200] {
                let indices: Vec<usize> = (0..count).map(|_| random.below(table.len())).collect();
                let mut output = vec![f32::NAN; count];
                assert!(decode(bits, &pack(&indices, bits), &table, &mut output));
                let expected: Vec<f32> =
                    indices.iter().map(|index| table[*index].to_f32()).collect();
                assert_eq!(output, expected, "{bits} bits");
            }
        }
        assert!(!decode(8, &[0; 8], &[f16::ONE; 256], &mut [0.0; 8]));
    }
}
