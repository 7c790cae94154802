//! Second moments, gathered from inputs as they come.

use crate::matrix::{Matrix, multiply_add};

/// Some inputs of a matrix: `columns` values for each of `tokens` tokens.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    values: &'a [f32],
    columns: usize,
    tokens: usize,
    stride: usize,
    token_major: bool,
}

impl<'a> Inputs<'a> {
    /// Values whose rows belong to inputs, and begin `stride` elements apart; the first `tokens` of
    /// each row count. None where the slice is too short.
    #[must_use]
    pub fn by_column(
        values: &'a [f32],
        columns: usize,
        tokens: usize,
        stride: usize,
    ) -> Option<Self> {
        let fits = tokens <= stride && columns.checked_mul(stride)? <= values.len();
        fits.then_some(Self { values, columns, tokens, stride, token_major: false })
    }

    /// Values whose rows belong to tokens; the first `tokens` rows count. None where the slice is
    /// too short.
    #[must_use]
    pub fn by_token(values: &'a [f32], columns: usize, tokens: usize) -> Option<Self> {
        let fits = tokens.checked_mul(columns)? <= values.len();
        fits.then_some(Self { values, columns, tokens, stride: columns, token_major: true })
    }

    /// Inputs `first..end` of all tokens: (inputs, tokens).
    fn rows(&self, first: usize, end: usize) -> Matrix<'a> {
        let count = end - first;
        if self.token_major {
            Matrix::new(&self.values[first..], self.tokens, count, self.stride).transposed()
        } else {
            Matrix::new(&self.values[first * self.stride..], count, self.tokens, self.stride)
        }
    }

    /// Adds the square of each input over all tokens to `sums`, one for each input.
    pub fn add_squares(&self, sums: &mut [f32]) {
        let columns = self.columns;
        for (column, sum) in sums.iter_mut().enumerate().take(columns) {
            let (first, step) =
                if self.token_major { (column, columns) } else { (column * self.stride, 1) };
            let values = self.values[first..].iter().step_by(step).take(self.tokens);
            *sum += values.map(|value| value * value).sum::<f32>();
        }
    }

    /// Adds the products of two inputs over all tokens to a piece of their sums: whole rows from row
    /// `first` on, each with a value for every input. Only the part up to the piece's last row is
    /// kept up; [`mirror`] fills the rest. Pieces may be added to by several threads at once.
    ///
    /// # Panics
    /// When the piece is not of whole rows, or has more than there are.
    pub fn add_products(&self, sums: &mut [f32], first: usize) {
        let rows = sums.len() / self.columns;
        assert!(rows * self.columns == sums.len() && first + rows <= self.columns);
        let end = first + rows;
        let (left, right) = (self.rows(first, end), self.rows(0, end).transposed());
        multiply_add(sums, self.columns, 1.0, 1.0, left, right);
    }
}

/// Copies the lower triangle of a square matrix to the upper one, everything times `factor`.
pub fn mirror(sums: &mut [f32], columns: usize, factor: f32) {
    for row in 0..columns {
        for column in 0..=row {
            let value = sums[row * columns + column] * factor;
            sums[row * columns + column] = value;
            sums[column * columns + row] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::tests::noise;

    #[test]
    fn both_layouts_give_the_sums_of_products() {
        let (columns, tokens, stride) = (7, 5, 8);
        let mut next = noise(4);
        let by_column: Vec<f32> = (0..columns * stride).map(|_| next()).collect();
        let mut by_token = vec![0.0; tokens * columns];
        for token in 0..tokens {
            for column in 0..columns {
                by_token[token * columns + column] = by_column[column * stride + token];
            }
        }
        let product = |a: usize, b: usize| -> f32 {
            (0..tokens).map(|t| by_token[t * columns + a] * by_token[t * columns + b]).sum()
        };
        for inputs in [
            Inputs::by_column(&by_column, columns, tokens, stride).unwrap(),
            Inputs::by_token(&by_token, columns, tokens).unwrap(),
        ] {
            let mut sums = vec![0.0; columns * columns];
            for (piece, sums) in sums.chunks_mut(3 * columns).enumerate() {
                inputs.add_products(sums, 3 * piece);
            }
            mirror(&mut sums, columns, 0.5);
            let mut squares = vec![1.0; columns];
            inputs.add_squares(&mut squares);
            for a in 0..columns {
                for b in 0..columns {
                    let difference = sums[a * columns + b] - 0.5 * product(a, b);
                    assert!(difference.abs() < 1e-5, "{a} {b} {difference}");
                }
                assert!((squares[a] - 1.0 - product(a, a)).abs() < 1e-5);
            }
        }
        assert!(Inputs::by_column(&by_column, columns + 1, tokens, stride).is_none());
        assert!(Inputs::by_token(&by_token, columns, tokens + 1).is_none());
    }
}
