//! Prefix sums of weights and moments, from which the cost of every cluster follows.

use crate::lanes::{LANES, gain};

/// Prefix sums over sorted values.
///
/// With the sum of weights `W` and of weighted values `S` of a cluster, its squared error is
/// `sum(w x^2) - S^2 / W`. The first term is the same for all ways to cluster, so that the *gain*
/// `S^2 / W` is what is made as large as possible.
///
/// Values are taken relative to the one next to their mean, and both values and weights are scaled by powers of
/// two to at most one, so that nothing overflows. For 16-bit floats with counts as weights the sums
/// are exact, except for groups with a sum of values near 2^29.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prefix {
    /// `W` over the first `i` values, and the last one some times more. Apart from the moments, so
    /// that loops over neighbours can use vector instructions.
    weights: Vec<f64>,
    /// `S` over the first `i` values.
    moments: Vec<f64>,
    /// What halves of values are multiplied by.
    scale: f64,
}

impl Prefix {
    /// Sums over `values` (finite, ascending) with `weights` (finite, above zero).
    pub(crate) fn fill(&mut self, values: &[f64], weights: &[f64]) {
        let largest = |numbers: &[f64]| numbers.iter().fold(0.0_f64, |most, it| most.max(it.abs()));
        let weight_scale = inverse_power(largest(weights));
        // Halves keep the difference of the ends finite.
        let origin = nearest_to_mean(values, weights, weight_scale) / 2.0;
        let reach = match (values.first(), values.last()) {
            (Some(first), Some(last)) => (last / 2.0 - origin).max(origin - first / 2.0),
            _ => 0.0,
        };
        let scale = inverse_power(reach);
        self.scale = scale;
        self.weights.clear();
        self.weights.reserve(values.len() + 1 + LANES);
        self.moments.clear();
        self.moments.reserve(values.len() + 1 + LANES);
        let (mut weight_sum, mut moment) = (0.0, 0.0);
        self.weights.push(0.0);
        self.moments.push(0.0);
        for (value, weight) in values.iter().zip(weights) {
            let weight = weight * weight_scale;
            let value = (value / 2.0 - origin) * scale;
            weight_sum += weight;
            moment += weight * value;
            self.weights.push(weight_sum);
            self.moments.push(moment);
        }
        self.extend();
    }

    /// Repeats the last sums, for loops that look at several.
    fn extend(&mut self) {
        for sums in [&mut self.weights, &mut self.moments] {
            let last = sums.last().copied().unwrap_or_default();
            sums.extend([last; LANES]);
        }
    }

    /// Those of `whole` at `places`, which are ascending, the first zero and the last its length: the
    /// clusters that begin and end there.
    pub(crate) fn take(&mut self, whole: &Self, places: &[u32]) {
        self.weights.clear();
        self.weights.extend(places.iter().map(|place| whole.weights[*place as usize]));
        self.moments.clear();
        self.moments.extend(places.iter().map(|place| whole.moments[*place as usize]));
        self.scale = whole.scale;
        self.extend();
    }

    /// The distance of two values in the scale of the sums.
    pub(crate) fn scaled(&self, to: f64, from: f64) -> f64 {
        (to / 2.0 - from / 2.0) * self.scale
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.weights.len().saturating_sub(LANES + 1)
    }

    /// `W` and `S` at `start` and the places behind it.
    #[inline(always)]
    pub(crate) fn lanes(&self, start: usize) -> (&[f64; LANES], &[f64; LANES]) {
        let zeros = &[0.0; LANES];
        let weights = self.weights[start..].first_chunk();
        let moments = self.moments[start..].first_chunk();
        (weights.unwrap_or(zeros), moments.unwrap_or(zeros))
    }

    /// `[W, S]` of the first `end` values.
    #[inline(always)]
    pub(crate) fn until(&self, end: usize) -> [f64; 2] {
        [self.weights[end], self.moments[end]]
    }

    /// `W` of the values `start..end`.
    #[inline]
    pub(crate) fn weight(&self, start: usize, end: usize) -> f64 {
        self.weights[end] - self.weights[start]
    }

    /// What one cluster of `start..end` gains.
    #[inline(always)]
    pub(crate) fn gain(&self, start: usize, end: usize) -> f64 {
        gain(self.until(end), self.until(start))
    }
}

/// The value next to the weighted mean: around it, the squares of all values sum to no more than
/// twice what they sum to around the mean, so that little is lost by rounding.
fn nearest_to_mean(values: &[f64], weights: &[f64], weight_scale: f64) -> f64 {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return 0.0 };
    let scale = inverse_power(first.abs().max(last.abs()));
    let (mut moment, mut total) = (0.0, 0.0);
    for (value, weight) in values.iter().zip(weights) {
        moment += weight * weight_scale * (value * scale);
        total += weight * weight_scale;
    }
    let mean = moment / total;
    let after = values.partition_point(|value| value * scale < mean).min(values.len() - 1);
    let before = after.saturating_sub(1);
    let distance = |index: usize| (values[index] * scale - mean).abs();
    if distance(before) < distance(after) { values[before] } else { values[after] }
}

/// The power of two that brings `size` to one half or more, and to less than one; within what a
/// float can be.
fn inverse_power(size: f64) -> f64 {
    if size <= 0.0 {
        return 1.0;
    }
    let exponent = size.log2().floor().clamp(-1000.0, 1000.0);
    (-exponent - 1.0).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_are_differences_of_squared_errors() {
        let mut prefix = Prefix::default();
        prefix.fill(&[1.0, 2.0, 4.0, 8.0], &[1.0, 3.0, 1.0, 1.0]);
        // Scaled by 1/8 (a half of it for the halves) and 1/4: one cluster has W = 6, S = 19 - 24.
        let scale = 1.0 / 4.0 * (1.0 / 8.0_f64).powi(2);
        assert_eq!(prefix.len(), 4);
        assert!((prefix.gain(0, 4) - 25.0 / 6.0 * scale).abs() < 1e-15);
        let apart = prefix.gain(0, 2) + prefix.gain(2, 4);
        // Around 4: {-3, -2 x 3} and {0, 4}.
        assert!((apart - (81.0 / 4.0 + 16.0 / 2.0) * scale).abs() < 1e-15);
    }

    #[test]
    fn extremes_stay_finite() {
        let mut prefix = Prefix::default();
        prefix.fill(&[f64::MIN, 0.0, f64::MAX], &[f64::MIN_POSITIVE, 1.0, f64::MAX]);
        for end in 1..=3 {
            assert!((0..end).all(|start| prefix.gain(start, end).is_finite()));
        }
    }
}
