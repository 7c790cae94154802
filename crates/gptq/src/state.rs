//! Tables, indices and what is left between them and the weights, while they are worked on.

use crate::Moments;
use crate::matrix::{Matrix, multiply_add};
use anemll_palettize::{GroupError, Palette};
use half::f16;

/// Columns whose errors are passed on at once.
pub(crate) const BLOCK: usize = 64;

/// Tables and indices of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// A table of `2^bits` ascending entries for each group of rows.
    pub lut: Vec<f16>,
    /// One index per element, row by row.
    pub indices: Vec<u8>,
    /// Distances of the elements to their entries.
    pub error: GroupError,
}

/// What is worked on; the columns are in the order of the moments.
pub(crate) struct State<'a> {
    pub(crate) moments: &'a Moments,
    pub(crate) columns: usize,
    /// Elements of a group.
    pub(crate) group: usize,
    /// Entries of a table.
    pub(crate) entries: usize,
    /// `W`.
    weights: Vec<f32>,
    /// Ascending entries of each group.
    pub(crate) tables: Vec<f32>,
    pub(crate) indices: Vec<u8>,
    /// `R H`, where `R = W - Q` is what is left.
    pub(crate) pull: Vec<f32>,
}

/// Rows as floats, in the order of the moments.
pub(crate) fn arranged(values: &[f16], moments: &Moments) -> Vec<f32> {
    let columns = moments.columns();
    let mut arranged = vec![0.0; values.len()];
    let mut wide = vec![0.0; columns];
    for (values, row) in values.chunks_exact(columns).zip(arranged.chunks_exact_mut(columns)) {
        wide.iter_mut().zip(values).for_each(|(wide, value)| *wide = value.to_f32());
        moments.arrange(&wide, row);
    }
    arranged
}

/// The index of the entry nearest to `value`, of two the lower one.
#[inline]
pub(crate) fn nearest(table: &[f32], value: f32) -> usize {
    // Branch-free halving: the number of middles between entries that lie below the value.
    let (mut low, mut size) = (0, table.len());
    while size > 1 {
        let half = size / 2;
        let at = low + half;
        // The middle of the entries `at - 1` and `at`.
        let middle = 0.5 * (table[at - 1] + table[at]);
        low = if value > middle { at } else { low };
        size -= half;
    }
    low
}

impl<'a> State<'a> {
    /// For `values` with the tables and indices of a palette; `group` elements share a table.
    pub(crate) fn new(values: &[f16], group: usize, first: &Palette, moments: &'a Moments) -> Self {
        let columns = moments.columns();
        let mut state = Self {
            moments,
            columns,
            group,
            entries: 1 << first.bits,
            weights: arranged(values, moments),
            tables: first.lut.iter().map(|entry| entry.to_f32()).collect(),
            indices: vec![0; values.len()],
            pull: vec![0.0; values.len()],
        };
        let targets = state.indices.chunks_exact_mut(columns);
        for (first, indices) in first.indices.chunks_exact(columns).zip(targets) {
            moments.arrange(first, indices);
        }
        state
    }

    /// Chooses all indices from the last column to the first, each for the weight and what the
    /// errors of later columns ask of it.
    ///
    /// With `H = L Lᵀ` the loss of a row is `|(w - q) L|²`. Its part `j` holds only the errors from
    /// column `j` on, so that the best value for `q_j`, the later ones given, is
    /// `w_j + sum of (w_i - q_i) L_ij over i > j, divided by L_jj`.
    /// Gives for each entry the sums of what its elements asked for and of what that counts.
    pub(crate) fn feed_back(&mut self) -> Vec<[f64; 2]> {
        let columns = self.columns;
        let mut asked = vec![[0.0; 2]; self.tables.len()];
        let factor = &self.moments.factor;
        let rows = self.weights.len() / columns;
        let mut carry = vec![0.0_f32; self.weights.len()];
        let mut errors = vec![0.0_f32; rows * BLOCK];
        let mut end = columns;
        while end > 0 {
            let start = end.saturating_sub(BLOCK);
            let width = end - start;
            for row in 0..rows {
                let from = row * columns;
                let table = table_of(&self.tables, self.entries, self.group, from);
                let carry = &mut carry[from + start..from + end];
                let errors = &mut errors[row * width..(row + 1) * width];
                for at in (0..width).rev() {
                    let line = &factor[(start + at) * columns + start..][..width];
                    let weight = self.weights[from + start + at];
                    let target = weight + carry[at] / line[at];
                    let index = nearest(table, target);
                    let cost = f64::from(line[at]) * f64::from(line[at]);
                    let sums = &mut asked[from / self.group * self.entries + index];
                    sums[0] += cost * f64::from(target);
                    sums[1] += cost;
                    self.indices[from + start + at] = index as u8;
                    let error = weight - table[index];
                    errors[at] = error;
                    for (carry, line) in carry[..at].iter_mut().zip(line) {
                        *carry += error * line;
                    }
                }
            }
            if start > 0 {
                let errors = Matrix::new(&errors[..rows * width], rows, width, width);
                let lines = Matrix::new(&factor[start * columns..], width, start, columns);
                multiply_add(&mut carry, columns, 1.0, 1.0, errors, lines);
            }
            end = start;
        }
        asked
    }

    /// Moves entries to the means of what their elements asked for.
    pub(crate) fn follow(&mut self, asked: &[[f64; 2]]) {
        for (entry, [sum, cost]) in self.tables.iter_mut().zip(asked) {
            let mean = f16::from_f64(sum / cost);
            if mean.is_finite() {
                *entry = mean.to_f32();
            }
        }
        self.sort();
    }

    /// Sorts the entries of each table, and changes the indices with them.
    pub(crate) fn sort(&mut self) {
        let tables = self.tables.chunks_exact_mut(self.entries);
        for (table, indices) in tables.zip(self.indices.chunks_mut(self.group)) {
            if table.is_sorted() {
                continue;
            }
            let mut order: Vec<usize> = (0..table.len()).collect();
            order.sort_by(|a, b| table[*a].total_cmp(&table[*b]));
            let mut place = vec![0; table.len()];
            let sorted: Vec<f32> = order.iter().map(|from| table[*from]).collect();
            for (to, from) in order.iter().enumerate() {
                place[*from] = to as u8;
            }
            table.copy_from_slice(&sorted);
            indices.iter_mut().for_each(|index| *index = place[usize::from(*index)]);
        }
    }

    /// Computes `R H`.
    pub(crate) fn measure(&mut self) {
        let columns = self.columns;
        let elements = self.weights.iter().zip(&self.indices).enumerate();
        let rest: Vec<f32> = elements
            .map(|(at, (weight, index))| {
                let table = table_of(&self.tables, self.entries, self.group, at);
                weight - table[usize::from(*index)]
            })
            .collect();
        let rows = self.weights.len() / columns;
        let rest = Matrix::new(&rest, rows, columns, columns);
        let full = Matrix::new(&self.moments.full, columns, columns, columns);
        multiply_add(&mut self.pull, columns, 0.0, 1.0, rest, full);
    }

    pub(crate) fn finish(mut self, values: &[f16]) -> Quantized {
        let lut: Vec<f16> = self.tables.iter().map(|entry| f16::from_f32(*entry)).collect();
        self.tables.iter_mut().zip(&lut).for_each(|(entry, half)| *entry = half.to_f32());
        let mut indices = vec![0; self.indices.len()];
        let rows = self.indices.chunks_exact(self.columns);
        for (source, target) in rows.zip(indices.chunks_exact_mut(self.columns)) {
            self.moments.restore(source, target);
        }
        let mut error = GroupError::default();
        for (at, (value, index)) in values.iter().zip(&indices).enumerate() {
            let table = table_of(&self.tables, self.entries, self.group, at);
            error.add(f64::from(value.to_f32()) - f64::from(table[usize::from(*index)]));
        }
        Quantized { lut, indices, error }
    }
}

/// The table of the group that element `at` belongs to.
#[inline]
pub(crate) fn table_of(tables: &[f32], entries: usize, group: usize, at: usize) -> &[f32] {
    let first = at / group * entries;
    &tables[first..first + entries]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_entry_is_found() {
        for table in [vec![1.0], vec![-1.0, 2.0], vec![-3.0, -1.0, 0.0, 4.0, 4.0, 4.0, 4.0, 4.0]] {
            for step in -50..=50 {
                let value = step as f32 / 10.0;
                let distance = |index: usize| (table[index] - value).abs();
                let best = (0..table.len()).map(distance).fold(f32::INFINITY, f32::min);
                assert_eq!(distance(nearest(&table, value)), best, "{value} in {table:?}");
            }
        }
        assert_eq!(nearest(&[0.0, 1.0], 0.5), 0);
        assert_eq!(nearest(&[0.0, 1.0, 1.0, 1.0], 9.0), 3);
    }
}
