//! Products in whole numbers with the registers of AVX2.
#![allow(unsafe_code)]
use super::{BLOCK, Block, Group, PART, ROWS, Tables};
use crate::simd::x86::{sum, sums as sums_of};
use std::arch::x86_64::*;
use std::ptr;

/// How many groups of rows ahead indices are asked for: rows are too short for a processor to guess
/// where it goes on.
const AHEAD: usize = 2;

/// Vectors from which on rows are looked up before they are multiplied.
const MANY: usize = 3;

/// Registers that a block of weights takes.
const QUARTERS: usize = BLOCK / PART;

/// Bytes of a line of a cache.
const LINE: usize = 64;

/// Bytes that the indices of a block have at most.
const MOST_BYTES: usize = BLOCK * 12 / 8;

/// Parts of a table: registers for one half of its entries.
const fn parts(bits: usize) -> usize {
    match bits {
        12 => 0,
        6 => 4,
        _ => 1,
    }
}

/// [`Tables::times`], whose assertions hold.
pub(super) fn times(
    tables: &Tables,
    indices: &[u8],
    first: usize,
    columns: &[Group],
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
    with!(1, 2, 3, 4, 6, 12);
}

/// [`super::rounded_block`] for tables of so many bits, which are only made where the processor has the
/// features.
pub(super) fn rounded_block(bits: u8, wide: &[f32; BLOCK], values: &mut Block) -> Option<f32> {
    /// SAFETY: the processor must have the features.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn rounded<const BITS: usize>(wide: &[f32; BLOCK], values: &mut Block) -> Option<f32> {
        super::rounded::<BITS>(wide, values)
    }
    macro_rules! with {
        ($($bits:literal),*) => {
            match bits {
                // SAFETY: tables are only made where the processor has the features.
                $($bits => unsafe { rounded::<$bits>(wide, values) },)*
                _ => None,
            }
        };
    }
    with!(1, 2, 3, 4, 6, 12)
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
    columns: &[Group],
    output: &mut [f32],
) {
    let [group @ Group { size: ..MANY, .. }] = columns else {
        // SAFETY: the caller's promise.
        return unsafe { many::<BITS>(tables, indices, first, columns, output) };
    };
    // Rows that are computed together. With six bits more would leave no registers.
    let together = match BITS {
        6 => 2,
        12 => 1,
        _ => 4,
    };
    let count = group.size;
    for (part, output) in output.chunks_mut(ROWS * count).enumerate() {
        let (first, rows) = (first + part * ROWS, output.len() / count);
        let mut row = 0;
        while row < rows {
            let number = first + row;
            let here = if row + together <= rows { together } else { 1 };
            let shared = number % tables.rows + here <= tables.rows;
            let here = if BITS == 6 && !shared { 1 } else { here };
            macro_rules! some {
                ($rows:literal, $columns:literal, $shared:literal) => {{
                    // SAFETY: the caller's promise.
                    let sums = unsafe {
                        block::<BITS, $rows, $columns, $shared>(tables, indices, number, group)
                    };
                    for r in 0..$rows {
                        for c in 0..$columns {
                            output[c * rows + row + r] = sums[r][c];
                        }
                    }
                }};
            }
            match (here, count, shared) {
                (4, 1, true) => some!(4, 1, true),
                (4, 1, false) => some!(4, 1, false),
                (4, _, true) => some!(4, 2, true),
                (4, _, false) => some!(4, 2, false),
                (2, 1, _) => some!(2, 1, true),
                (2, _, _) => some!(2, 2, true),
                (_, 1, _) => some!(1, 1, true),
                (_, _, _) => some!(1, 2, true),
            }
            row += here;
        }
    }
}

/// As [`all`] for many vectors: rows are looked up once, into a buffer that stays in a cache, and
/// multiplied from there.
///
/// SAFETY: as for [`all`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn many<const BITS: usize>(
    tables: &Tables,
    indices: &[u8],
    first: usize,
    columns: &[Group],
    output: &mut [f32],
) {
    let count = columns.iter().map(|group| group.size).sum::<usize>().max(1);
    let blocks = tables.depth.div_ceil(BLOCK);
    let (size, width) = (2 * parts(BITS) * PART, tables.row_bytes());
    let mut weights = vec![[_mm256_setzero_si256(); QUARTERS]; ROWS * blocks];
    for (part, output) in output.chunks_mut(ROWS * count).enumerate() {
        let first = first + part * ROWS;
        let rows = output.len() / count;
        for (row, weights) in (first..first + rows).zip(weights.chunks_exact_mut(blocks)) {
            let entries = &tables.entries[row / tables.rows * size..][..size];
            // SAFETY: all entries of a table.
            unsafe {
                looked_up::<BITS>(&indices[row * width..][..width], entries.as_ptr(), weights);
            }
        }
        let mut column = 0;
        for group in columns {
            for (at, weights) in weights.chunks_exact(blocks).take(rows).enumerate() {
                let scale = tables.scales[(first + at) / tables.rows];
                let output = &mut output[column * rows + at..];
                macro_rules! some {
                    ($($columns:literal),*) => {
                        match group.size {
                            $($columns => {
                                // SAFETY: the caller's promise.
                                let products = unsafe {
                                    products_of_row::<$columns>(weights, group, scale)
                                };
                                for c in 0..$columns {
                                    output[c * rows] = products[c];
                                }
                            })*
                            _ => {}
                        }
                    };
                }
                some!(1, 2, 4, 8);
            }
            column += group.size;
        }
    }
}

/// The entries that the indices of a row name, block after block, those of zeros behind the end.
///
/// SAFETY: there must be all entries of a table.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn looked_up<const BITS: usize>(
    bytes: &[u8],
    entries: *const u8,
    weights: &mut [[__m256i; QUARTERS]],
) {
    for (weights, bytes) in weights.iter_mut().zip(bytes.chunks(8 * BITS)) {
        let mut padded = [0; MOST_BYTES];
        let bytes = match bytes.len() == 8 * BITS {
            true => bytes,
            false => {
                padded[..bytes.len()].copy_from_slice(bytes);
                &padded
            }
        };
        // SAFETY: the bytes of a block, and the caller's promise.
        *weights = unsafe { weights_of::<BITS>(bytes.as_ptr(), entries) };
    }
}

/// The products of a row with the C vectors of a group.
///
/// SAFETY: the processor must have the features; the group must have values and scales of each block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn products_of_row<const C: usize>(
    weights: &[[__m256i; QUARTERS]],
    group: &Group,
    scale: f32,
) -> [f32; C] {
    let (mut values, mut scales) = (group.values.as_ptr(), group.scales.as_ptr());
    let mut sums = [_mm256_setzero_ps(); C];
    for weights in weights {
        // SAFETY: the caller's promise.
        unsafe {
            add_products(*weights, values, scales, &mut sums);
            (values, scales) = (values.add(C), scales.add(C));
        }
    }
    let mut products = sums_of(sums);
    for product in &mut products {
        *product *= scale;
    }
    products
}

/// Dot products of R rows with C vectors. `SHARED` says that the rows have one table.
///
/// SAFETY: as for [`all`]; the group must have so many vectors.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block<const BITS: usize, const R: usize, const C: usize, const SHARED: bool>(
    tables: &Tables,
    indices: &[u8],
    first: usize,
    group: &Group,
) -> [[f32; C]; R] {
    let blocks = tables.depth.div_ceil(BLOCK);
    let whole = tables.depth / BLOCK;
    let (mut values, mut scales) = (group.values.as_ptr(), group.scales.as_ptr());
    let (size, width) = (2 * parts(BITS) * PART, tables.row_bytes());
    // Loops: what `array::from_fn` is given is called, and not inlined here.
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
    for _ in 0..whole {
        // SAFETY: the bytes of 64 indices of each row, all entries of a table, and the values and
        // scales of a block.
        unsafe {
            add_block::<BITS, R, C, SHARED>(bytes, entries, values, scales, &mut sums);
            for bytes in &mut bytes {
                let ahead = bytes.wrapping_add(AHEAD * R * width);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                if 8 * BITS > LINE {
                    _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(LINE).cast());
                }
                *bytes = bytes.add(8 * BITS);
            }
            (values, scales) = (values.add(C), scales.add(C));
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
        unsafe { add_block::<BITS, R, C, SHARED>(bytes, entries, values, scales, &mut sums) };
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

/// Adds the products of 64 weights of each row with a block of each vector.
///
/// SAFETY: there must be the bytes of 64 indices and all entries of a table for each row, and the values
/// and scales of a block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_block<const BITS: usize, const R: usize, const C: usize, const SHARED: bool>(
    bytes: [*const u8; R],
    entries: [*const u8; R],
    values: *const Block,
    scales: *const f32,
    sums: &mut [[__m256; C]; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        if BITS == 6 && R == 2 && SHARED {
            // Each part of the table is read once for both rows.
            let [a, b] = unpack::<BITS>(bytes[0]);
            let [c, d] = unpack::<BITS>(bytes[R - 1]);
            let [a, b, c, d] = look_up::<BITS, 4>([a, b, c, d], entries[0]);
            add_products([a[0], a[1], b[0], b[1]], values, scales, &mut sums[0]);
            add_products([c[0], c[1], d[0], d[1]], values, scales, &mut sums[R - 1]);
            return;
        }
        for r in 0..R {
            let table = if SHARED { entries[0] } else { entries[r] };
            add_products(weights_of::<BITS>(bytes[r], table), values, scales, &mut sums[r]);
        }
    }
}

/// The weights of a block, as whole numbers.
///
/// SAFETY: there must be the bytes of 64 weights, and all entries of a table.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn weights_of<const BITS: usize>(
    bytes: *const u8,
    entries: *const u8,
) -> [__m256i; QUARTERS] {
    // SAFETY: the caller's promise.
    unsafe {
        if BITS == 12 {
            let ([a, b], [c, d]) = (widened_half(bytes, 0), widened_half(bytes, 1));
            return [a, b, c, d];
        }
        let [a, b] = look_up::<BITS, 2>(unpack::<BITS>(bytes), entries);
        [a[0], a[1], b[0], b[1]]
    }
}

/// Half a block of numbers of twelve bits, times eight: their high bytes lie side by side, and behind
/// those of the block their low halves of bytes, of the first 16 and of the last 16 in one byte each.
///
/// SAFETY: there must be the bytes of a block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widened_half(bytes: *const u8, half: usize) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    let (high, low) = unsafe {
        (_mm256_loadu_si256(bytes.add(32 * half).cast()), twice(bytes.add(BLOCK + 16 * half)))
    };
    let low = _mm256_sllv_epi64(low, _mm256_setr_epi64x(4, 4, 0, 0));
    let low = _mm256_and_si256(low, _mm256_set1_epi8(0xF0_u8 as i8));
    let (a, b) = (_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high));
    [_mm256_srai_epi16(a, 1), _mm256_srai_epi16(b, 1)]
}

/// Adds the products of 64 weights with a block of each vector.
///
/// SAFETY: there must be the values and scales of a block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_products<const C: usize>(
    weights: [__m256i; QUARTERS],
    values: *const Block,
    scales: *const f32,
    sums: &mut [__m256; C],
) {
    for (c, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let (scale, products) =
            unsafe { (_mm256_set1_ps(*scales.add(c)), products(weights, values.add(c).cast())) };
        *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scale, *sum);
    }
}

/// Products of 64 weights with 64 values, in eight sums.
///
/// SAFETY: there must be 64 values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn products(weights: [__m256i; QUARTERS], values: *const i16) -> __m256i {
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
    // Each word has two integers in its low twelve bits then.
    const SECOND: i32 = 0xAA;
    let words = _mm256_blend_epi16::<SECOND>(words, _mm256_srli_epi16(words, 4));
    let low = _mm256_and_si256(words, _mm256_set1_epi16(0x003F));
    let high = _mm256_and_si256(_mm256_slli_epi16(words, 2), _mm256_set1_epi16(0x3F00));
    _mm256_or_si256(low, high)
}
