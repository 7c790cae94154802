//! The search for the price with which a number of clusters is the best one.

use crate::layered::Layered;
use crate::penalised::{Cuts, Penalised, splice};
use crate::prefix::Prefix;

/// Steps of the search for the price that follow the curve of counts; then come chords.
const CURVE_STEPS: usize = 8;
/// Numbers of clusters that are so near that chords are tried at once.
const NEAR: usize = 4;
/// Steps after which the search is given up for the slower method.
const STEPS: usize = 100;

/// Values of a cluster up to which the windows of the layered method are faster than a second price.
const SMALL_CLUSTERS: usize = 16;

/// A search, with room that is used again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    penalised: Penalised,
    layered: Layered,
    few: Priced,
    many: Priced,
    /// What was found.
    pub(crate) found: Cuts,
}

/// A solution and the price for which it is the best one.
#[derive(Debug, Clone, Default)]
struct Priced {
    price: f64,
    cuts: Cuts,
    /// Whether there is one.
    known: bool,
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

impl Search {
    /// Finds the best `count` clusters, of more values than that, beginning with `price`.
    pub(crate) fn solve(&mut self, prefix: &Prefix, price: f64, count: usize) {
        if self.by_price(prefix, price, count).is_none() {
            self.layered.solve(prefix, count, &mut self.found);
        }
    }

    /// The middle of the prices with which as many clusters as were found are the best ones.
    pub(crate) fn middle_price(&mut self, prefix: &Prefix) -> f64 {
        let count = self.found.count();
        let (few, many) = (&mut self.few.cuts, &mut self.many.cuts);
        self.layered.solve_near(prefix, count - 1, &self.found, few);
        self.layered.solve_near(prefix, count + 1, &self.found, many);
        (many.gain - few.gain) / 2.0
    }

    /// As [`Self::solve`] without the slower method; none where no price leads there. Where several
    /// numbers of clusters are equally good, two solutions are joined.
    pub(crate) fn by_price(&mut self, prefix: &Prefix, price: f64, count: usize) -> Option<()> {
        let target = (count as f64).ln();
        (self.few.known, self.many.known) = (false, false);
        let mut last: Option<(f64, f64)> = None;
        let mut slope = -1.0 / 3.0;
        let mut before = 0.0_f64;
        let mut on_chord = false;
        let mut price = price;
        for step in 0..STEPS {
            let value = self.penalised.solve(prefix, price);
            let found = self.penalised.count(prefix);
            if found == count {
                self.penalised.read(prefix, &mut self.found);
                return Some(());
            }
            let both = self.few.known && self.many.known;
            if both && on_chord {
                // On a chord no point lies above the line: all numbers of clusters between are
                // equally good.
                let (few, many) = (&self.few.cuts, &self.many.cuts);
                let line = few.gain - price * few.count() as f64;
                let outside = found <= few.count() || found >= many.count();
                let equal = value - line <= 1e-14 * few.gain.abs();
                if outside || equal {
                    return splice(prefix, few, many, count, &mut self.found);
                }
            }
            let side = if found < count { &mut self.few } else { &mut self.many };
            side.price = price;
            side.known = true;
            self.penalised.read(prefix, &mut side.cuts);
            // Windows of few values are faster than another price, which may not be the last one.
            let far = found.abs_diff(count);
            let few_values = prefix.len() <= SMALL_CLUSTERS * count;
            if (far == 1 && (step > 0 || few_values)) || (far == 2 && step > 1) {
                let near = &side.cuts;
                self.layered.solve_near(prefix, count, near, &mut self.found);
                return Some(());
            }
            on_chord = false;
            let (few, many) = (&self.few, &self.many);
            let both = few.known && many.known;
            let near = both && many.cuts.count() - few.cuts.count() <= NEAR;
            price = if both && (near || step + 1 >= CURVE_STEPS) {
                on_chord = true;
                few.chord(many)
            } else {
                let here = (price.ln(), (found as f64).ln());
                if let Some(last) = last
                    && last.1 != here.1
                {
                    slope = ((here.1 - last.1) / (here.0 - last.0)).clamp(-1.0, -0.15);
                }
                last = Some(here);
                let mut stride = (target - here.1) / slope;
                if both {
                    few.inside(many, (here.0 + stride).exp(), target)
                } else {
                    // Where hardly anything is left to merge, counts say little about how far it is.
                    if step >= 2 {
                        stride = stride.signum() * stride.abs().max(2.0 * before.abs());
                    }
                    before = stride;
                    (here.0 + stride).exp()
                }
            };
            if !(price.is_finite() && price > 0.0) {
                return None;
            }
        }
        None
    }
}
