//! Dot products of rows that are stored as indices into tables, in whole numbers: entries and factors
//! are rounded to 15 bits with their signs, what they stand for is multiplied and summed up exactly,
//! and every [`BLOCK`] columns the sum goes on in f32.
//!
//! Entries keep their place in registers, as two halves of one byte each, and no decoded weight is
//! written to memory. Rounding moves an entry by at most 1/32766 of the largest one of its table, and
//! a factor by at most as much of the largest one of its block. Float16 moves what is near the largest
//! by up to 1/4096. The results do not depend on how many rows or vectors are computed at once.

use half::f16;

/// Columns that share a scale, and whose products are summed up in whole numbers.
pub(crate) const BLOCK: usize = 64;

/// The largest entry of a table and the largest factor of a block, as they are kept. Eight products of
/// both are below 2^31: four pairs go into each sum.
const LARGEST: f32 = 16383.0;

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
            let (scale, factor) = scale(table)?;
            let rounded = table.iter().map(|entry| round(*entry, factor).to_le_bytes());
            tables.entries.extend(halves(rounded));
            tables.scales.push(scale);
        }
        Some(tables)
    }

    /// The vectors, each with as many elements as a row, in the form that these rows are multiplied
    /// with; none where an element is not finite.
    pub(crate) fn columns<'v>(
        &self,
        vectors: impl ExactSizeIterator<Item = &'v [f32]>,
    ) -> Option<Columns> {
        let blocks = self.depth.div_ceil(BLOCK);
        let mut columns = Columns {
            bits: self.bits,
            depth: self.depth,
            count: vectors.len(),
            values: vec![0; vectors.len() * blocks * BLOCK],
            scales: Vec::with_capacity(vectors.len() * blocks),
        };
        let places = places(self.bits);
        let mut values = columns.values.chunks_exact_mut(BLOCK);
        for vector in vectors {
            assert_eq!(vector.len(), self.depth, "one element per column");
            for (part, values) in vector.chunks(BLOCK).zip(values.by_ref()) {
                columns.scales.push(rounded_block(part, places, values)?);
            }
        }
        Some(columns)
    }

    /// The dot products of rows from number `first` on with every vector: those of the first row, one
    /// for each vector, then those of the next row, and so on.
    ///
    /// # Panics
    /// When the vectors are not for these rows, or a row has no indices or no table.
    pub(crate) fn times(
        &self,
        indices: &[u8],
        first: usize,
        columns: &Columns,
        output: &mut [f32],
    ) {
        let count = output.len() / columns.count.max(1);
        let end = first + count;
        assert_eq!(count * columns.count, output.len(), "a product for each vector");
        assert_eq!(
            (columns.bits, columns.depth),
            (self.bits, self.depth),
            "vectors for these rows"
        );
        assert!(end * self.row_bytes() <= indices.len(), "indices of every row");
        assert!(end.div_ceil(self.rows) <= self.scales.len(), "every table");
        #[cfg(target_arch = "x86_64")]
        x86::times(self, indices, first, columns, output);
    }

    fn row_bytes(&self) -> usize {
        self.depth * usize::from(self.bits) / 8
    }
}

/// Vectors as [`Tables::times`] takes them.
pub(crate) struct Columns {
    bits: u8,
    depth: usize,
    count: usize,
    /// Of each vector, block by block: its elements in the order in which indices are unpacked, zeros
    /// behind the end.
    values: Vec<i16>,
    /// Of each vector, block by block: what one stands for.
    scales: Vec<f32>,
}

impl Columns {
    /// Number of vectors.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

/// What one stands for, and by what values are multiplied before they are rounded; none where a value
/// is not finite or all are too small to be multiplied.
#[inline(always)]
fn scale(values: &[f32]) -> Option<(f32, f32)> {
    let (mut largest, mut nothing) = ([0.0_f32; 16], [0.0_f32; 16]);
    let (whole, rest) = values.as_chunks::<16>();
    for chunk in whole.iter().map(<[f32; 16]>::as_slice).chain([rest]) {
        for (at, value) in chunk.iter().enumerate() {
            let size = value.abs();
            largest[at] = if size > largest[at] { size } else { largest[at] };
            // Infinity and NaN become NaN, which a maximum would lose.
            nothing[at] += size * 0.0;
        }
    }
    let largest = largest.into_iter().fold(0.0, f32::max);
    if nothing.iter().sum::<f32>().is_nan() {
        return None;
    }
    if largest == 0.0 {
        return Some((0.0, 0.0));
    }
    let factor = LARGEST / largest;
    factor.is_finite().then_some((largest / LARGEST, factor))
}

/// Rounded to the nearest whole number.
#[inline(always)]
fn round(value: f32, factor: f32) -> i16 {
    (value * factor).round_ties_even() as i16
}

/// Up to [`BLOCK`] elements, rounded and put where `places` has their columns, zeros behind them. What one stands
/// for, where [`scale`] finds it.
fn rounded_block(part: &[f32], places: &[u8; BLOCK], values: &mut [i16]) -> Option<f32> {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: there are vectors of tables only where the processor has the features.
    #[allow(unsafe_code)]
    return unsafe { x86::rounded_block(part, places, values) };
    #[cfg(not(target_arch = "x86_64"))]
    rounded(part, places, values)
}

/// See [`rounded_block`].
#[inline(always)]
fn rounded(part: &[f32], places: &[u8; BLOCK], values: &mut [i16]) -> Option<f32> {
    let (scale, factor) = scale(part)?;
    let mut rounded = [0; BLOCK];
    for (value, element) in rounded.iter_mut().zip(part) {
        *value = round(*element, factor);
    }
    for (value, place) in values.iter_mut().zip(places) {
        *value = rounded[usize::from(*place) % BLOCK];
    }
    Some(scale)
}

/// Which column of a block each element is of, in the order in which products are computed: indices
/// come out of [`x86::unpack`] in an order of their own, and entries out of the halves of lanes.
fn places(bits: u8) -> &'static [u8; BLOCK] {
    const ALL: [[u8; BLOCK]; 5] = [order(1), order(2), order(3), order(4), order(6)];
    match bits {
        1 => &ALL[0],
        2 => &ALL[1],
        3 => &ALL[2],
        4 => &ALL[3],
        _ => &ALL[4],
    }
}

/// See [`places`].
const fn order(bits: u8) -> [u8; BLOCK] {
    let mut order = [0; BLOCK];
    let mut at = 0;
    while at < BLOCK {
        // Sixteen products come of the lower or upper eight bytes of both lanes.
        let (half, quarter, lane, byte) = (at / 32, at / 16 % 2, at / 8 % 2, at % 8);
        let byte = quarter * 8 + byte;
        let column = match bits {
            6 => lane * 16 + byte,
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_code)]
    use super::{BLOCK, Columns, PART, Tables};
    use crate::simd::x86::sum;
    use std::arch::x86_64::*;
    use std::ptr;

    /// How many groups of rows ahead indices are asked for: rows are too short for a processor to guess
    /// where it goes on.
    const AHEAD: usize = 2;

    /// Bytes that the indices of a block have at most.
    const MOST_BYTES: usize = BLOCK * 6 / 8;

    /// Parts of a table: registers for one half of its entries.
    const fn parts(bits: usize) -> usize {
        if bits == 6 { 4 } else { 1 }
    }

    /// [`Tables::times`], whose assertions hold.
    pub(super) fn times(
        tables: &Tables,
        indices: &[u8],
        first: usize,
        columns: &Columns,
        output: &mut [f32],
    ) {
        macro_rules! with {
            ($($bits:literal),*) => {
                match tables.bits {
                    // SAFETY: tables are only made where the processor has the features; indices and
                    // tables of every row are there.
                    $($bits => unsafe { all::<$bits>(tables, indices, first, columns, output) },)*
                    _ => {}
                }
            };
        }
        with!(1, 2, 3, 4, 6);
    }

    /// [`super::rounded`] with wide registers.
    ///
    /// SAFETY: the processor must have the features.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn rounded_block(
        part: &[f32],
        places: &[u8; BLOCK],
        values: &mut [i16],
    ) -> Option<f32> {
        super::rounded(part, places, values)
    }

    /// [`super::decode`], with the halves of a table, where there is an index for each element.
    pub(super) fn decode(bits: u8, indices: &[u8], entries: &[u8], output: &mut [f32]) {
        macro_rules! with {
            ($($bits:literal),*) => {
                match bits {
                    // SAFETY: the caller asked whether the processor has the features.
                    $($bits => unsafe { decoded::<$bits>(indices, entries, output) },)*
                    _ => {}
                }
            };
        }
        with!(1, 2, 3, 4, 6);
    }

    /// SAFETY: the processor must have the features.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn decoded<const BITS: usize>(indices: &[u8], entries: &[u8], output: &mut [f32]) {
        assert_eq!(entries.len(), 2 * parts(BITS) * PART, "all entries of a table");
        for (block, output) in output.chunks_mut(BLOCK).enumerate() {
            let from = &indices[block * 8 * BITS..];
            let mut padded = [0; MOST_BYTES];
            let bytes = match from.get(..8 * BITS) {
                Some(bytes) => bytes,
                None => {
                    padded[..from.len()].copy_from_slice(from);
                    &padded[..8 * BITS]
                }
            };
            let mut values = [0.0; BLOCK];
            // SAFETY: the bytes of 64 indices, and all entries of a table.
            unsafe {
                let unpacked = unpack::<BITS>(bytes.as_ptr());
                let [a, b] = unpacked;
                let ordered = [in_order::<BITS>(a), in_order::<BITS>(b)];
                let found = look_up::<BITS, 2>(ordered, entries.as_ptr());
                for (half, found) in found.into_iter().enumerate() {
                    for (quarter, halves) in found.into_iter().enumerate() {
                        let lower = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
                        let upper = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
                        // Both lie inside of the 64: 32 + 8 + 16 + 8.
                        let at = values.as_mut_ptr().add(32 * half + 8 * quarter);
                        _mm256_storeu_ps(at, lower);
                        _mm256_storeu_ps(at.add(16), upper);
                    }
                }
            }
            output.copy_from_slice(&values[..output.len()]);
        }
    }

    /// Indices as [`unpack`] gives them, in the order of their elements.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn in_order<const BITS: usize>(indices: __m256i) -> __m256i {
        if BITS == 6 {
            return indices;
        }
        let lanes = |bytes| (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
        let (low, high) = match BITS {
            3 | 4 => {
                let (even, odd) = lanes(indices);
                (_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd))
            }
            2 => {
                let pairs = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
                let turned = _mm256_shuffle_epi8(indices, _mm256_broadcastsi128_si256(pairs));
                let (first, second) = lanes(turned);
                (_mm_unpacklo_epi16(first, second), _mm_unpackhi_epi16(first, second))
            }
            _ => {
                let fours = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let turned = _mm256_shuffle_epi8(indices, _mm256_broadcastsi128_si256(fours));
                let (first, second) = lanes(turned);
                (_mm_unpacklo_epi32(first, second), _mm_unpackhi_epi32(first, second))
            }
        };
        _mm256_set_m128i(high, low)
    }

    /// SAFETY: the processor must have the features; the rows must have their indices and tables.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn all<const BITS: usize>(
        tables: &Tables,
        indices: &[u8],
        first: usize,
        columns: &Columns,
        output: &mut [f32],
    ) {
        let count = columns.count;
        // Rows that are computed together. With six bits more would leave no registers.
        let together = if BITS == 6 { 2 } else { 4 };
        let rows = output.len() / count.max(1);
        let mut row = 0;
        while row < rows {
            let number = first + row;
            let here = if row + together <= rows { together } else { 1 };
            let shared = number % tables.rows + here <= tables.rows;
            let here = if BITS == 6 && !shared { 1 } else { here };
            let mut column = 0;
            while column < count {
                let left = count - column;
                // SAFETY: the caller's promise.
                macro_rules! some {
                    ($rows:literal, $columns:literal, $shared:literal) => {{
                        let sums = unsafe {
                            block::<BITS, $rows, $columns, $shared>(
                                tables, indices, number, columns, column,
                            )
                        };
                        for (r, sums) in sums.iter().enumerate() {
                            let at = (row + r) * count + column;
                            output[at..at + $columns].copy_from_slice(sums);
                        }
                        column += $columns;
                    }};
                }
                match (here, left, shared) {
                    (4, 1, true) => some!(4, 1, true),
                    (4, 1, false) => some!(4, 1, false),
                    (4, _, true) => some!(4, 2, true),
                    (4, _, false) => some!(4, 2, false),
                    (2, 1, _) => some!(2, 1, true),
                    (2, _, _) => some!(2, 2, true),
                    (_, 1, _) => some!(1, 1, true),
                    (_, 2 | 3, _) => some!(1, 2, true),
                    _ => some!(1, 4, true),
                }
            }
            row += here;
        }
    }

    /// Dot products of R rows with C vectors. `SHARED` says that the rows have one table.
    ///
    /// SAFETY: as for [`all`]; there must be as many vectors.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn block<const BITS: usize, const R: usize, const C: usize, const SHARED: bool>(
        tables: &Tables,
        indices: &[u8],
        first: usize,
        columns: &Columns,
        column: usize,
    ) -> [[f32; C]; R] {
        let blocks = tables.depth.div_ceil(BLOCK);
        let whole = tables.depth / BLOCK;
        // Loops: what `array::from_fn` is given is called, and not inlined here.
        let (mut values, mut scales) = ([ptr::null(); C], [&[][..]; C]);
        for c in 0..C {
            values[c] = columns.values[(column + c) * blocks * BLOCK..][..blocks * BLOCK].as_ptr();
            scales[c] = &columns.scales[(column + c) * blocks..][..blocks];
        }
        let (size, width) = (2 * parts(BITS) * PART, tables.row_bytes());
        let (mut entries, mut rows) = ([ptr::null(); R], [&[][..]; R]);
        for r in 0..R {
            entries[r] = tables.entries[(first + r) / tables.rows * size..][..size].as_ptr();
            rows[r] = &indices[(first + r) * width..][..width];
        }
        let mut sums = [[_mm256_setzero_ps(); C]; R];
        let mut bytes = [ptr::null(); R];
        for r in 0..R {
            bytes[r] = rows[r].as_ptr();
        }
        for at in 0..whole {
            // SAFETY: the bytes of 64 indices of each row, all entries of a table, 64 values of each
            // vector, and its scale.
            unsafe {
                add_block::<BITS, R, C, SHARED>(bytes, entries, values, scales, at, &mut sums);
                for bytes in &mut bytes {
                    _mm_prefetch::<_MM_HINT_T0>(bytes.wrapping_add(AHEAD * R * width).cast());
                    *bytes = bytes.add(8 * BITS);
                }
            }
        }
        if whole < blocks {
            // What the zeros name is multiplied with zeros.
            let mut padded = [[0; MOST_BYTES]; R];
            for (padded, row) in padded.iter_mut().zip(rows) {
                let rest = &row[whole * 8 * BITS..];
                padded[..rest.len()].copy_from_slice(rest);
            }
            for r in 0..R {
                bytes[r] = padded[r].as_ptr();
            }
            // SAFETY: as above.
            unsafe {
                add_block::<BITS, R, C, SHARED>(bytes, entries, values, scales, whole, &mut sums);
            }
        }
        let mut results = [[0.0; C]; R];
        for r in 0..R {
            let scale = tables.scales[(first + r) / tables.rows];
            for c in 0..C {
                results[r][c] = sum(sums[r][c]) * scale;
            }
        }
        results
    }

    /// Adds the products of 64 weights of each row with the block of this number of each vector.
    ///
    /// SAFETY: there must be the bytes of 64 indices and all entries of a table for each row, and a block
    /// of this number.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_block<const BITS: usize, const R: usize, const C: usize, const SHARED: bool>(
        bytes: [*const u8; R],
        entries: [*const u8; R],
        values: [*const i16; C],
        scales: [&[f32]; C],
        at: usize,
        sums: &mut [[__m256; C]; R],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if BITS == 6 && R == 2 && SHARED {
                // Each part of the table is read once for both rows.
                let [a, b] = unpack::<BITS>(bytes[0]);
                let [c, d] = unpack::<BITS>(bytes[R - 1]);
                let [a, b, c, d] = look_up::<BITS, 4>([a, b, c, d], entries[0]);
                add_products([a[0], a[1], b[0], b[1]], values, scales, at, &mut sums[0]);
                add_products([c[0], c[1], d[0], d[1]], values, scales, at, &mut sums[R - 1]);
                return;
            }
            for r in 0..R {
                let table = if SHARED { entries[0] } else { entries[r] };
                let [a, b] = look_up::<BITS, 2>(unpack::<BITS>(bytes[r]), table);
                add_products([a[0], a[1], b[0], b[1]], values, scales, at, &mut sums[r]);
            }
        }
    }

    /// Adds the products of 64 weights with the block of this number of each vector.
    ///
    /// SAFETY: there must be a block of this number.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_products<const C: usize>(
        weights: [__m256i; 4],
        values: [*const i16; C],
        scales: [&[f32]; C],
        at: usize,
        sums: &mut [__m256; C],
    ) {
        for c in 0..C {
            // SAFETY: the caller's promise.
            let scale = _mm256_set1_ps(unsafe { *scales[c].get_unchecked(at) });
            // SAFETY: the caller's promise.
            let products = unsafe { products(weights, values[c].add(at * BLOCK)) };
            sums[c] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scale, sums[c]);
        }
    }

    /// Products of 64 weights with 64 values, in eight sums.
    ///
    /// SAFETY: there must be 64 values.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn products(weights: [__m256i; 4], values: *const i16) -> __m256i {
        let mut sums = [_mm256_setzero_si256(); 4];
        for part in 0..4 {
            // SAFETY: the caller's promise.
            let values = unsafe { _mm256_loadu_si256(values.add(PART * part).cast()) };
            sums[part] = _mm256_madd_epi16(weights[part], values);
        }
        let [a, b, c, d] = sums;
        _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d))
    }

    /// The entries that 32 indices name, of each register: those of the lower eight bytes of both
    /// lanes, then those of the upper ones.
    ///
    /// SAFETY: there must be all entries of a table.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn look_up<const BITS: usize, const N: usize>(
        mut indices: [__m256i; N],
        entries: *const u8,
    ) -> [[__m256i; 2]; N] {
        let (mut low, mut high) = ([_mm256_setzero_si256(); N], [_mm256_setzero_si256(); N]);
        for part in 0..parts(BITS) {
            // SAFETY: the caller's promise: the second half of a table lies behind the first.
            let low_table = unsafe { twice(entries.add(PART * part)) };
            // SAFETY: as above.
            let high_table = unsafe { twice(entries.add(PART * (parts(BITS) + part))) };
            for at in 0..N {
                if part > 0 {
                    // An index of an earlier part becomes negative, and names a zero. One of a later
                    // part finds an entry here, too: differences add up to the entry of its own part.
                    indices[at] = _mm256_sub_epi8(indices[at], _mm256_set1_epi8(PART as i8));
                }
                low[at] = _mm256_xor_si256(low[at], _mm256_shuffle_epi8(low_table, indices[at]));
                high[at] = _mm256_xor_si256(high[at], _mm256_shuffle_epi8(high_table, indices[at]));
            }
        }
        let mut found = [[_mm256_setzero_si256(); 2]; N];
        for at in 0..N {
            found[at] =
                [_mm256_unpacklo_epi8(low[at], high[at]), _mm256_unpackhi_epi8(low[at], high[at])];
        }
        found
    }

    /// The indices of a block, a byte each, in two registers.
    ///
    /// SAFETY: there must be the bytes of 64 indices.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const BITS: usize>(bytes: *const u8) -> [__m256i; 2] {
        // SAFETY: the caller's promise: each half reads `4 * BITS` bytes, of three bits those between
        // the halves twice.
        unsafe { [unpack_half::<BITS, 0>(bytes), unpack_half::<BITS, 1>(bytes)] }
    }

    /// The indices of the first or the second half of a block. No closures: what they are given to is
    /// called, and not inlined here.
    ///
    /// SAFETY: there must be the bytes of 64 indices.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack_half<const BITS: usize, const HALF: usize>(bytes: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            match BITS {
                1 => {
                    let word = bytes.add(4 * HALF).cast::<i32>().read_unaligned();
                    let shifts = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                    masked(_mm256_srlv_epi32(_mm256_set1_epi32(word), shifts), 1)
                }
                2 => {
                    let word = bytes.add(8 * HALF).cast::<i64>().read_unaligned();
                    let shifts = _mm256_setr_epi64x(0, 2, 4, 6);
                    masked(_mm256_srlv_epi64(_mm256_set1_epi64x(word), shifts), 3)
                }
                3 => {
                    // Twelve bytes are 16 pairs; the second twelve are read from four before them on.
                    let pairs = pairs(twice(bytes.add(8 * HALF)), HALF == 1);
                    let shifts = _mm256_setr_epi64x(0, 0, 3, 3);
                    masked(_mm256_srlv_epi64(pairs, shifts), 7)
                }
                4 => {
                    let shifts = _mm256_setr_epi64x(0, 0, 4, 4);
                    masked(_mm256_srlv_epi64(twice(bytes.add(16 * HALF)), shifts), 15)
                }
                _ => {
                    let at = bytes.add(24 * HALF);
                    sixes(_mm256_loadu2_m128i(at.add(8).cast(), at.cast()), [0, 4])
                }
            }
        }
    }

    /// The same 16 bytes in both lanes.
    ///
    /// SAFETY: there must be 16 bytes.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn twice(bytes: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn masked(bytes: __m256i, mask: i8) -> __m256i {
        _mm256_and_si256(bytes, _mm256_set1_epi8(mask))
    }

    /// Pairs of indices of three bits, of the first or the last twelve bytes of each lane.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn pairs(bytes: __m256i, last: bool) -> __m256i {
        sixes(bytes, if last { [4, 4] } else { [0, 0] })
    }

    /// Sixteen integers of six bits of each lane, from these bytes of the lanes on: three bytes are
    /// four integers.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn sixes(bytes: __m256i, [lower, upper]: [i8; 2]) -> __m256i {
        // Of three bytes the first and second, and the second and third, side by side.
        let triples = _mm256_setr_epi8(
            0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11, //
            0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11,
        );
        let start = _mm256_setr_m128i(_mm_set1_epi8(lower), _mm_set1_epi8(upper));
        let words = _mm256_shuffle_epi8(bytes, _mm256_add_epi8(triples, start));
        const SECOND: i32 = 0xAA;
        let low = _mm256_blend_epi16::<SECOND>(words, _mm256_srli_epi16(words, 4));
        let (left, right) = (_mm256_slli_epi16(words, 2), _mm256_srli_epi16(words, 2));
        let high = _mm256_blend_epi16::<SECOND>(left, right);
        let low = _mm256_and_si256(low, _mm256_set1_epi16(0x003F));
        _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi16(0x3F00)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, pack};

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
                let vectors: Vec<Vec<f32>> = (0..7).map(|_| random.units(depth)).collect();
                for count in [1, 2, 3, 4, 7] {
                    let given = vectors[..count].iter().map(Vec::as_slice);
                    let columns = tables.columns(given).unwrap();
                    for first in [0, 1, rows - 1] {
                        let mut output = vec![f32::NAN; (rows - first) * count];
                        tables.times(&bytes, first, &columns, &mut output);
                        for (at, found) in output.iter().enumerate() {
                            let (row, vector) = (first + at / count, &vectors[at % count]);
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
        let (rows, depth, count) = (10, 136, 6);
        let mut random = Random::new(23);
        for bits in [3, 4, 6_u8].into_iter().filter(|bits| suits(*bits)) {
            let size = 1_usize << bits;
            let indices: Vec<usize> = (0..rows * depth).map(|_| random.below(size)).collect();
            let bytes = pack(&indices, bits);
            let entries = random.units(5 * size);
            let tables = Tables::new(bits, 2 * depth, depth, entries.into_iter()).unwrap();
            let vectors: Vec<Vec<f32>> = (0..count).map(|_| random.units(depth)).collect();
            let columns = tables.columns(vectors.iter().map(Vec::as_slice)).unwrap();
            let mut all = vec![f32::NAN; rows * count];
            tables.times(&bytes, 0, &columns, &mut all);
            for (column, vector) in vectors.iter().enumerate() {
                let one = tables.columns([vector.as_slice()].into_iter()).unwrap();
                for row in 0..rows {
                    let mut output = [f32::NAN];
                    tables.times(&bytes, row, &one, &mut output);
                    assert_eq!(output[0].to_bits(), all[row * count + column].to_bits());
                }
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        for bits in [1, 4, 6_u8].into_iter().filter(|bits| suits(*bits)) {
            let entries = std::iter::repeat_n(-65504.0, 1 << bits);
            let tables = Tables::new(bits, 256, 256, entries).unwrap();
            let vector = [-65504.0; 256];
            let columns = tables.columns([vector.as_slice()].into_iter()).unwrap();
            let mut output = [f32::NAN];
            tables.times(&[0; 192], 0, &columns, &mut output);
            let expected = 256.0 * 65504.0 * 65504.0;
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
            let mut vector = [1.0; 32];
            vector[31] = last;
            assert!(good.columns([vector.as_slice()].into_iter()).is_none());
        }
        let zeros = good.columns([[0.0; 32].as_slice()].into_iter()).unwrap();
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
