//! What the tests compare with.

#![allow(dead_code, reason = "not every test uses everything")]

use std::ops::Range;

/// xorshift64*, so that every run has the same cases.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal, with heavier tails.
    pub(crate) fn bell(&mut self) -> f64 {
        let sum: f64 = (0..6).map(|_| self.unit() - 0.5).sum();
        sum * (1.0 + 3.0 * self.unit().powi(4))
    }
}

/// The squared error of one cluster, around its mean.
pub(crate) fn squared_error(values: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let first = values[0];
    let mean: f64 =
        values.iter().zip(weights).map(|(value, weight)| weight * (value - first)).sum::<f64>()
            / total;
    values.iter().zip(weights).map(|(value, weight)| weight * (value - first - mean).powi(2)).sum()
}

/// The squared error of clusters.
pub(crate) fn total_error(values: &[f64], weights: &[f64], clusters: &[Range<usize>]) -> f64 {
    clusters
        .iter()
        .map(|range| squared_error(&values[range.clone()], &weights[range.clone()]))
        .sum()
}

/// The least squared error of exactly `count` clusters, by trying every beginning of every last
/// cluster.
pub(crate) fn brute_force(values: &[f64], weights: &[f64], count: usize) -> f64 {
    let size = values.len();
    let mut cost = vec![vec![0.0; size + 1]; size];
    for start in 0..size {
        for end in start + 1..=size {
            cost[start][end] = squared_error(&values[start..end], &weights[start..end]);
        }
    }
    let mut best: Vec<f64> =
        (0..=size).map(|end| if end == 0 { 0.0 } else { cost[0][end] }).collect();
    for layer in 1..count.min(size) {
        best = (0..=size)
            .map(|end| {
                (layer..end)
                    .map(|start| best[start] + cost[start][end])
                    .fold(f64::INFINITY, f64::min)
            })
            .collect();
    }
    best[size]
}
