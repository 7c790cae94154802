//! The best clusters when each cluster has a price, and how two such solutions are joined.

use crate::lanes::{first_larger, largest, largest_each};
use crate::prefix::{LANES, Prefix};
use crate::widest::widest;

/// A way to cut sorted values into clusters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cuts {
    /// Ends of the clusters, ascending; the last one is the number of values.
    pub(crate) ends: Vec<usize>,
    /// The sum of the gains.
    pub(crate) gain: f64,
}

impl Cuts {
    /// Sums up the gains of the clusters.
    pub(crate) fn weigh(&mut self, prefix: &Prefix) {
        let mut start = 0;
        self.gain = 0.0;
        for &end in &self.ends {
            self.gain += prefix.gain(start, end);
            start = end;
        }
    }

    /// Number of clusters.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Where cluster `index` begins, which may be one past the last one.
    pub(crate) fn node(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// Room for [`Penalised::solve`], to be used again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Penalised {
    /// The largest gain less price over the first `i` values.
    best: Vec<f64>,
    /// Where the last cluster of that solution begins.
    parent: Vec<u32>,
    /// Ends between two solved ones, with the first and the last beginning that they can have.
    spans: Vec<Span>,
}

/// The ends `low..high`, whose last cluster begins in `first..=last`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Penalised {
    /// The clusters with the largest gain when each costs `price`, and the gain less price.
    ///
    /// The squared error of a cluster fulfils the quadrangle inequality, so that of two beginnings
    /// of the last cluster the later one is better from some end on and stays so. Hence the best
    /// beginning does not decrease with the end, and a block of ends whose beginnings all lie before
    /// the block is solved by halving. That they do is assumed, and then seen: a beginning inside
    /// the block that is no better at the block's end is no better at the ends before it. All loops
    /// are over neighbouring candidates, which vector instructions suit: of the classical queue
    /// for such recurrences (Galil and Giancarlo 1989) most of the time goes into branches that no
    /// processor foresees.
    pub(crate) fn solve(&mut self, prefix: &Prefix, price: f64) -> f64 {
        widest(
            #[inline(always)]
            || self.blocks(prefix, price),
        )
    }

    #[inline(always)]
    fn blocks(&mut self, prefix: &Prefix, price: f64) -> f64 {
        let count = prefix.len();
        self.best.clear();
        self.best.resize(count + 1 + LANES, 0.0);
        self.parent.clear();
        self.parent.resize(count + 1, 0);
        let (mut known, mut first, mut size) = (0, 0, LANES);
        while known < count {
            let end = (known + size).min(count);
            self.block(prefix, price, Span { low: known + 1, high: end + 1, first, last: known });
            known = first_larger(prefix, &self.best, (known + 1, end), self.best[end] + price);
            first = self.parent[known] as usize;
            // Clusters are about as large as the one before.
            let half = (known - first) / 2;
            size = if known == end { (2 * size).min(half) } else { size / 2 };
            size = match size {
                LANES.. => size - size % LANES,
                _ => half.clamp(2, LANES),
            };
        }
        self.best[count]
    }

    /// Solves the ends of a span, all of which lie behind the beginnings.
    #[inline(always)]
    fn block(&mut self, prefix: &Prefix, price: f64, block: Span) {
        self.spans.clear();
        self.spans.push(block);
        // The last end shows how far beginnings go, which the halves profit from.
        let mut whole = true;
        while let Some(Span { low, high, first, last }) = self.spans.pop() {
            if low >= high {
                continue;
            }
            if high - low <= LANES && (!whole || last - first < 8 * LANES) {
                let (starts, sums) =
                    largest_each::<true>(prefix, &self.best, 0, (first, last), low);
                for (end, (start, sum)) in (low..high).zip(starts.into_iter().zip(sums)) {
                    self.best[end] = sum - price;
                    self.parent[end] = start as u32;
                }
                continue;
            }
            let end = if whole { high - 1 } else { low + (high - low) / 2 / LANES * LANES };
            whole = false;
            let (start, sum) = largest(prefix, &self.best, 0, (first, last), end);
            self.best[end] = sum - price;
            self.parent[end] = start as u32;
            self.spans.push(Span { low, high: end, first, last: start });
            self.spans.push(Span { low: end + 1, high, first: start, last });
        }
    }

    /// The clusters of the last call of [`Self::solve`].
    pub(crate) fn read(&self, prefix: &Prefix, cuts: &mut Cuts) {
        cuts.ends.clear();
        let mut end = prefix.len();
        while end > 0 {
            cuts.ends.push(end);
            end = self.parent[end] as usize;
        }
        cuts.ends.reverse();
        cuts.weigh(prefix);
    }

    /// The number of clusters of the last call of [`Self::solve`].
    pub(crate) fn count(&self, prefix: &Prefix) -> usize {
        let (mut count, mut end) = (0, prefix.len());
        while end > 0 {
            count += 1;
            end = self.parent[end] as usize;
        }
        count
    }
}

/// Joins two solutions that are the best for the same price, with fewer and with more clusters than
/// `count`, to one with `count` clusters, which is then the best for this price too.
///
/// Between them there is always a cluster of `few` that holds one of `many`, with `count -
/// few.count()` more clusters before it; there one changes over from `many` to `few`. By the
/// quadrangle inequality this and the opposite change lose nothing together, and neither can win
/// (Aggarwal, Schieber and Tokuyama 1994).
pub(crate) fn splice(
    prefix: &Prefix,
    few: &Cuts,
    many: &Cuts,
    count: usize,
    cuts: &mut Cuts,
) -> Option<()> {
    let more = count.checked_sub(few.count())?;
    if many.count() < count {
        return None;
    }
    let at = (0..few.count()).find(|index| many.node(index + 1 + more) <= few.node(index + 1))?;
    cuts.ends.clear();
    cuts.ends.extend_from_slice(&many.ends[..at + more]);
    cuts.ends.extend_from_slice(&few.ends[at..]);
    cuts.weigh(prefix);
    Some(())
}
