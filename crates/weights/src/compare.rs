//! How far the values of two weights are from each other.

use crate::decode::Values;
use crate::source::PIECE;
use anemll_mlpackage::PackageError;

/// Differences of two weights of as many values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Number of values.
    pub count: u64,
    /// Number of values that differ; equal NaN do not, zeros of different sign do not.
    pub different: u64,
    /// Values that are NaN or infinite in one of the two only, or differently in both. They are
    /// left out of the errors.
    pub not_comparable: u64,
    /// Largest absolute difference.
    pub largest_error: f64,
    /// Mean absolute difference.
    pub mean_error: f64,
    /// Cosine of the two as vectors. 1 where both are zero, 0 where only one is.
    pub cosine: f64,
}

impl Comparison {
    /// Compares all values in row-major order; `None` where the numbers of values differ.
    ///
    /// # Errors
    /// A weight file that cannot be read, or became shorter.
    pub fn of(first: &Values<'_>, second: &Values<'_>) -> Result<Option<Self>, PackageError> {
        if first.count() != second.count() {
            return Ok(None);
        }
        let mut result = Self {
            count: first.count() as u64,
            different: 0,
            not_comparable: 0,
            largest_error: 0.0,
            mean_error: 0.0,
            cosine: 1.0,
        };
        let (mut sum, mut dot, mut left, mut right) = (0.0, 0.0, 0.0, 0.0);
        let mut other = [0.0; PIECE];
        let mut start = 0;
        first.for_each_piece(|piece| {
            let other = &mut other[..piece.len()];
            second.fill(start, other)?;
            start += piece.len();
            for (a, b) in piece.iter().zip(other) {
                if a == b || (a.is_nan() && b.is_nan()) {
                    if !a.is_finite() {
                        continue;
                    }
                } else {
                    result.different += 1;
                }
                if !a.is_finite() || !b.is_finite() {
                    result.not_comparable += 1;
                    continue;
                }
                let (a, b) = (f64::from(*a), f64::from(*b));
                let error = (a - b).abs();
                result.largest_error = result.largest_error.max(error);
                sum += error;
                dot += a * b;
                left += a * a;
                right += b * b;
            }
            Ok(())
        })?;
        result.mean_error = sum / (result.count - result.not_comparable).max(1) as f64;
        result.cosine = match (left > 0.0, right > 0.0) {
            (false, false) => 1.0,
            (true, true) => dot / (left.sqrt() * right.sqrt()),
            _ => 0.0,
        };
        Ok(Some(result))
    }
}
