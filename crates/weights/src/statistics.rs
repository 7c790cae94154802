//! Range, moments and histogram of a weight's values.

use crate::decode::Values;
use anemll_mlpackage::PackageError;
use serde::Serialize;

/// What the values of a weight are like. NaN and infinities are counted apart and left out of the
/// rest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Number of values that are neither NaN nor infinite.
    pub finite: u64,
    /// Number of NaN.
    pub not_a_number: u64,
    /// Number of infinities of either sign.
    pub infinite: u64,
    /// Number of zeros of either sign.
    pub zeros: u64,
    /// Smallest finite value; 0 if there is none.
    pub smallest: f32,
    /// Largest finite value; 0 if there is none.
    pub largest: f32,
    /// Mean of the finite values; 0 if there is none.
    pub mean: f64,
    /// Standard deviation of the finite values; 0 if there is none.
    pub deviation: f64,
    /// How many finite values lie in each of equally wide bins from `smallest` to `largest`. One
    /// bin where both are equal; empty if there is no value.
    pub histogram: Vec<u64>,
}

impl Statistics {
    /// Reads all values twice: for the range, and for the bins.
    ///
    /// # Errors
    /// A weight file that cannot be read, or became shorter.
    pub fn of(values: &Values<'_>, bins: usize) -> Result<Self, PackageError> {
        let (mut finite, mut not_a_number, mut infinite, mut zeros) = (0_u64, 0, 0, 0);
        let (mut smallest, mut largest) = (f32::INFINITY, f32::NEG_INFINITY);
        let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
        values.for_each_piece(|piece| {
            for value in piece {
                if !value.is_finite() {
                    if value.is_nan() {
                        not_a_number += 1
                    } else {
                        infinite += 1
                    }
                    continue;
                }
                finite += 1;
                zeros += u64::from(*value == 0.0);
                smallest = smallest.min(*value);
                largest = largest.max(*value);
                sum += f64::from(*value);
                squares += f64::from(*value) * f64::from(*value);
            }
            Ok(())
        })?;
        if finite == 0 {
            (smallest, largest) = (0.0, 0.0);
        }
        let number = finite.max(1) as f64;
        let mean = sum / number;
        let deviation = (squares / number - mean * mean).max(0.0).sqrt();
        let histogram = match finite {
            0 => Vec::new(),
            _ if smallest == largest || bins < 2 => vec![finite],
            _ => {
                let mut histogram = vec![0_u64; bins];
                let low = f64::from(smallest);
                let per_unit = bins as f64 / (f64::from(largest) - low);
                values.for_each_piece(|piece| {
                    for value in piece.iter().filter(|value| value.is_finite()) {
                        // Casts saturate; the largest value belongs to the last bin.
                        let bin = ((f64::from(*value) - low) * per_unit) as usize;
                        histogram[bin.min(bins - 1)] += 1;
                    }
                    Ok(())
                })?;
                histogram
            }
        };
        Ok(Self {
            finite,
            not_a_number,
            infinite,
            zeros,
            smallest,
            largest,
            mean,
            deviation,
            histogram,
        })
    }
}
