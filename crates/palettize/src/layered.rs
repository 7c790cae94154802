//! The best clusters by dynamic programming, one layer per cluster: slower, and free of any search
//! for a price.

use crate::penalised::Cuts;
use crate::prefix::Prefix;

/// The best `count` clusters of at least `count` values, in O(count m log m).
///
/// The best beginning of the last cluster does not decrease with its end, so that each layer is
/// solved by halving.
pub(crate) fn solve(prefix: &Prefix, count: usize) -> Cuts {
    let values = prefix.len();
    let mut best: Vec<f64> = (0..=values).map(|end| prefix.gain(0, end)).collect();
    let mut next = vec![0.0; values + 1];
    let mut parents = vec![vec![0_u32; values + 1]; count];
    for (layer, parents) in parents.iter_mut().enumerate().skip(1) {
        // `layer` clusters take at least as many values.
        let mut spans = vec![(layer + 1, values, layer, values - 1)];
        while let Some((low, high, first, last)) = spans.pop() {
            if low > high {
                continue;
            }
            let end = usize::midpoint(low, high);
            let (mut start, mut gain) = (first, f64::NEG_INFINITY);
            let candidates = best[..end].iter().enumerate().take(last + 1).skip(first);
            for (candidate, before) in candidates {
                let total = before + prefix.gain(candidate, end);
                if total > gain {
                    (start, gain) = (candidate, total);
                }
            }
            next[end] = gain;
            parents[end] = start as u32;
            spans.push((low, end - 1, first, start));
            spans.push((end + 1, high, start, last));
        }
        std::mem::swap(&mut best, &mut next);
    }
    let mut ends = Vec::with_capacity(count);
    let mut end = values;
    for layer in (0..count).rev() {
        ends.push(end);
        end = parents[layer][end] as usize;
    }
    ends.reverse();
    Cuts::new(prefix, ends)
}
