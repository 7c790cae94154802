//! Prefix sums of weights and moments, from which the cost of every cluster follows.

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
    /// `[W, S]` over the first `i` values.
    sums: Vec<[f64; 2]>,
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
        let reach =
            values.iter().fold(0.0_f64, |reach, value| reach.max((value / 2.0 - origin).abs()));
        let scale = inverse_power(reach);
        self.scale = scale;
        self.sums.clear();
        self.sums.reserve(values.len() + 1);
        let (mut weight_sum, mut moment) = (0.0, 0.0);
        self.sums.push([0.0, 0.0]);
        for (value, weight) in values.iter().zip(weights) {
            let weight = weight * weight_scale;
            weight_sum += weight;
            moment += weight * ((value / 2.0 - origin) * scale);
            self.sums.push([weight_sum, moment]);
        }
    }

    /// The distance of two values in the scale of the sums.
    pub(crate) fn scaled(&self, to: f64, from: f64) -> f64 {
        (to / 2.0 - from / 2.0) * self.scale
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.sums.len().saturating_sub(1)
    }

    /// `[W, S]` of the values `start..end`.
    #[inline]
    pub(crate) fn between(&self, start: usize, end: usize) -> [f64; 2] {
        let (from, to) = (self.sums[start], self.sums[end]);
        [to[0] - from[0], to[1] - from[1]]
    }

    /// What one cluster of `start..end` gains.
    #[inline]
    pub(crate) fn gain(&self, start: usize, end: usize) -> f64 {
        let [weight, moment] = self.between(start, end);
        // Weights that are lost beside much larger ones gain nothing.
        if weight > 0.0 { moment * moment / weight } else { 0.0 }
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
