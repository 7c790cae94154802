//! Tables of vectors whose indices are chosen with errors passed on.

use crate::matrix::{Matrix, multiply_add};
use crate::state::{BLOCK, arranged};
use crate::{GptqError, Moments};
use anemll_palettize::{GroupError, Nearest, VectorPalette, palettize_vectors, vector_entries};
use half::f16;

/// One table of `2^bits` vectors for `values` (row by row, whole tuples of `length` rows), whose inputs
/// have these second moments: as [`crate::quantize`], but an index stands for `length` neighbouring
/// rows of a column. `turns`: how often indices are chosen; between, entries move to the means of what
/// was asked of them; 0 takes the nearest entries.
///
/// All rows share the inputs, so that an error in any row of a tuple costs the same: the vector
/// nearest to what is asked for is the best one.
///
/// # Errors
/// [`GptqError::Palette`].
pub fn quantize_vectors(
    values: &[f16],
    length: usize,
    bits: u32,
    moments: &Moments,
    turns: u32,
) -> Result<VectorPalette, GptqError> {
    let columns = moments.columns();
    let importance = Some(moments.importance());
    if turns == 0 {
        return Ok(palettize_vectors(values, columns, length, bits, importance)?);
    }
    let first = vector_entries(values, columns, length, bits, importance)?;
    let weights = arranged(values, moments);
    let mut entries: Vec<f32> = first.iter().map(|entry| entry.to_f32()).collect();
    let mut chosen = vec![0; values.len() / length];
    for turn in 1..=turns {
        let asked = feed_back(&weights, length, &entries, moments, &mut chosen);
        if turn < turns {
            follow(&mut entries, &asked, length);
        }
    }
    let mut indices = vec![0; chosen.len()];
    let rows = chosen.chunks_exact(columns).zip(indices.chunks_exact_mut(columns));
    rows.for_each(|(source, target)| moments.restore(source, target));

    let mut error = GroupError::default();
    for (at, value) in values.iter().enumerate() {
        let (row, column) = (at / columns, at % columns);
        let index = usize::from(indices[row / length * columns + column]);
        let entry = entries[index * length + row % length];
        error.add(f64::from(value.to_f32()) - f64::from(entry));
    }
    let lut = entries.iter().map(|entry| f16::from_f32(*entry)).collect();
    Ok(VectorPalette { length, lut, indices, error })
}

/// Of one entry: what it counts, and the sums of what its vectors asked for.
type Asked = (f64, Vec<f64>);

/// Chooses all indices from the last column to the first; see `State::feed_back` for the arithmetic.
/// `weights` and `indices` are in the order of the moments.
fn feed_back(
    weights: &[f32],
    length: usize,
    entries: &[f32],
    moments: &Moments,
    indices: &mut [u8],
) -> Vec<Asked> {
    let columns = moments.columns();
    let factor = &moments.factor;
    let rows = weights.len() / columns;
    let finder = Nearest::new(entries, length);
    let mut asked: Vec<Asked> = vec![(0.0, vec![0.0; length]); entries.len() / length];
    let mut carry = vec![0.0_f32; weights.len()];
    let mut errors = vec![0.0_f32; rows * BLOCK];
    let mut target = vec![0.0_f32; length];
    let mut end = columns;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let width = end - start;
        for tuple in 0..rows / length {
            for at in (0..width).rev() {
                let line = &factor[(start + at) * columns + start..][..width];
                for (number, target) in target.iter_mut().enumerate() {
                    let place = (tuple * length + number) * columns + start + at;
                    *target = weights[place] + carry[place] / line[at];
                }
                let index = finder.find(&target);
                indices[tuple * columns + start + at] = index as u8;
                let cost = f64::from(line[at]) * f64::from(line[at]);
                let (count, sums) = &mut asked[index];
                *count += cost;
                for (number, sum) in sums.iter_mut().enumerate() {
                    *sum += cost * f64::from(target[number]);
                    let row = tuple * length + number;
                    let from = row * columns + start;
                    let error = weights[from + at] - entries[index * length + number];
                    errors[row * width + at] = error;
                    for (carry, line) in carry[from..from + at].iter_mut().zip(line) {
                        *carry += error * line;
                    }
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

/// Moves entries to the means of what their vectors asked for.
fn follow(entries: &mut [f32], asked: &[Asked], length: usize) {
    for (entry, (count, sums)) in entries.chunks_exact_mut(length).zip(asked) {
        let means: Vec<f16> = sums.iter().map(|sum| f16::from_f64(sum / count)).collect();
        if means.iter().all(|mean| mean.is_finite()) {
            entry.iter_mut().zip(means).for_each(|(number, mean)| *number = mean.to_f32());
        }
    }
}
