//! Second moments of a matrix's inputs, added up piece by piece.

use crate::matrix::{Matrix, multiply_add};
use rayon::prelude::*;

/// Rows of the sums that one task adds to. Only what lies left of a band's last row is computed.
const BAND: usize = 192;

/// Sums over tokens of products of two inputs, of which the lower triangle is kept up.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductSums {
    inputs: usize,
    /// `inputs` x `inputs`; what is above the diagonal is of no meaning.
    sums: Vec<f32>,
}

impl ProductSums {
    /// Sums of nothing. Memory: 4 bytes for each two inputs.
    pub fn new(inputs: usize) -> Self {
        Self { inputs, sums: vec![0.0; inputs * inputs] }
    }

    /// How many inputs there are.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Adds the products of some tokens. `values` has a row of `stride` elements for each input, of
    /// which the first `tokens` count.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn add(&mut self, values: &[f32], tokens: usize, stride: usize) {
        let inputs = self.inputs;
        self.sums.par_chunks_mut(BAND * inputs).enumerate().for_each(|(band, sums)| {
            let (first, rows) = (band * BAND, sums.len() / inputs);
            let left = Matrix::new(&values[first * stride..], rows, tokens, stride);
            let right = Matrix::new(values, first + rows, tokens, stride).transposed();
            multiply_add(sums, inputs, 1.0, 1.0, left, right);
        });
    }

    /// The sums so far, symmetric, times `factor`.
    pub fn symmetric(&self, factor: f32) -> Vec<f32> {
        let inputs = self.inputs;
        let mut whole = vec![0.0; self.sums.len()];
        for row in 0..inputs {
            for column in 0..=row {
                let value = self.sums[row * inputs + column] * factor;
                whole[row * inputs + column] = value;
                whole[column * inputs + row] = value;
            }
        }
        whole
    }

    /// The sums as they are added to, and can be gone on with.
    pub fn as_slice(&self) -> &[f32] {
        &self.sums
    }

    /// Sums that were added up before.
    ///
    /// # Panics
    /// When `sums` are not those of so many inputs.
    pub fn resume(inputs: usize, sums: Vec<f32>) -> Self {
        assert_eq!(sums.len(), inputs * inputs, "sums of so many inputs");
        Self { inputs, sums }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_all_tokens_in_any_pieces() {
        let (inputs, tokens) = (2 * BAND + 7, 12);
        let value = |input: usize, token: usize| ((input * 31 + token * 17) % 23) as f32 - 11.0;
        let piece = |from: usize, to: usize, stride: usize| -> Vec<f32> {
            let column = |input: usize| (from..from + stride).map(move |token| value(input, token));
            assert!(to - from <= stride);
            (0..inputs).flat_map(column).collect()
        };
        let mut sums = ProductSums::new(inputs);
        sums.add(&piece(0, 5, 6), 5, 6);
        let mut sums = ProductSums::resume(inputs, sums.as_slice().to_vec());
        sums.add(&piece(5, tokens, 7), 7, 7);
        let found = sums.symmetric(0.5);
        for (row, column) in [(0, 0), (3, 200), (BAND, 1), (inputs - 1, inputs - 1), (7, 390)] {
            let expected: f32 =
                (0..tokens).map(|token| value(row, token) * value(column, token)).sum();
            assert_eq!(found[row * inputs + column], 0.5 * expected, "{row} {column}");
        }
    }
}
