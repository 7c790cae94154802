//! The few loops that the compiler does not vectorise well by itself: fp16 conversion of slices
//! and dot products with fp16 rows. Each has a portable twin; the choice is made at run time.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// True when the AVX2 paths may run (AVX2, FMA and F16C).
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Runs `work` compiled for AVX2 where the processor has it; `work` should be `#[inline(always)]`
/// or a closure, so that its loops are vectorised with the wider registers.
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has the features, by the check above.
        #[allow(unsafe_code)]
        return unsafe { x86::with_avx2(work) };
    }
    work()
}

/// Converts fp16 to f32, exactly. Both slices have the same length.
pub(crate) fn widen(source: &[f16], target: &mut [f32]) {
    assert_eq!(source.len(), target.len(), "the slices have one length");
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has the features; the lengths are equal.
        #[allow(unsafe_code)]
        unsafe {
            x86::widen(source, target)
        };
        return;
    }
    source.convert_to_f32_slice(target);
}

/// Converts f32 to fp16, rounding to nearest even; overflow becomes infinity.
pub(crate) fn narrow(source: &[f32], target: &mut [f16]) {
    assert_eq!(source.len(), target.len(), "the slices have one length");
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has the features; the lengths are equal.
        #[allow(unsafe_code)]
        unsafe {
            x86::narrow(source, target)
        };
        return;
    }
    target.convert_from_f32_slice(source);
}

/// Rounds every number to the nearest that fp16 has, to even between two; overflow becomes infinity.
#[inline(always)]
pub(crate) fn round(values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has the features.
        #[allow(unsafe_code)]
        unsafe {
            x86::round(values)
        };
        return;
    }
    values.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
}

/// `output[r] = sum over k of rows[r * width + k] * vector[k]`, accumulated in f32.
///
/// `rows` holds `output.len()` rows of `vector.len()` elements.
pub(crate) fn rows_times_vector(rows: &[f16], vector: &[f32], output: &mut [f32]) {
    let width = vector.len();
    assert_eq!(rows.len(), width * output.len(), "one row per output");
    if width == 0 {
        output.fill(0.0);
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has the features; `rows` holds output.len() rows of width elements.
        #[allow(unsafe_code)]
        unsafe {
            x86::rows_times_vector(rows, vector, output)
        };
        return;
    }
    let mut wide = vec![0.0; width];
    for (row, result) in rows.chunks_exact(width).zip(output) {
        row.convert_to_f32_slice(&mut wide);
        *result = dot(&wide, vector);
    }
}

/// As [`rows_times_vector`] for each of some vectors of one length: the products of a row side by side,
/// each with the bits that it has alone.
pub(crate) fn rows_times_vectors(rows: &[f16], vectors: &[&[f32]], output: &mut [f32]) {
    let (count, width) = (vectors.len(), vectors.first().map_or(0, |vector| vector.len()));
    assert!(vectors.iter().all(|vector| vector.len() == width), "vectors of one length");
    if let [vector] = vectors {
        return rows_times_vector(rows, vector, output);
    }
    if count == 0 || width == 0 {
        output.fill(0.0);
        return;
    }
    assert_eq!(rows.len() * count, width * output.len(), "one row per product of a vector");
    for (row, output) in rows.chunks_exact(width).zip(output.chunks_exact_mut(count)) {
        for (vectors, output) in vectors.chunks(4).zip(output.chunks_mut(4)) {
            #[cfg(target_arch = "x86_64")]
            if let ([a, b, c, d], true) = (vectors, has_avx2()) {
                // SAFETY: the processor has the features; the row and the vectors have one length.
                #[allow(unsafe_code)]
                output.copy_from_slice(&unsafe { x86::row_times(row, [a, b, c, d]) });
                continue;
            }
            for (vector, result) in vectors.iter().zip(output) {
                rows_times_vector(row, vector, std::slice::from_mut(result));
            }
        }
    }
}

/// The end of `count` rows of `width` elements that begin `stride` elements apart.
fn end_of_rows(count: usize, stride: usize, width: usize) -> Option<usize> {
    match count.checked_sub(1) {
        Some(last) => last.checked_mul(stride)?.checked_add(width),
        None => Some(0),
    }
}

/// Dot products of rows, which begin `stride` elements apart, with some vectors of one length, each with
/// the bits of [`rows_times_vector`]: those of the first vector with all rows, then those of the next.
///
/// # Panics
/// When `rows` has fewer rows than there are products of a vector.
pub(crate) fn strided_rows_times_vectors(
    rows: &[f16],
    stride: usize,
    vectors: &[&[f32]],
    output: &mut [f32],
) {
    let Some(width) = vectors.first().map(|vector| vector.len()) else { return };
    assert!(vectors.iter().all(|vector| vector.len() == width), "vectors of one length");
    let count = output.len() / vectors.len();
    let end = end_of_rows(count, stride, width);
    assert!(end.is_some_and(|end| end <= rows.len()), "a row for each product");
    if count == 0 {
        return;
    }
    for (vectors, output) in vectors.chunks(4).zip(output.chunks_mut(4 * count)) {
        #[cfg(target_arch = "x86_64")]
        if vectors.len() > 1 && has_avx2() {
            // SAFETY: the processor has the features; every row lies inside `rows`.
            #[allow(unsafe_code)]
            unsafe {
                match *vectors {
                    [a, b] => x86::strided_rows(rows, stride, [a, b], output),
                    [a, b, c] => x86::strided_rows(rows, stride, [a, b, c], output),
                    [a, b, c, d] => x86::strided_rows(rows, stride, [a, b, c, d], output),
                    _ => {}
                }
            }
            continue;
        }
        for (vector, output) in vectors.iter().zip(output.chunks_exact_mut(count)) {
            if stride == width {
                rows_times_vector(&rows[..count * width], vector, output);
                continue;
            }
            for (at, result) in output.iter_mut().enumerate() {
                let row = &rows[at * stride..][..width];
                rows_times_vector(row, vector, std::slice::from_mut(result));
            }
        }
    }
}

/// `output[c][j] = sum over k of factors[c][k] * rows[k * stride + j]`, accumulated in f32: one sum after
/// the other, each with the bits that it has alone. All have as many factors.
///
/// # Panics
/// When `rows` does not hold a row of the length of a sum for each factor.
pub(crate) fn weighted_sums(rows: &[f16], stride: usize, factors: &[&[f32]], output: &mut [f32]) {
    output.fill(0.0);
    let Some(count) = factors.first().map(|factors| factors.len()) else { return };
    assert!(factors.iter().all(|factors| factors.len() == count), "factors of one number");
    let width = output.len() / factors.len();
    let end = end_of_rows(count, stride, width);
    assert!(end.is_some_and(|end| end <= rows.len()), "a row for each factor");
    if count == 0 || width == 0 {
        return;
    }
    for (factors, output) in factors.chunks(4).zip(output.chunks_mut(4 * width)) {
        #[cfg(target_arch = "x86_64")]
        if has_avx2() {
            // SAFETY: the processor has the features; every row lies inside `rows`.
            #[allow(unsafe_code)]
            unsafe {
                match *factors {
                    [a] => x86::weighted_sums::<8, 1>(rows, stride, [a], output),
                    [a, b] => x86::weighted_sums::<4, 2>(rows, stride, [a, b], output),
                    [a, b, c] => x86::weighted_sums::<4, 3>(rows, stride, [a, b, c], output),
                    [a, b, c, d] => x86::weighted_sums::<2, 4>(rows, stride, [a, b, c, d], output),
                    _ => {}
                }
            };
            continue;
        }
        for (factors, output) in factors.iter().zip(output.chunks_exact_mut(width)) {
            for (k, factor) in factors.iter().enumerate() {
                for (sum, value) in output.iter_mut().zip(&rows[k * stride..]) {
                    *sum += factor * value.to_f32();
                }
            }
        }
    }
}

/// Dot product of two f32 slices of one length.
#[inline(always)]
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (left_chunks, left_rest) = left.as_chunks::<16>();
    let (right_chunks, right_rest) = right.as_chunks::<16>();
    for (a, b) in left_chunks.iter().zip(right_chunks) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    #![allow(unsafe_code)]
    use half::f16;
    use std::arch::x86_64::*;

    /// Bytes of rows that are likely to be in a cache of their own: more are read once for each token.
    const CACHED: usize = 1 << 16;

    /// SAFETY: the processor must have AVX2, FMA and F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    /// Eight fp16 values at `pointer` as f32.
    ///
    /// SAFETY: 16 bytes at `pointer` must be readable.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(pointer: *const f16) -> __m256 {
        // SAFETY: by the caller's promise.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(pointer.cast()) })
    }

    /// Sum of the eight lanes.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn sum(lanes: __m256) -> f32 {
        let half = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
        let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
        _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)))
    }

    /// [`sum`] of each, four at a time.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn sums<const C: usize>(lanes: [__m256; C]) -> [f32; C] {
        let mut sums = [0.0; C];
        let mut done = 0;
        while done + 4 <= C {
            // No closures: what they are given to is called, and not inlined here.
            let mut halves = [_mm_setzero_ps(); 4];
            for at in 0..4 {
                let lanes = lanes[done + at];
                let (lower, upper) =
                    (_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
                halves[at] = _mm_add_ps(lower, upper);
            }
            let [a, b, c, d] = halves;
            let ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
            let cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
            let first = _mm_shuffle_ps(ab, cd, 0b10_00_10_00);
            let second = _mm_shuffle_ps(ab, cd, 0b11_01_11_01);
            // SAFETY: there are four.
            unsafe { _mm_storeu_ps(sums.as_mut_ptr().add(done), _mm_add_ps(first, second)) };
            done += 4;
        }
        for c in done..C {
            sums[c] = sum(lanes[c]);
        }
        sums
    }

    /// SAFETY: the processor must have the features; the slices must have one length.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn widen(source: &[f16], target: &mut [f32]) {
        let whole = source.len() / 8 * 8;
        for i in (0..whole).step_by(8) {
            // SAFETY: i + 8 <= whole <= both lengths.
            unsafe { _mm256_storeu_ps(target.as_mut_ptr().add(i), load(source.as_ptr().add(i))) };
        }
        for i in whole..source.len() {
            target[i] = source[i].to_f32();
        }
    }

    /// SAFETY: the processor must have the features; the slices must have one length.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn narrow(source: &[f32], target: &mut [f16]) {
        let whole = source.len() / 8 * 8;
        for i in (0..whole).step_by(8) {
            // SAFETY: i + 8 <= whole <= both lengths.
            unsafe {
                let wide = _mm256_loadu_ps(source.as_ptr().add(i));
                let packed = _mm256_cvtps_ph(wide, _MM_FROUND_TO_NEAREST_INT);
                _mm_storeu_si128(target.as_mut_ptr().add(i).cast(), packed);
            }
        }
        for i in whole..source.len() {
            target[i] = f16::from_f32(source[i]);
        }
    }

    /// SAFETY: the processor must have the features.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn round(values: &mut [f32]) {
        let (whole, rest) = values.as_chunks_mut::<8>();
        for chunk in whole {
            // SAFETY: a chunk has eight elements.
            unsafe {
                let wide = _mm256_loadu_ps(chunk.as_ptr());
                let packed = _mm256_cvtps_ph(wide, _MM_FROUND_TO_NEAREST_INT);
                _mm256_storeu_ps(chunk.as_mut_ptr(), _mm256_cvtph_ps(packed));
            }
        }
        rest.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
    }

    /// SAFETY: the processor must have the features; `rows` must hold `output.len()` rows of
    /// `vector.len()` elements.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn rows_times_vector(rows: &[f16], vector: &[f32], output: &mut [f32]) {
        let width = vector.len();
        let mut row = 0;
        // What comes from memory, not from a cache, comes faster in one stream than in four.
        let streams = size_of_val(rows) > CACHED;
        while !streams && row + 4 <= output.len() {
            // SAFETY: rows row..row + 4 lie inside `rows`.
            let sums = unsafe { dots::<4>(rows.as_ptr().add(row * width), vector) };
            output[row..row + 4].copy_from_slice(&sums);
            row += 4;
        }
        while row < output.len() {
            // SAFETY: this row lies inside `rows`.
            output[row] = unsafe { dots::<1>(rows.as_ptr().add(row * width), vector) }[0];
            row += 1;
        }
    }

    /// Dot products of R neighbouring rows with the vector; two accumulators per row.
    ///
    /// SAFETY: R * vector.len() elements at `rows` must be readable.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dots<const R: usize>(rows: *const f16, vector: &[f32]) -> [f32; R] {
        let width = vector.len();
        let mut even = [_mm256_setzero_ps(); R];
        let mut odd = [_mm256_setzero_ps(); R];
        let mut k = 0;
        while k + 16 <= width {
            // SAFETY: k + 16 <= width, and R rows of width elements are readable.
            unsafe {
                let first = _mm256_loadu_ps(vector.as_ptr().add(k));
                let second = _mm256_loadu_ps(vector.as_ptr().add(k + 8));
                for r in 0..R {
                    let at = rows.add(r * width + k);
                    even[r] = _mm256_fmadd_ps(load(at), first, even[r]);
                    odd[r] = _mm256_fmadd_ps(load(at.add(8)), second, odd[r]);
                }
            }
            k += 16;
        }
        let mut sums = [0.0; R];
        for r in 0..R {
            sums[r] = sum(_mm256_add_ps(even[r], odd[r]));
            for (rest, factor) in vector.iter().enumerate().skip(k) {
                // SAFETY: rest < width.
                sums[r] += unsafe { *rows.add(r * width + rest) }.to_f32() * factor;
            }
        }
        sums
    }

    /// Dot products of a row with C vectors, each as [`dots`] computes it.
    ///
    /// SAFETY: the processor must have the features; all must have one length.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn row_times<const C: usize>(row: &[f16], vectors: [&[f32]; C]) -> [f32; C] {
        let width = row.len();
        let mut even = [_mm256_setzero_ps(); C];
        let mut odd = [_mm256_setzero_ps(); C];
        let mut k = 0;
        while k + 16 <= width {
            // SAFETY: k + 16 <= width, the length of all.
            unsafe {
                let (first, second) = (load(row.as_ptr().add(k)), load(row.as_ptr().add(k + 8)));
                for c in 0..C {
                    let vector = vectors[c].as_ptr().add(k);
                    even[c] = _mm256_fmadd_ps(first, _mm256_loadu_ps(vector), even[c]);
                    odd[c] = _mm256_fmadd_ps(second, _mm256_loadu_ps(vector.add(8)), odd[c]);
                }
            }
            k += 16;
        }
        for c in 0..C {
            even[c] = _mm256_add_ps(even[c], odd[c]);
        }
        let mut sums = sums(even);
        for c in 0..C {
            for (value, factor) in row[k..].iter().zip(&vectors[c][k..]) {
                sums[c] += value.to_f32() * factor;
            }
        }
        sums
    }

    /// [`super::strided_rows_times_vectors`] of C vectors.
    ///
    /// SAFETY: the processor must have the features; there must be a row for each product of a vector.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn strided_rows<const C: usize>(
        rows: &[f16],
        stride: usize,
        vectors: [&[f32]; C],
        output: &mut [f32],
    ) {
        let (count, width) = (output.len() / C, vectors[0].len());
        for at in 0..count {
            // SAFETY: by the caller's promise.
            let products = unsafe { row_times(&rows[at * stride..][..width], vectors) };
            for (c, product) in products.into_iter().enumerate() {
                output[c * count + at] = product;
            }
        }
    }

    /// [`super::weighted_sums`] of C sums, of which N registers each stay in place while the rows go by.
    ///
    /// SAFETY: the processor must have the features; from `k * stride` on, `rows` must hold as many
    /// elements as a sum has for each of the factors, of which all sums must have as many.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn weighted_sums<const N: usize, const C: usize>(
        rows: &[f16],
        stride: usize,
        factors: [&[f32]; C],
        output: &mut [f32],
    ) {
        let width = output.len() / C;
        let mut start = 0;
        while start < width {
            let left = width - start;
            // SAFETY: as many columns from `start` on are there.
            start += unsafe {
                if left >= 8 * N {
                    columns::<N, C>(rows, stride, factors, start, output)
                } else if left >= 8 {
                    columns::<1, C>(rows, stride, factors, start, output)
                } else {
                    for (c, factors) in factors.iter().enumerate() {
                        let sums = &mut output[c * width + start..(c + 1) * width];
                        for (k, factor) in factors.iter().enumerate() {
                            let row = &rows[k * stride + start..];
                            for (sum, value) in sums.iter_mut().zip(row) {
                                *sum += factor * value.to_f32();
                            }
                        }
                    }
                    left
                }
            };
        }
    }

    /// The 8 N columns of weighted sums from `start` on; their number.
    ///
    /// SAFETY: as for [`weighted_sums`]; there must be as many columns.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn columns<const N: usize, const C: usize>(
        rows: &[f16],
        stride: usize,
        factors: [&[f32]; C],
        start: usize,
        output: &mut [f32],
    ) -> usize {
        let (count, width) = (factors[0].len(), output.len() / C);
        let mut sums = [[_mm256_setzero_ps(); C]; N];
        for k in 0..count {
            let mut own = [_mm256_setzero_ps(); C];
            for (own, factors) in own.iter_mut().zip(factors) {
                *own = _mm256_set1_ps(factors[k]);
            }
            for (n, sums) in sums.iter_mut().enumerate() {
                // SAFETY: by the caller's promise, k is of a factor, and start + 8 n + 8 <= width.
                let values = unsafe { load(rows.as_ptr().add(k * stride + start + 8 * n)) };
                for c in 0..C {
                    sums[c] = _mm256_fmadd_ps(values, own[c], sums[c]);
                }
            }
        }
        for (n, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                let at = c * width + start + 8 * n;
                // SAFETY: at + 8 <= (c + 1) * width <= the number of elements.
                unsafe { _mm256_storeu_ps(output.as_mut_ptr().add(at), sum) };
            }
        }
        8 * N
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn every_fp16_value_survives_both_ways() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut wide = vec![0.0; all.len()];
        widen(&all, &mut wide);
        let mut back = vec![f16::ZERO; all.len()];
        narrow(&wide, &mut back);
        for ((value, wide), back) in all.iter().zip(&wide).zip(&back) {
            assert_eq!(value.is_nan(), wide.is_nan());
            if !value.is_nan() {
                assert_eq!(*wide, value.to_f32());
                assert_eq!(value.to_bits(), back.to_bits());
            }
        }
    }

    #[test]
    fn rounding_is_narrowing_and_widening() {
        let mut random = Random::new(5);
        let values: Vec<f32> = (0..1003).map(|_| random.unit() * 1e5).collect();
        let mut rounded = values.clone();
        round(&mut rounded);
        for (value, rounded) in values.iter().zip(rounded) {
            assert_eq!(rounded, f16::from_f32(*value).to_f32());
        }
    }

    #[test]
    fn narrowing_rounds_to_even_and_overflows_to_infinity() {
        let cases = [2049.0f32, 2051.0, 65519.0, 65520.0, -1e9, 1e-9, 5.97e-8, 1.0, 0.0, -0.0, 3.5];
        let mut narrowed = [f16::ZERO; 11];
        narrow(&cases, &mut narrowed);
        for (case, result) in cases.iter().zip(narrowed) {
            assert_eq!(result.to_bits(), f16::from_f32(*case).to_bits(), "{case}");
        }
    }

    #[test]
    fn dot_products_match_sums_in_double() {
        let mut random = Random::new(1);
        for width in [1, 7, 8, 15, 16, 17, 64, 133] {
            for count in [1, 3, 4, 9] {
                let rows: Vec<f16> =
                    (0..width * count).map(|_| f16::from_f32(random.unit())).collect();
                let vector = random.units(width);
                let mut output = vec![f32::NAN; count];
                rows_times_vector(&rows, &vector, &mut output);
                let factors = random.units(count);
                let mut weighted = vec![f32::NAN; width];
                weighted_sums(&rows, width, &[&factors], &mut weighted);
                for (row, result) in rows.chunks(width).zip(&output) {
                    let exact: f64 =
                        row.iter().zip(&vector).map(|(a, b)| a.to_f64() * f64::from(*b)).sum();
                    assert!((f64::from(*result) - exact).abs() < 1e-5 * width as f64);
                }
                for (i, result) in weighted.iter().enumerate() {
                    let exact: f64 = (0..count)
                        .map(|k| f64::from(factors[k]) * rows[k * width + i].to_f64())
                        .sum();
                    assert!((f64::from(*result) - exact).abs() < 1e-6 * count as f64);
                }
            }
        }
    }

    fn slices(all: &[Vec<f32>]) -> Vec<&[f32]> {
        all.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn several_vectors_at_once_have_the_bits_of_each_alone() {
        let mut random = Random::new(31);
        for (width, stride, count) in
            [(64, 64, 19), (64, 80, 5), (24, 24, 3), (7, 9, 4), (75, 75, 6)]
        {
            let rows: Vec<f16> =
                (0..count * stride).map(|_| f16::from_f32(random.unit())).collect();
            for several in 1..=6 {
                let vectors: Vec<Vec<f32>> = (0..several).map(|_| random.units(width)).collect();
                let factors: Vec<Vec<f32>> = (0..several).map(|_| random.units(count)).collect();
                let mut products = vec![f32::NAN; several * count];
                strided_rows_times_vectors(&rows, stride, &slices(&vectors), &mut products);
                let mut sums = vec![f32::NAN; several * width];
                weighted_sums(&rows, stride, &slices(&factors), &mut sums);
                for at in 0..several {
                    for row in 0..count {
                        let mut alone = [f32::NAN];
                        rows_times_vector(&rows[row * stride..][..width], &vectors[at], &mut alone);
                        assert_eq!(products[at * count + row].to_bits(), alone[0].to_bits());
                    }
                    let mut alone = vec![f32::NAN; width];
                    weighted_sums(&rows, stride, &[&factors[at]], &mut alone);
                    assert_eq!(sums[at * width..][..width], alone, "{width} {several}");
                }
            }
        }
    }
}
