//! Exact one-dimensional k-means.

use crate::penalised::{Cuts, Penalised, splice};
use crate::prefix::Prefix;
use crate::{PaletteError, layered};
use std::ops::Range;

/// Steps of the search for the price that follow the curve of counts; then come chords.
const CURVE_STEPS: usize = 8;
/// Numbers of clusters that are so near that chords are tried at once.
const NEAR: usize = 4;
/// Steps after which the search is given up for the slower method.
const STEPS: usize = 100;
/// Pieces in which the density of values is seen for the first price.
const PIECES: usize = 96;

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
    penalised: Penalised,
    ends: Vec<usize>,
}

impl Solver {
    /// As [`clusters`], but gives the ends of the clusters and trusts its arguments: with others
    /// than those which [`clusters`] takes, the clusters mean nothing.
    ///
    /// The squared error of the best clusters is convex in their number, so that some price per
    /// cluster makes the best priced solution one with `count` clusters. Its first guess is that of
    /// high-resolution quantization (Panter and Dite 1951); the next ones follow the curve of counts
    /// over prices. Where several numbers of clusters are equally good, two solutions are joined.
    pub(crate) fn solve(&mut self, values: &[f64], weights: &[f64], count: usize) -> &[usize] {
        self.prefix.fill(values, weights);
        self.ends.clear();
        if values.len() <= count {
            self.ends.extend(1..=values.len());
        } else if count <= 1 {
            self.ends.push(values.len());
        } else {
            let price = first_price(&self.prefix, values, count);
            self.ends = match self.search(price, count) {
                Some(cuts) => cuts.ends,
                None => layered::solve(&self.prefix, count).ends,
            };
        }
        &self.ends
    }

    /// Searches the price with which `count` clusters are the best ones.
    fn search(&mut self, price: f64, count: usize) -> Option<Cuts> {
        let prefix = &self.prefix;
        let target = (count as f64).ln();
        let (mut few, mut many): (Option<Priced>, Option<Priced>) = (None, None);
        let mut last: Option<(f64, f64)> = None;
        let mut slope = -1.0 / 3.0;
        let mut before = 0.0_f64;
        let mut on_chord = false;
        let mut price = price;
        for step in 0..STEPS {
            let value = self.penalised.solve(prefix, price);
            let found = self.penalised.count(prefix);
            if found == count {
                return Some(self.penalised.cuts(prefix));
            }
            if let (Some(few), Some(many)) = (&few, &many) {
                // On a chord no point lies above the line: all numbers of clusters between are
                // equally good.
                let line = few.cuts.gain - price * few.cuts.count() as f64;
                let outside = found <= few.cuts.count() || found >= many.cuts.count();
                let equal = value - line <= 1e-14 * few.cuts.gain.abs();
                if on_chord && (outside || equal) {
                    return splice(prefix, &few.cuts, &many.cuts, count);
                }
            }
            let priced = Priced { price, cuts: self.penalised.cuts(prefix) };
            let side = if found < count { &mut few } else { &mut many };
            *side = Some(priced);
            on_chord = false;
            price = match (&few, &many) {
                (Some(few), Some(many))
                    if step + 1 >= CURVE_STEPS || many.cuts.count() - few.cuts.count() <= NEAR =>
                {
                    on_chord = true;
                    few.chord(many)
                }
                _ => {
                    let here = (price.ln(), (found as f64).ln());
                    if let Some(last) = last
                        && last.1 != here.1
                    {
                        slope = ((here.1 - last.1) / (here.0 - last.0)).clamp(-1.0, -0.15);
                    }
                    last = Some(here);
                    let mut stride = (target - here.1) / slope;
                    match (&few, &many) {
                        (Some(few), Some(many)) => {
                            few.inside(many, (here.0 + stride).exp(), target)
                        }
                        _ => {
                            // Where hardly anything is left to merge, counts say little about how
                            // far it is.
                            if step >= 2 {
                                stride = stride.signum() * stride.abs().max(2.0 * before.abs());
                            }
                            before = stride;
                            (here.0 + stride).exp()
                        }
                    }
                }
            };
            if !(price.is_finite() && price > 0.0) {
                return None;
            }
        }
        None
    }
}

/// A solution and the price for which it is the best one.
struct Priced {
    price: f64,
    cuts: Cuts,
}

impl Priced {
    /// The price for which this solution and the other one are equally good.
    fn chord(&self, other: &Self) -> f64 {
        (other.cuts.gain - self.cuts.gain) / (other.cuts.count() as f64 - self.cuts.count() as f64)
    }

    /// `next` if it lies between the prices of this solution, with too few clusters, and the other
    /// one, with too many; else one that does.
    fn inside(&self, many: &Self, next: f64, target: f64) -> f64 {
        if many.price < next && next < self.price {
            return next;
        }
        let (low, high) = ((self.cuts.count() as f64).ln(), (many.cuts.count() as f64).ln());
        let share = ((target - low) / (high - low)).clamp(0.1, 0.9);
        (self.price.ln() * (1.0 - share) + many.price.ln() * share).exp()
    }
}

/// The price with which about `count` clusters are the best: of clusters as fine as the density of
/// values asks for, one more would gain twice their error divided by their number.
fn first_price(prefix: &Prefix, values: &[f64], count: usize) -> f64 {
    let pieces = values.len().min(PIECES);
    let middle = |index: usize| values[index - 1] / 2.0 + values[index] / 2.0;
    let last = values.len() - 1;
    let (mut start, mut from, mut roots) = (0, values[0], 0.0);
    for piece in 1..=pieces {
        let end = values.len() * piece / pieces;
        let [weight, _] = prefix.between(start, end);
        // Half of the gap to a neighbour belongs to the piece.
        let to = if end > last { values[last] } else { middle(end) };
        let width = prefix.scaled(to, from);
        roots += (weight * width * width).cbrt();
        (start, from) = (end, to);
    }
    let price = (roots / count as f64).powi(3) / 6.0;
    if price.is_finite() && price > 0.0 { price } else { f64::MIN_POSITIVE.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn both_methods_find_the_same_gain() {
        let mut solver = Solver::default();
        for style in 0..3 {
            for size in [3, 10, 33, 150, 400] {
                let (values, weights) = case(style, size);
                let mut last = 0.0;
                for count in (2..size).step_by(1 + size / 40) {
                    solver.prefix.fill(&values, &weights);
                    let slow = layered::solve(&solver.prefix, count);
                    assert_eq!(slow.count(), count);
                    let price = first_price(&solver.prefix, &values, count);
                    // From any first price, and without help of the slower method.
                    for price in [price, price * 1e4, price * 1e-4] {
                        let fast = solver.search(price, count).unwrap();
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
    fn a_price_that_helps_nothing_ends_the_search() {
        let (values, weights) = case(2, 40);
        let mut solver = Solver::default();
        solver.prefix.fill(&values, &weights);
        for price in [f64::NAN, f64::INFINITY, 0.0] {
            assert!(solver.search(price, 7).is_none());
        }
        // Where neighbours cannot be told apart, the slower method still gives the number asked for.
        let values: Vec<f64> = (0..40).map(|at| 1.0 + f64::from(at) * 1e-9).chain([1e12]).collect();
        for count in 2..40 {
            assert_eq!(solver.solve(&values, &[1.0; 41], count).len(), count);
        }
    }

    #[test]
    fn the_first_price_is_near() {
        let (values, weights) = case(2, 2000);
        let mut solver = Solver::default();
        solver.prefix.fill(&values, &weights);
        for count in [16, 64, 256] {
            let price = first_price(&solver.prefix, &values, count);
            solver.penalised.solve(&solver.prefix, price);
            let found = solver.penalised.count(&solver.prefix);
            assert!(found.abs_diff(count) <= count / 8, "{found} for {count}");
        }
    }
}
