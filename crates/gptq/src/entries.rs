//! Entries by least squares, the indices given.

use crate::matrix::{Matrix, multiply_add};
use crate::state::State;
use half::f16;

/// Steps of the search: the matrix of a table is small and, scaled by its diagonal, well-behaved. Two go
/// nearly as far as four (SmolLM2 at 4 bits: KL 0.145 and 0.144), and each costs a product with `H`.
const STEPS: usize = 2;

/// Moves the entries of every table towards where the loss is least while all indices stay, and sorts
/// them. They are not rounded: `R H` is kept up by the products that are there anyway.
///
/// For entries `v` of a group the loss is `sum over rows of (w - P v)ᵀ H (w - P v)`, where `P` picks
/// the entry of each element: a system of `2^bits` equations, whose products cost as much as one of
/// the rows with `H`. It is solved by conjugate gradients, scaled by the diagonal, for all groups
/// at once.
pub(crate) fn improve(state: &mut State<'_>) {
    let columns = state.columns;
    let rows = state.indices.len() / columns;
    let groups = state.indices.len() / state.group;
    let size = state.entries;
    let diagonal = scatter(state, groups, |at| state.moments.full[at % columns * (columns + 1)]);
    let mut gradient = scatter(state, groups, |at| state.pull[at]);
    let scaled = |gradient: &[f64]| -> Vec<f64> {
        let both = gradient.iter().zip(&diagonal);
        // An entry that nobody uses stays where it is.
        both.map(|(value, scale)| if *scale > 0.0 { value / scale } else { 0.0 }).collect()
    };
    let mut direction = scaled(&gradient);
    let mut power = dots(&gradient, &direction, size);
    let mut moved = vec![0.0_f64; groups * size];
    let mut picked = vec![0.0_f32; state.indices.len()];
    let mut product = vec![0.0_f32; state.indices.len()];
    let full = Matrix::new(&state.moments.full, columns, columns, columns);
    for _ in 0..STEPS {
        for (at, (picked, index)) in picked.iter_mut().zip(&state.indices).enumerate() {
            *picked = direction[at / state.group * size + usize::from(*index)] as f32;
        }
        let left = Matrix::new(&picked, rows, columns, columns);
        multiply_add(&mut product, columns, 0.0, 1.0, left, full);
        let curved = scatter(state, groups, |at| product[at]);
        let curvature = dots(&direction, &curved, size);
        let strides: Vec<f64> = power
            .iter()
            .zip(&curvature)
            .map(|(power, curvature)| if *curvature > 0.0 { power / curvature } else { 0.0 })
            .collect();
        for (at, (pull, product)) in state.pull.iter_mut().zip(&product).enumerate() {
            *pull -= strides[at / state.group] as f32 * product;
        }
        for (at, direction) in direction.iter().enumerate() {
            moved[at] += strides[at / size] * direction;
            gradient[at] -= strides[at / size] * curved[at];
        }
        let ready = scaled(&gradient);
        let next = dots(&gradient, &ready, size);
        for (at, (direction, ready)) in direction.iter_mut().zip(&ready).enumerate() {
            let (power, next) = (power[at / size], next[at / size]);
            *direction = ready + if power > 0.0 { next / power * *direction } else { 0.0 };
        }
        power = next;
    }
    let mut all_moved = true;
    for (entry, moved) in state.tables.iter_mut().zip(&moved) {
        let better = (f64::from(*entry) + moved) as f32;
        if f16::from_f32(better).is_finite() {
            *entry = better;
        } else {
            all_moved = false;
        }
    }
    state.sort();
    if !all_moved {
        state.measure();
    }
}

/// The sums over each group's elements of what they are worth, by the element's entry.
fn scatter(state: &State<'_>, groups: usize, worth: impl Fn(usize) -> f32) -> Vec<f64> {
    let mut sums = vec![0.0; groups * state.entries];
    for (group, (indices, sums)) in
        state.indices.chunks(state.group).zip(sums.chunks_exact_mut(state.entries)).enumerate()
    {
        let first = group * state.group;
        for (at, index) in indices.iter().enumerate() {
            sums[usize::from(*index)] += f64::from(worth(first + at));
        }
    }
    sums
}

/// The products of each group's parts.
fn dots(left: &[f64], right: &[f64], size: usize) -> Vec<f64> {
    let groups = left.chunks_exact(size).zip(right.chunks_exact(size));
    groups.map(|(left, right)| left.iter().zip(right).map(|(a, b)| a * b).sum()).collect()
}
