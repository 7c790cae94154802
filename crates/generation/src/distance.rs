//! How far the distributions of a conversion are from those of a reference, token by token.

use crate::evaluation::{argmax, logsumexp, measure};
use serde::Serialize;

/// Places of a list in which the reference's winner is looked for.
const PLACES: usize = 5;

/// What was found at one scored token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TokenDistance {
    /// Its position in the window, from 0.
    pub position: u64,
    /// Kullback-Leibler divergence from the reference's distribution, in nats; NaN where logits are no
    /// numbers.
    pub kl: f64,
    /// Whether both have the same winner; a tie in the reference, up to 0.01, counts as the same.
    pub top1: bool,
    /// Whether the reference's winner is among the conversion's five most likely tokens.
    pub top5: bool,
}

impl TokenDistance {
    /// Compares the logits of a conversion with as many of the reference.
    pub fn of(position: u64, ours: &[f32], reference: &[f32]) -> Self {
        let indices = 0..reference.len() as u32;
        let found = measure(position as usize, ours, indices, reference, logsumexp(reference));
        let top1 = found.top1 || found.tie;
        let top5 = top1 || (!found.kl.is_nan() && is_among(ours, argmax(reference)));
        Self { position, kl: found.kl, top1, top5 }
    }
}

/// Whether fewer than five logits are larger than this one.
fn is_among(logits: &[f32], token: usize) -> bool {
    let Some(value) = logits.get(token) else { return false };
    logits.iter().filter(|other| *other > value).take(PLACES).count() < PLACES
}

/// What is said of many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Mean Kullback-Leibler divergence from the reference's distributions, in nats.
    pub kl_mean: f64,
    /// What the divergence of 99 % of the tokens stays below, in nats.
    pub kl_p99: f64,
    /// Share of tokens for which both have the same winner; a tie in the reference, up to 0.01,
    /// counts as the same.
    pub top1_agreement: f64,
    /// Share of tokens for which the reference's winner is among the conversion's five most likely.
    pub top5_agreement: f64,
}

impl Summary {
    /// Of all these tokens; NaN of none, and where one has no divergence.
    pub fn of(tokens: &[TokenDistance]) -> Self {
        let count = tokens.len() as f64;
        let share = |agrees: fn(&TokenDistance) -> bool| {
            tokens.iter().filter(|token| agrees(token)).count() as f64 / count
        };
        let kl: Vec<f64> = tokens.iter().map(|token| token.kl).collect();
        Self {
            kl_mean: kl.iter().sum::<f64>() / count,
            kl_p99: percentile(&kl, 0.99),
            top1_agreement: share(|token| token.top1),
            top5_agreement: share(|token| token.top5),
        }
    }
}

/// The value below which a share of the values lies, between two values by how near it is to each
/// (as numpy does it by default). NaN of none, and where one is no number.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (place as usize, place.fract());
    let above = (below + 1).min(last);
    sorted[below] + part * (sorted[above] - sorted[below])
}

/// The divergence in a run of positions, over all windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Span {
    /// First position.
    pub first: u64,
    /// Position after the last.
    pub end: u64,
    /// Tokens.
    pub tokens: u64,
    /// Mean divergence in nats; NaN where one is no number.
    pub mean: f64,
    /// What 90 % of the tokens stay below, in nats.
    pub p90: f64,
}

/// The divergence by position in at most `count` runs of equal length; runs without a token are left
/// out.
pub fn by_position(tokens: &[TokenDistance], count: u64) -> Vec<Span> {
    let Some(last) = tokens.iter().map(|token| token.position).max() else { return Vec::new() };
    let length = (last + 1).div_ceil(count.max(1)).max(1);
    let mut runs: Vec<Vec<f64>> = vec![Vec::new(); (last / length + 1) as usize];
    for token in tokens {
        runs[(token.position / length) as usize].push(token.kl);
    }
    let spans = (0..).zip(&runs).filter(|(_, run)| !run.is_empty()).map(|(at, run)| Span {
        first: at * length,
        end: ((at + 1) * length).min(last + 1),
        tokens: run.len() as u64,
        mean: run.iter().sum::<f64>() / run.len() as f64,
        p90: percentile(run, 0.9),
    });
    spans.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy.percentile([3, 1, 2, 10], [0, 50, 90, 99, 100])
        let values = [3.0, 1.0, 2.0, 10.0];
        for (share, expected) in [(0.0, 1.0), (0.5, 2.5), (0.9, 7.9), (0.99, 9.79), (1.0, 10.0)] {
            assert!((percentile(&values, share) - expected).abs() < 1e-12, "{share}");
        }
        assert_eq!(percentile(&[4.0], 0.99), 4.0);
        assert!(percentile(&[], 0.5).is_nan() && percentile(&[1.0, f64::NAN], 0.0).is_nan());
    }

    #[test]
    fn the_winner_is_looked_for_in_five_places() {
        let reference = [9.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let found = |ours: [f32; 6]| TokenDistance::of(3, &ours, &reference);
        let same = found([9.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(same.top1 && same.top5 && same.kl > 0.0 && same.position == 3);
        let fifth = found([1.0, 0.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(!fifth.top1 && fifth.top5);
        let sixth = found([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(!sixth.top1 && !sixth.top5);
        let broken = found([f32::NAN, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(!broken.top1 && !broken.top5 && broken.kl.is_nan());
        let all = Summary::of(&[same, fifth, sixth, sixth]);
        assert_eq!((all.top1_agreement, all.top5_agreement), (0.25, 0.5));
        assert!((all.kl_mean * 4.0 - same.kl - fifth.kl - 2.0 * sixth.kl).abs() < 1e-12);
        assert!(Summary::of(&[same, broken]).kl_p99.is_nan());
    }

    #[test]
    fn runs_of_positions_cover_all() {
        let token = |position, kl| TokenDistance { position, kl, top1: true, top5: true };
        let tokens: Vec<_> =
            (0..10).flat_map(|at| [token(at, at as f64), token(at, 0.0)]).collect();
        let spans = by_position(&tokens, 4);
        let bounds: Vec<_> = spans.iter().map(|span| (span.first, span.end, span.tokens)).collect();
        assert_eq!(bounds, [(0, 3, 6), (3, 6, 6), (6, 9, 6), (9, 10, 2)]);
        assert_eq!((spans[3].mean, spans[3].p90), (4.5, 8.1));
        assert!(by_position(&[], 4).is_empty());
        assert_eq!(by_position(&[token(0, 1.0), token(9, 1.0)], 10).len(), 2);
    }
}
