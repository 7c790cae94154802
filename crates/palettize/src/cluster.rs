//! Exact one-dimensional k-means.

use crate::PaletteError;
use crate::coarse::Coarse;
use crate::prefix::Prefix;
use crate::search::Search;
use std::ops::Range;

/// Splits `values`, finite and strictly ascending, with their `weights`, finite and above zero, into
/// at most `count` clusters with the least sum of squared weighted distances to the clusters' means.
///
/// The clusters are ranges of elements, in order; there are as many as `count` and the number of
/// values allow. The sum is the global minimum, up to the rounding of 64-bit sums of all gains:
/// at most about 1e-13 of the squared deviations of all values.
///
/// # Errors
/// [`PaletteError::Size`] for no values, no clusters, more than 2^31 values or slices of different
/// lengths; [`PaletteError::Element`] for values out of order and numbers that do not suit.
pub fn clusters(
    values: &[f64],
    weights: &[f64],
    count: usize,
) -> Result<Vec<Range<usize>>, PaletteError> {
    if values.is_empty() || count == 0 || values.len() != weights.len() || values.len() > 1 << 31 {
        return Err(PaletteError::Size(format!(
            "{} values with {} weights cannot make {count} clusters",
            values.len(),
            weights.len()
        )));
    }
    let ordered = |index: usize| index == 0 || values[index - 1] < values[index];
    let proper = |weight: f64| weight.is_finite() && weight > 0.0;
    match (0..values.len())
        .find(|&index| !(values[index].is_finite() && proper(weights[index]) && ordered(index)))
    {
        Some(index) => Err(PaletteError::Element(index)),
        None => {
            let mut solver = Solver::default();
            let mut start = 0;
            let ends = solver.solve(values, weights, count);
            Ok(ends.iter().map(|&end| std::mem::replace(&mut start, end)..end).collect())
        }
    }
}

/// Exact one-dimensional k-means with room that is used again from call to call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Solver {
    prefix: Prefix,
    coarse: Coarse,
    search: Search,
    ends: Vec<usize>,
}

impl Solver {
    /// As [`clusters`], but gives the ends of the clusters and trusts its arguments: with others
    /// than those which [`clusters`] takes, the clusters mean nothing.
    ///
    /// The squared error of the best clusters is convex in their number, so that some price per
    /// cluster makes the best priced solution one with `count` clusters. That price is first looked
    /// for where few cuts are allowed; what is left to do then is mostly one solution with all.
    pub(crate) fn solve(&mut self, values: &[f64], weights: &[f64], count: usize) -> &[usize] {
        self.prefix.fill(values, weights);
        self.ends.clear();
        if values.len() <= count {
            self.ends.extend(1..=values.len());
        } else if count <= 1 {
            self.ends.push(values.len());
        } else {
            let price = self.coarse.price(&self.prefix, values, count);
            self.search.solve(&self.prefix, price, count);
            self.ends.extend_from_slice(&self.search.found.ends);
        }
        &self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layered::Layered;
    use crate::penalised::{Cuts, Penalised};

    /// Values and weights with many ties (`style` 0), some (1), or none.
    fn case(style: u64, size: usize) -> (Vec<f64>, Vec<f64>) {
        let mut state = 0x1357_9BDF_0246_8ACE_u64 ^ size as u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> 32
        };
        let mut value = 0.0;
        let step = |random: u64| match style {
            0 => 1.0,
            1 => 1.0 + (random % 3) as f64,
            _ => 0.1 + (random % 1_000_003) as f64 / 1e5,
        };
        (0..size)
            .map(|_| {
                value += step(next());
                (value, if style == 0 { 1.0 } else { 1.0 + (next() % 4) as f64 })
            })
            .unzip()
    }

    /// What the solver has of its prefix sums, and a first price.
    fn prepared(values: &[f64], weights: &[f64], count: usize) -> (Prefix, f64) {
        let mut prefix = Prefix::default();
        prefix.fill(values, weights);
        let price = Coarse::default().price(&prefix, values, count);
        (prefix, price)
    }

    #[test]
    fn both_methods_find_the_same_gain() {
        let (mut search, mut layered, mut slow) =
            (Search::default(), Layered::default(), Cuts::default());
        for style in 0..3 {
            for size in [3, 10, 33, 150, 400] {
                let (values, weights) = case(style, size);
                let mut last = 0.0;
                for count in (2..size).step_by(1 + size / 40) {
                    let (prefix, price) = prepared(&values, &weights, count);
                    layered.solve(&prefix, count, &mut slow);
                    assert_eq!(slow.count(), count);
                    // From any first price, and without help of the slower method.
                    for price in [price, price * 1e4, price * 1e-4] {
                        search.by_price(&prefix, price, count).unwrap();
                        let fast = &search.found;
                        assert_eq!(fast.count(), count);
                        let difference = (fast.gain - slow.gain).abs();
                        assert!(
                            difference <= slow.gain * 1e-13,
                            "style {style}, {count} of {size}: {} {}",
                            fast.gain,
                            slow.gain
                        );
                    }
                    assert!(slow.gain >= last);
                    last = slow.gain;
                }
            }
        }
    }

    #[test]
    fn windows_around_the_cuts_of_another_number_are_wide_enough() {
        let (mut layered, mut all, mut near, mut found) =
            (Layered::default(), Cuts::default(), Cuts::default(), Cuts::default());
        for style in 0..3 {
            for size in [5, 40, 170] {
                let (values, weights) = case(style, size);
                let (prefix, _) = prepared(&values, &weights, 2);
                for count in (1..=size).step_by(1 + size / 20) {
                    layered.solve(&prefix, count, &mut all);
                    for other in [1, count.saturating_sub(1), count + 1, count + 4, size] {
                        if !(1..=size).contains(&other) {
                            continue;
                        }
                        layered.solve(&prefix, other, &mut near);
                        layered.solve_near(&prefix, count, &near, &mut found);
                        assert_eq!(found.count(), count);
                        let difference = (found.gain - all.gain).abs();
                        let what = format!("style {style}, {count} of {size} from {other}");
                        assert!(difference <= all.gain * 1e-13, "{what}: {found:?}, {all:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_price_that_helps_nothing_ends_the_search() {
        let (values, weights) = case(2, 40);
        let (prefix, _) = prepared(&values, &weights, 7);
        for price in [f64::NAN, f64::INFINITY, 0.0] {
            assert!(Search::default().by_price(&prefix, price, 7).is_none());
        }
        // Where neighbours cannot be told apart, the slower method still gives the number asked for.
        let values: Vec<f64> = (0..40).map(|at| 1.0 + f64::from(at) * 1e-9).chain([1e12]).collect();
        let mut solver = Solver::default();
        for count in 2..40 {
            assert_eq!(solver.solve(&values, &[1.0; 41], count).len(), count);
        }
    }

    #[test]
    fn the_first_price_is_near() {
        let (values, weights) = case(2, 4000);
        for count in [16, 64, 256] {
            let (prefix, price) = prepared(&values, &weights, count);
            let mut penalised = Penalised::default();
            penalised.solve(&prefix, price);
            let found = penalised.count(&prefix);
            assert!(found.abs_diff(count) <= count / 16, "{found} for {count}");
        }
    }
}
