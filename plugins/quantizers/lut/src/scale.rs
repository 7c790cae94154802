//! A factor for each output channel, so that one table suits rows of different sizes.

use anemll_palettize::GroupError;
use half::f16;

/// Bounds of the factors: no product becomes subnormal by them that was not nearly so before.
const BOUNDS: [f64; 2] = [1e-3, 1e3];

/// The root mean square of each row of a matrix of 16-bit floats, divided by the geometric mean of
/// all rows: the products that are multiplied by these stay as large as they were on the whole, so
/// that they overflow no earlier. A row without values, or with values that are not finite, has one.
pub(crate) fn of_rows(bytes: &[u8], columns: usize) -> Vec<f16> {
    let sizes: Vec<f64> = bytes
        .chunks_exact(2 * columns)
        .map(|row| {
            let values = row.as_chunks::<2>().0.iter();
            let squares = values.map(|bytes| f64::from(f16::from_le_bytes(*bytes)).powi(2));
            (squares.sum::<f64>() / columns as f64).sqrt()
        })
        .collect();
    let proper = |size: &&f64| size.is_finite() && **size > 0.0;
    let logarithms = sizes.iter().filter(proper).map(|size| size.ln());
    let count = sizes.iter().filter(proper).count().max(1);
    let mean = (logarithms.sum::<f64>() / count as f64).exp();
    sizes
        .iter()
        .map(|size| {
            let scale = if proper(&size) { size / mean } else { 1.0 };
            f16::from_f64(scale.clamp(BOUNDS[0], BOUNDS[1]))
        })
        .collect()
}

/// Whole rows, each divided by its factor.
pub(crate) fn divide(values: &[f16], columns: usize, scales: &[f16]) -> Vec<f16> {
    let rows = values.chunks_exact(columns).zip(scales);
    rows.flat_map(|(row, scale)| {
        let scale = scale.to_f32();
        row.iter().map(move |value| f16::from_f32(value.to_f32() / scale))
    })
    .collect()
}

/// How far entries times factors are from whole rows.
pub(crate) fn error(
    values: &[f16],
    columns: usize,
    scales: &[f16],
    entry: impl Fn(usize) -> f32,
) -> GroupError {
    let mut error = GroupError::default();
    for (at, value) in values.iter().enumerate() {
        let made = f64::from(entry(at)) * f64::from(scales[at / columns]);
        error.add(f64::from(*value) - made);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
    }

    #[test]
    fn rows_become_of_one_size() {
        let values = [1.0, -1.0, 4.0, -4.0, 0.0, 0.0, f32::NAN, 1.0];
        let scales = of_rows(&bytes(&values), 2);
        // The geometric mean of 1 and 4 is 2.
        assert_eq!(
            scales.iter().map(|scale| scale.to_f32()).collect::<Vec<_>>(),
            [0.5, 2.0, 1.0, 1.0]
        );
        let halves: Vec<f16> = values[..4].iter().map(|value| f16::from_f32(*value)).collect();
        let divided = divide(&halves, 2, &scales);
        assert_eq!(
            divided.iter().map(|value| value.to_f32()).collect::<Vec<_>>(),
            [2.0, -2.0, 2.0, -2.0]
        );
        let error = error(&halves, 2, &scales, |at| [2.0, -2.0, 2.0, -1.0][at]);
        assert_eq!((error.squared, error.max_absolute), (4.0, 2.0));
    }

    #[test]
    fn factors_have_bounds() {
        let scales = of_rows(&bytes(&[60000.0, 6e-8]), 1);
        assert_eq!(
            scales.iter().map(|scale| scale.to_f32()).collect::<Vec<_>>(),
            [1000.0, f16::from_f32(1e-3).to_f32()]
        );
    }
}
