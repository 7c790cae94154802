//! How far a matrix is from another one, by its elements and by what it makes of its inputs.

use anemll_matrix::{Matrix, multiply_add};
use anemll_plugin_api::{Error, Result, codes};

/// What is known of a matrix's inputs.
#[derive(Debug, Clone, Copy)]
pub enum Inputs<'a> {
    /// Nothing.
    Unknown,
    /// The mean square of each input, `[columns]`.
    Squares(&'a [f32]),
    /// The mean product of every two inputs, `[columns, columns]`.
    Products(&'a [f32]),
    /// Rows are looked up: how often each, `[rows]`.
    Counts(&'a [f32]),
}

/// Sums of squares over a matrix, or several pieces of one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MatrixError {
    signal: f64,
    noise: f64,
    /// The same of what comes out, where the inputs are known.
    outputs: Option<[f64; 2]>,
}

impl MatrixError {
    /// Compares `stored` with `original`, both row by row with so many columns.
    ///
    /// # Errors
    /// [`codes::INTERNAL`]: sizes that do not suit each other.
    pub fn of(
        original: &[f32],
        stored: &[f32],
        columns: usize,
        inputs: Inputs<'_>,
    ) -> Result<Self> {
        let wrong = || Error::new(codes::INTERNAL, "a matrix is compared with one of another size");
        let rows = original.len().checked_div(columns).unwrap_or(0);
        let fits = match inputs {
            Inputs::Unknown => true,
            Inputs::Squares(known) => known.len() == columns,
            Inputs::Products(known) => known.len() == columns * columns,
            Inputs::Counts(known) => known.len() == rows,
        };
        if original.len() != stored.len() || rows * columns != original.len() || !fits {
            return Err(wrong());
        }
        let difference: Vec<f32> = original.iter().zip(stored).map(|(a, b)| a - b).collect();
        let squares = |values: &[f32]| -> f64 {
            values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum()
        };
        let outputs = |values: &[f32]| -> Result<f64> {
            Ok(match inputs {
                Inputs::Unknown => 0.0,
                Inputs::Counts(counts) => values
                    .chunks_exact(columns)
                    .zip(counts)
                    .map(|(row, count)| f64::from(*count) * squares(row))
                    .sum(),
                Inputs::Squares(known) => values
                    .chunks_exact(columns)
                    .flat_map(|row| row.iter().zip(known))
                    .map(|(value, square)| f64::from(*value).powi(2) * f64::from(*square))
                    .sum(),
                Inputs::Products(known) => form(values, columns, known).ok_or_else(wrong)?,
            })
        };
        let known = !matches!(inputs, Inputs::Unknown);
        let outputs = match known {
            true => Some([outputs(original)?, outputs(&difference)?]),
            false => None,
        };
        Ok(Self { signal: squares(original), noise: squares(&difference), outputs })
    }

    /// The sums of two pieces together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let outputs = self.outputs.zip(other.outputs);
        Self {
            signal: self.signal + other.signal,
            noise: self.noise + other.noise,
            outputs: outputs.map(|(one, other)| [one[0] + other[0], one[1] + other[1]]),
        }
    }

    /// Signal to noise in dB; none where nothing differs.
    pub fn sqnr_db(&self) -> Option<f64> {
        (self.noise != 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }

    /// Root mean square of the error of what comes out, as a share; none where the inputs are unknown.
    pub fn output_error(&self) -> Option<f64> {
        let [signal, noise] = self.outputs?;
        Some(if noise == 0.0 { 0.0 } else { (noise / signal).sqrt() })
    }
}

/// The sum over all rows `w` of `w H wᵀ`; none where the sizes do not fit. Rounding may make it a bit
/// less than zero.
fn form(values: &[f32], columns: usize, products: &[f32]) -> Option<f64> {
    let strides = [columns as isize, 1];
    let rows = values.len() / columns;
    let moments = Matrix::new(products, 0, [columns, columns], strides).ok()?;
    let mut sum = 0.0;
    // Some rows at a time: the product takes as much memory as they do.
    for block in values.chunks(ROWS.min(rows).max(1) * columns) {
        let left = Matrix::new(block, 0, [block.len() / columns, columns], strides).ok()?;
        let mut multiplied = vec![0.0; block.len()];
        multiply_add(&mut multiplied, strides, 0.0, 1.0, left, moments).ok()?;
        let both = multiplied.iter().zip(block);
        sum += both.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    }
    Some(sum.max(0.0))
}

/// Rows that are multiplied at a time.
const ROWS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_shares_of_what_comes_out() {
        let original = [1.0, 2.0, 3.0, 4.0];
        let stored = [1.5, 2.0, 3.0, 3.0];
        let of = |inputs| MatrixError::of(&original, &stored, 2, inputs).unwrap();
        let plain = of(Inputs::Unknown);
        assert!((plain.sqnr_db().unwrap() - 10.0 * (30.0_f64 / 1.25).log10()).abs() < 1e-9);
        assert_eq!(plain.output_error(), None);
        // Inputs (1, 1) and (1, -1): products 1, 0, 0, 1.
        let identity = of(Inputs::Products(&[1.0, 0.0, 0.0, 1.0])).output_error().unwrap();
        assert!((identity - (1.25_f64 / 30.0).sqrt()).abs() < 1e-9);
        // The input (1, 1) alone: products 3 and 7, errors -0.5 and 1.
        let one = of(Inputs::Products(&[1.0; 4])).output_error().unwrap();
        assert!((one - (1.25_f64 / 58.0).sqrt()).abs() < 1e-9);
        // The second input is always zero.
        let squares = of(Inputs::Squares(&[4.0, 0.0])).output_error().unwrap();
        assert!((squares - (0.25_f64 / 10.0).sqrt()).abs() < 1e-9);
        // The second row is never looked up.
        let counts = of(Inputs::Counts(&[3.0, 0.0])).output_error().unwrap();
        assert!((counts - (0.25_f64 / 5.0).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn pieces_add_up_and_equals_have_no_noise() {
        let (original, stored) = ([1.0, 2.0, 3.0, 4.0], [1.5, 2.0, 3.0, 3.0]);
        let inputs = Inputs::Squares(&[4.0, 1.0]);
        let whole = MatrixError::of(&original, &stored, 2, inputs).unwrap();
        let half = |rows: std::ops::Range<usize>| {
            MatrixError::of(&original[rows.clone()], &stored[rows], 2, inputs).unwrap()
        };
        assert_eq!(half(0..2).and(half(2..4)), whole);
        let same = MatrixError::of(&original, &original, 2, inputs).unwrap();
        assert_eq!((same.sqnr_db(), same.output_error()), (None, Some(0.0)));
        let broken = MatrixError::of(&original, &stored[..2], 2, inputs);
        assert!(broken.is_err());
    }
}
