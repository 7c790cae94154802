//! The whole way from weights to tables and indices.

use crate::matrix::{Matrix, multiply_add};
use crate::{GptqError, Moments, descent, entries};
use anemll_palettize::{GroupError, palettize};
use half::f16;

/// Columns whose errors are passed on at once.
const BLOCK: usize = 64;

/// What is done after the first tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// How often indices are chosen with the errors of earlier ones passed on (GPTQ), each time but
    /// the last followed by better entries for what was asked of them; 0 takes the nearest entries.
    pub feedback: u32,
    /// Turns of entries by least squares and indices by coordinate descent (LNQ).
    pub rounds: u32,
    /// Passes over all indices in each of these turns.
    pub passes: u32,
}

impl Default for Method {
    fn default() -> Self {
        Self { feedback: 3, rounds: 0, passes: 0 }
    }
}

/// Tables and indices of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// A table of `2^bits` ascending entries for each group of rows.
    pub lut: Vec<f16>,
    /// One index per element, row by row.
    pub indices: Vec<u8>,
    /// Distances of the elements to their entries.
    pub error: GroupError,
    /// `tr((W - Q) H (W - Q)ᵀ)` with the damped moments.
    pub loss: f64,
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
    /// `R = W - Q`.
    pub(crate) rest: Vec<f32>,
    /// `R H`.
    pub(crate) pull: Vec<f32>,
}

/// Tables and indices for `values` (row by row, whole groups of `group_rows` rows), whose inputs
/// have these second moments. The result depends on the values, not on how a matrix is cut into
/// pieces, up to the rounding of sums of products.
///
/// # Errors
/// [`GptqError::Size`] or [`GptqError::Palette`].
pub fn quantize(
    values: &[f16],
    group_rows: usize,
    bits: u32,
    moments: &Moments,
    method: Method,
) -> Result<Quantized, GptqError> {
    let columns = moments.columns();
    let first = palettize(values, columns, group_rows, bits, Some(moments.importance()))?;
    let mut state = State {
        moments,
        columns,
        group: group_rows * columns,
        entries: 1 << bits,
        weights: vec![0.0; values.len()],
        tables: first.lut.iter().map(|entry| entry.to_f32()).collect(),
        indices: vec![0; values.len()],
        rest: vec![0.0; values.len()],
        pull: vec![0.0; values.len()],
    };
    let mut row_values = vec![0.0; columns];
    let rows = values.chunks_exact(columns).zip(first.indices.chunks_exact(columns));
    let targets = state.weights.chunks_exact_mut(columns);
    for ((weights, indices), (values, first)) in
        targets.zip(state.indices.chunks_exact_mut(columns)).zip(rows)
    {
        for (row, value) in row_values.iter_mut().zip(values) {
            *row = value.to_f32();
        }
        moments.arrange(&row_values, weights);
        moments.arrange(first, indices);
    }
    for turn in 1..=method.feedback {
        let asked = state.feed_back();
        if turn < method.feedback {
            state.follow(&asked);
        }
    }
    state.measure();
    for _ in 0..method.rounds {
        entries::improve(&mut state);
        state.measure();
        for _ in 0..method.passes {
            if descent::improve(&mut state) == 0 {
                break;
            }
        }
    }
    Ok(state.finish(values))
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

impl State<'_> {
    /// Chooses all indices from the last column to the first, each for the weight and what the
    /// errors of later columns ask of it.
    ///
    /// With `H = L Lᵀ` the loss of a row is `|(w - q) L|²`. Its part `j` holds only the errors from
    /// column `j` on, so that the best value for `q_j`, the later ones given, is
    /// `w_j + sum of (w_i - q_i) L_ij over i > j, divided by L_jj`.
    /// Gives for each entry the sums of what its elements asked for and of what that counts.
    fn feed_back(&mut self) -> Vec<[f64; 2]> {
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
    fn follow(&mut self, asked: &[[f64; 2]]) {
        for (entry, [sum, cost]) in self.tables.iter_mut().zip(asked) {
            let mean = f16::from_f64(sum / cost);
            if mean.is_finite() {
                *entry = mean.to_f32();
            }
        }
        entries::sort(self);
    }

    /// Computes `R` and `R H` anew.
    pub(crate) fn measure(&mut self) {
        let columns = self.columns;
        for at in (0..self.weights.len()).step_by(columns) {
            let table = table_of(&self.tables, self.entries, self.group, at);
            let row = at..at + columns;
            let elements = self.weights[row.clone()].iter().zip(&self.indices[row.clone()]);
            for (rest, (weight, index)) in self.rest[row].iter_mut().zip(elements) {
                *rest = weight - table[usize::from(*index)];
            }
        }
        let rows = self.weights.len() / columns;
        let rest = Matrix::new(&self.rest, rows, columns, columns);
        let full = Matrix::new(&self.moments.full, columns, columns, columns);
        multiply_add(&mut self.pull, columns, 0.0, 1.0, rest, full);
    }

    fn loss(&self) -> f64 {
        let products = self.rest.iter().zip(&self.pull);
        products.map(|(rest, pull)| f64::from(*rest) * f64::from(*pull)).sum()
    }

    fn finish(self, values: &[f16]) -> Quantized {
        let loss = self.loss();
        let mut indices = vec![0; self.indices.len()];
        let rows = self.indices.chunks_exact(self.columns);
        for (source, target) in rows.zip(indices.chunks_exact_mut(self.columns)) {
            self.moments.restore(source, target);
        }
        let mut error = GroupError::default();
        for (at, (value, index)) in values.iter().zip(&indices).enumerate() {
            let table = table_of(&self.tables, self.entries, self.group, at);
            let distance = f64::from(value.to_f32()) - f64::from(table[usize::from(*index)]);
            error.squared += distance * distance;
            error.max_absolute = error.max_absolute.max(distance.abs());
        }
        let lut = self.tables.iter().map(|entry| f16::from_f32(*entry)).collect();
        Quantized { lut, indices, error, loss }
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
