//! Other bases of a model's channels, folded into the weights: the residual stream is rotated, and
//! channels of MLPs are sorted.
//!
//! All that a decoder does with its residual stream is to add to it and to read it through
//! RMSNorms, which do not care about an orthogonal change of basis once their gains are part of the
//! matrices behind them. So the embedding and the matrices that write to the stream can give it in
//! another basis, and those that read it can take it back: the model computes the same. In a basis
//! that mixes all channels, none stands out, and tables suit the weights better (QuaRot, Ashkboos et
//! al. 2024, arXiv 2404.00456).
//!
//! The rotation of `n = 2^a m` channels is a random sign for each, Hadamard's matrix over runs of
//! `2^a`, and a random orthogonal `m` x `m` matrix across the runs. It follows from the seed by
//! sums, products and square roots alone, the same on every machine.
//!
//! Channels of an MLP meet in no operation, so that any order of them is the same model. Sorted by the
//! sizes of the rows of the gate's matrix, the rows that share a table are alike, and the table need not
//! suit large and small ones at once.

use anemll_codes as codes;
use anemll_huggingface::{ModelDirectory, to_f32};
use anemll_plugin_api::data::WeightReference;
use anemll_plugin_api::{Error, Result, TensorView};

/// What becomes of channels with a seed. Whoever changes that counts on: weights written in two ways are
/// not one model. The first only rotated.
pub(super) const SCHEME: u32 = 2;
/// The space of weights that is rotated.
const RESIDUAL: &str = "residual";
/// The role of gains of norms.
const GAIN: &str = "norm.gain";
/// The role of a table whose rows are written to the stream.
const EMBEDDING: &str = "embedding";
/// Gains below this share of the largest say nothing of the input that they multiplied.
const VANISHING: f32 = 1e-4;

/// A rotation of the residual stream, and the order of inner channels that goes with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation<'a> {
    /// Which of all rotations.
    pub(super) seed: u64,
    /// Where gains are read, and what channels are sorted by.
    pub(super) directory: &'a ModelDirectory,
}

/// Puts rows of the residual stream, of so many elements each, into the basis of a rotation.
pub(super) fn rotate_rows(seed: u64, width: usize, rows: &mut [f32]) {
    if width > 0 {
        Basis::new(width, seed).rotate(rows, 1);
    }
}

impl Rotation<'_> {
    /// Whether a weight changes.
    pub(super) fn concerns(reference: &WeightReference) -> bool {
        let is = |space: &Option<String>| space.as_deref() == Some(RESIDUAL);
        is(&reference.reads)
            || is(&reference.writes)
            || reference.row_order.is_some()
            || reference.column_order.is_some()
    }

    /// Changes the values of a weight, which has this shape in the weight files (or fewer rows).
    ///
    /// # Errors
    /// [`codes::GRAPH_INVALID`] where the frontend does not say through which norm a weight reads
    /// the stream, or cuts a weight that writes it; those of reading the gain.
    pub(super) fn weight(
        &self,
        reference: &WeightReference,
        shape: &[u64],
        values: &mut [f32],
    ) -> Result<()> {
        if let Some(by) = &reference.row_order
            && let Some(order) = self.order(reference, by)?
        {
            let rows = shape.first().map_or(0, |size| *size as usize);
            check(reference, &order, rows)?;
            sort(values, values.len() / rows.max(1), &order);
        }
        if let Some(by) = &reference.column_order
            && let Some(order) = self.order(reference, by)?
        {
            let columns = shape.iter().skip(1).product::<u64>() as usize;
            check(reference, &order, columns)?;
            values.chunks_exact_mut(columns.max(1)).for_each(|row| sort(row, 1, &order));
        }
        if reference.reads.as_deref() == Some(RESIDUAL) {
            if reference.role == GAIN {
                // What the host still does to it comes to one.
                let one = (1.0 - reference.add.unwrap_or(0.0)) / reference.scale.unwrap_or(1.0);
                values.fill(one);
                return Ok(());
            }
            let gain = self.gain(reference)?;
            for row in values.chunks_exact_mut(gain.len()) {
                row.iter_mut().zip(&gain).for_each(|(value, gain)| *value *= gain);
            }
            Basis::new(gain.len(), self.seed).rotate(values, 1);
        }
        if reference.writes.as_deref() == Some(RESIDUAL) {
            if reference.role == EMBEDDING {
                let size = shape.get(1).map_or(1, |size| *size as usize);
                Basis::new(size, self.seed).rotate(values, 1);
            } else {
                if reference.rows.is_some() {
                    return Err(refuse(reference, "writes it in pieces"));
                }
                let size = shape.first().map_or(1, |size| *size as usize);
                let inner = values.len() / size.max(1);
                Basis::new(size, self.seed).rotate(values, inner);
            }
        }
        Ok(())
    }

    /// The statistics of a weight's inputs once the stream is rotated or they are sorted, as float32
    /// bytes; none where they stay.
    ///
    /// # Errors
    /// Those of [`Self::weight`].
    pub(super) fn statistics(
        &self,
        reference: &WeightReference,
        statistics: &TensorView<'_>,
    ) -> Result<Option<Vec<u8>>> {
        let given = || -> Vec<f32> {
            let words = statistics.bytes().as_chunks::<4>().0.iter();
            words.map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        if let Some(by) = &reference.column_order
            && let Some(order) = self.order(reference, by)?
        {
            let (size, mut given) = (order.len(), given());
            let rows = given.len() / size.max(1);
            check(reference, &order, if rows == 1 { given.len() } else { rows })?;
            given.chunks_exact_mut(size.max(1)).for_each(|row| sort(row, 1, &order));
            if rows > 1 {
                sort(&mut given, size, &order);
            }
            return Ok(Some(given.iter().flat_map(|value| value.to_le_bytes()).collect()));
        }
        if reference.reads.as_deref() != Some(RESIDUAL) || reference.role == GAIN {
            return Ok(None);
        }
        let gain = self.gain(reference)?;
        let size = gain.len();
        let given = given();
        let whole = given.len() == size * size;
        let mut moments = if whole { given } else { diagonal(&given) };
        divide(&mut moments, &gain);
        let basis = Basis::new(size, self.seed);
        basis.rotate(&mut moments, 1);
        basis.rotate(&mut moments, size);
        let bytes = |values: &mut dyn Iterator<Item = &f32>| -> Vec<u8> {
            values.flat_map(|value| value.to_le_bytes()).collect()
        };
        Ok(Some(if whole {
            // One rounding for both of a pair.
            for row in 0..size {
                for column in 0..row {
                    moments[column * size + row] = moments[row * size + column];
                }
            }
            bytes(&mut moments.iter())
        } else {
            bytes(&mut moments.iter().step_by(size + 1))
        }))
    }

    /// The gains through which a weight reads the stream.
    fn gain(&self, reference: &WeightReference) -> Result<Vec<f32>> {
        let Some(gain) = &reference.gain else {
            return Err(refuse(reference, "reads it, and does not say through which norm"));
        };
        let source = self.directory.weight(&gain.tensor, &gain.shape, &gain.dimensions)?;
        let (scale, add) = (gain.scale.unwrap_or(1.0), gain.add.unwrap_or(0.0));
        Ok(to_f32(&source)?.into_iter().map(|value| value * scale + add).collect())
    }

    /// Where each channel comes from when they are sorted by the sizes of this matrix' rows, through the
    /// gain of its norm; none where zeros stand in for the matrix.
    fn order(&self, of: &WeightReference, by: &WeightReference) -> Result<Option<Vec<usize>>> {
        if !self.directory.tensors().contains_key(&by.tensor) {
            return Ok(None);
        }
        let mut source = self.directory.weight(&by.tensor, &by.shape, &by.dimensions)?;
        if let Some([first, end]) = by.rows {
            source = source.rows(first, end)?;
        }
        let rows = source.shape().first().map_or(0, |rows| *rows as usize);
        let values = to_f32(&source)?;
        let columns = values.len() / rows.max(1);
        let gain = by.gain.is_some().then(|| self.gain(by)).transpose()?;
        let gain = gain.unwrap_or_else(|| vec![1.0; columns]);
        check(of, &gain, columns)?;
        let size = |row: &[f32]| -> f64 {
            row.iter().zip(&gain).map(|(value, gain)| f64::from(value * gain).powi(2)).sum()
        };
        let sizes: Vec<f64> = values.chunks_exact(columns.max(1)).map(size).collect();
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|a, b| sizes[*a].total_cmp(&sizes[*b]));
        Ok(Some(order))
    }
}

/// Puts runs of `inner` elements into an order.
fn sort(values: &mut [f32], inner: usize, order: &[usize]) {
    let before = values.to_vec();
    for (to, from) in values.chunks_exact_mut(inner.max(1)).zip(order) {
        to.copy_from_slice(&before[from * inner..][..inner]);
    }
}

/// Refuses what has another number of channels than are to be sorted.
fn check<T>(reference: &WeightReference, channels: &[T], found: usize) -> Result<()> {
    if channels.len() == found {
        return Ok(());
    }
    Err(refuse(reference, &format!("has {found} channels where {} are sorted", channels.len())))
}

fn refuse(reference: &WeightReference, why: &str) -> Error {
    Error::new(
        codes::GRAPH_INVALID,
        format!("the channels cannot be given another basis: `{}` {why}", reference.tensor),
    )
    .with_hint("leave the rotation out: -O rotate=false")
}

/// A square matrix with these numbers on its diagonal.
fn diagonal(values: &[f32]) -> Vec<f32> {
    let mut full = vec![0.0; values.len() * values.len()];
    full.iter_mut().step_by(values.len() + 1).zip(values).for_each(|(full, value)| *full = *value);
    full
}

/// From the moments of what norms give with their gains to those without. Of an input whose gain is
/// next to nothing only that a norm gives ones is known.
fn divide(moments: &mut [f32], gain: &[f32]) {
    let largest = gain.iter().fold(0.0_f32, |largest, gain| largest.max(gain.abs()));
    let known = |at: usize| gain[at].abs() > VANISHING * largest;
    for (row, moments) in moments.chunks_exact_mut(gain.len()).enumerate() {
        for (column, moment) in moments.iter_mut().enumerate() {
            *moment = if known(row) && known(column) {
                *moment / gain[row] / gain[column]
            } else if row == column {
                1.0
            } else {
                0.0
            };
        }
    }
}

/// A rotation of so many channels.
struct Basis {
    signs: Vec<f32>,
    /// Length of the runs, a power of two.
    run: usize,
    /// `m` x `m`, row by row.
    across: Vec<f32>,
}

impl Basis {
    fn new(size: usize, seed: u64) -> Self {
        let run = if size == 0 { 1 } else { 1 << size.trailing_zeros() };
        let mut next = noise(seed);
        let signs = (0..size).map(|_| if next() < 0.0 { -1.0 } else { 1.0 }).collect();
        Self { signs, run, across: orthogonal(size / run, &mut next) }
    }

    /// Multiplies every vector of channels, whose elements lie `inner` apart, by the matrix from the
    /// right.
    fn rotate(&self, values: &mut [f32], inner: usize) {
        let size = self.signs.len();
        let count = size / self.run;
        let scale = (1.0 / self.run as f64).sqrt() as f32;
        let mut mixed = vec![0.0; if count > 1 { size * inner } else { 0 }];
        for block in values.chunks_exact_mut(size * inner) {
            for (line, sign) in block.chunks_exact_mut(inner).zip(&self.signs) {
                line.iter_mut().for_each(|value| *value *= sign * scale);
            }
            let mut half = inner;
            while half < self.run * inner {
                for pair in block.chunks_exact_mut(2 * half) {
                    let (left, right) = pair.split_at_mut(half);
                    for (left, right) in left.iter_mut().zip(right) {
                        (*left, *right) = (*left + *right, *left - *right);
                    }
                }
                half *= 2;
            }
            if count > 1 {
                let length = self.run * inner;
                for (to, mixed) in mixed.chunks_exact_mut(length).enumerate() {
                    mixed.fill(0.0);
                    for (from, line) in block.chunks_exact(length).enumerate() {
                        let factor = self.across[from * count + to];
                        for (mixed, value) in mixed.iter_mut().zip(line) {
                            *mixed += factor * value;
                        }
                    }
                }
                block.copy_from_slice(&mixed);
            }
        }
    }
}

/// Numbers from -1 to 1.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

/// An orthogonal matrix, by the method of Gram and Schmidt, twice for its digits.
fn orthogonal(size: usize, next: &mut impl FnMut() -> f64) -> Vec<f32> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(size);
    while rows.len() < size {
        // Sums of a few numbers are nearly normal: no direction is preferred.
        let mut row: Vec<f64> = (0..size).map(|_| (0..8).map(|_| next()).sum()).collect();
        let length = |row: &[f64]| row.iter().map(|value| value * value).sum::<f64>().sqrt();
        let before = length(&row);
        for _ in 0..2 {
            for other in &rows {
                let part: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(value, other)| *value -= part * other);
            }
        }
        let left = length(&row);
        if left > 1e-6 * before {
            row.iter_mut().for_each(|value| *value /= left);
            rows.push(row);
        }
    }
    rows.into_iter().flatten().map(|value| value as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The matrix itself, row by row.
    fn matrix(basis: &Basis) -> Vec<f32> {
        let mut values = diagonal(&vec![1.0; basis.signs.len()]);
        basis.rotate(&mut values, 1);
        values
    }

    #[test]
    fn rotations_are_orthogonal_and_mix_all_channels() {
        for size in [1, 2, 7, 12, 64, 96] {
            let matrix = matrix(&Basis::new(size, 5));
            let row = |at: usize| &matrix[at * size..(at + 1) * size];
            for a in 0..size {
                for b in 0..size {
                    let product: f32 = row(a).iter().zip(row(b)).map(|(x, y)| x * y).sum();
                    let expected = if a == b { 1.0 } else { 0.0 };
                    assert!((product - expected).abs() < 1e-5, "{size}: {a} {b} {product}");
                }
                assert!(row(a).iter().all(|value| *value != 0.0));
            }
        }
    }

    #[test]
    fn vectors_lie_along_either_axis() {
        let (size, others) = (12, 5);
        let basis = Basis::new(size, 9);
        let by_rows: Vec<f32> = (0..size * others).map(|at| (at * 31 % 17) as f32 - 8.0).collect();
        let turned = |values: &[f32], rows: usize| -> Vec<f32> {
            let columns = values.len() / rows;
            (0..values.len()).map(|at| values[at % rows * columns + at / rows]).collect()
        };
        let mut by_columns = turned(&by_rows, others);
        let mut rotated = by_rows;
        basis.rotate(&mut rotated, 1);
        basis.rotate(&mut by_columns, others);
        assert_eq!(by_columns, turned(&rotated, others));
    }

    #[test]
    fn runs_are_put_into_an_order() {
        let mut values = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0];
        sort(&mut values, 2, &[2, 0, 1]);
        assert_eq!(values, [20.0, 21.0, 0.0, 1.0, 10.0, 11.0]);
        sort(&mut values, 1, &[5, 4, 3, 2, 1, 0]);
        assert_eq!(values, [11.0, 10.0, 1.0, 0.0, 21.0, 20.0]);
    }

    #[test]
    fn gains_are_taken_out_of_moments_and_none_is_divided_by_nothing() {
        let mut moments = vec![4.0, 2.0, 0.0, 2.0, 9.0, 0.0, 0.0, 0.0, 0.0];
        divide(&mut moments, &[2.0, -1.0, 0.0]);
        assert_eq!(moments, [1.0, -1.0, 0.0, -1.0, 9.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
