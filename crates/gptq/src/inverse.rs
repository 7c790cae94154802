//! The diagonal of the inverse of second moments.

use crate::matrix::{Matrix, multiply_add};

/// Rows that are solved at once.
const BLOCK: usize = 64;

/// The diagonal of `(L Lᵀ)⁻¹` for a lower triangle `L` (`size` x `size`, row by row): the squares of
/// the columns of `L⁻¹`.
pub(crate) fn diagonal(lower: &[f32], size: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; size];
    let mut inverse = vec![0.0_f32; size * size];
    for start in (0..size).step_by(BLOCK) {
        let end = (start + BLOCK).min(size);
        let (done, rest) = inverse.split_at_mut(start * size);
        let panel = &mut rest[..(end - start) * size];
        for at in start..end {
            panel[(at - start) * size + at] = 1.0;
        }
        if start > 0 {
            // Nothing stands right of the diagonal.
            let left = Matrix::new(&lower[start * size..], end - start, start, size);
            let above = Matrix::new(done, start, start, size);
            multiply_add(panel, size, 1.0, -1.0, left, above);
        }
        for at in 0..end - start {
            let (above, below) = panel.split_at_mut(at * size);
            let line = &mut below[..end];
            let factors = &lower[(start + at) * size + start..];
            for (above, factor) in above.chunks_exact(size).zip(factors) {
                for (value, above) in line.iter_mut().zip(above) {
                    *value -= factor * above;
                }
            }
            let pivot = factors[at];
            for (value, sum) in line.iter_mut().zip(&mut sums) {
                *value /= pivot;
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diagonal_is_that_of_the_inverse() {
        for size in [1, 3, 64, 65, 150] {
            let lower: Vec<f32> = (0..size * size)
                .map(|at| match (at / size, at % size) {
                    (row, column) if row == column => 1.0 + (row % 3) as f32,
                    (row, column) if row > column => ((at * 37 % 23) as f32 - 11.0) / 200.0,
                    _ => 0.0,
                })
                .collect();
            let found = diagonal(&lower, size);
            for (at, found) in found.iter().enumerate() {
                // L Lᵀ x = e, forwards and backwards.
                let row = |row: usize| &lower[row * size..(row + 1) * size];
                let mut x: Vec<f64> = vec![0.0; size];
                for i in 0..size {
                    let sum: f64 = (0..i).map(|j| f64::from(row(i)[j]) * x[j]).sum();
                    x[i] = (f64::from(u8::from(i == at)) - sum) / f64::from(row(i)[i]);
                }
                for i in (0..size).rev() {
                    let sum: f64 = (i + 1..size).map(|j| f64::from(row(j)[i]) * x[j]).sum();
                    x[i] = (x[i] - sum) / f64::from(row(i)[i]);
                }
                assert!((f64::from(*found) / x[at] - 1.0).abs() < 1e-3, "{size} {at}");
            }
        }
    }
}
