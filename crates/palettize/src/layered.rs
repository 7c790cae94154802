//! The best clusters by dynamic programming, one layer per cluster: free of any search for a price,
//! and fast where the places of the cuts are known to lie between those of another solution.

use crate::lanes::{largest, largest_each};
use crate::penalised::{Cuts, Span};
use crate::prefix::{LANES, Prefix};
use crate::widest::widest;

/// Room for [`Layered::solve`], to be used again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layered {
    /// The largest gains of the clusters up to the places of a window, for the layer before and this
    /// one.
    before: Vec<f64>,
    here: Vec<f64>,
    /// Where the last cluster begins, window after window.
    parents: Vec<u32>,
    /// The beginning of each layer's window in `parents`.
    offsets: Vec<usize>,
    spans: Vec<Span>,
}

/// The first and the last place where the cut after some clusters can be.
type Window = (usize, usize);

impl Layered {
    /// The best `count` clusters of at least `count` values: O(count m log m).
    pub(crate) fn solve(&mut self, prefix: &Prefix, count: usize, cuts: &mut Cuts) {
        let values = prefix.len();
        // So many clusters take at least as many values.
        let window = |layer: usize| (layer, values - (count - layer));
        widest(
            #[inline(always)]
            || self.layers(prefix, count, window),
        );
        self.read(prefix, count, window, cuts);
    }

    /// The best `count` clusters, where `near` are the best ones of another number.
    ///
    /// Of two best solutions with different numbers of clusters, the cuts of one lie between those
    /// of the other: where the one with more clusters had a cut behind that of the same number of
    /// the other, the two could change over before and after it without loss, by the quadrangle
    /// inequality, and so from the end (Aggarwal, Schieber and Tokuyama 1994). So each cut has a
    /// window of as many clusters of `near` as the numbers differ.
    pub(crate) fn solve_near(
        &mut self,
        prefix: &Prefix,
        count: usize,
        near: &Cuts,
        cuts: &mut Cuts,
    ) {
        let (values, has) = (prefix.len(), near.count());
        let node = |index: usize| near.node(index.min(has));
        let window = |layer: usize| {
            let (low, high) = if has < count {
                (node((layer + has).saturating_sub(count)), node(layer))
            } else {
                (node(layer), node(layer + has - count))
            };
            match layer {
                0 => (0, 0),
                _ if layer == count => (values, values),
                _ => (low.max(layer), high.min(values - (count - layer))),
            }
        };
        widest(
            #[inline(always)]
            || self.layers(prefix, count, window),
        );
        self.read(prefix, count, window, cuts);
    }

    #[inline(always)]
    fn layers(&mut self, prefix: &Prefix, count: usize, window: impl Fn(usize) -> Window) {
        self.before.clear();
        self.before.resize(1 + LANES, 0.0);
        self.parents.clear();
        self.offsets.clear();
        self.offsets.push(0);
        let mut from = 0;
        for layer in 1..=count {
            let (low, high) = window(layer);
            let last = from + self.before.len() - 1 - LANES;
            let offset = self.parents.len();
            self.offsets.push(offset);
            self.parents.resize(offset + high + 1 - low, 0);
            self.here.clear();
            self.here.resize(high + 1 - low + LANES, 0.0);
            self.spans.clear();
            self.spans.push(Span { low, high: high + 1, first: from, last });
            // The best beginning of the last cluster does not decrease with its end.
            while let Some(Span { low: start, high: stop, first, last }) = self.spans.pop() {
                if start >= stop {
                    continue;
                }
                // The first end is behind one beginning at the least.
                let last = last.min(stop - 2);
                if stop - start <= LANES {
                    let (starts, sums) =
                        largest_each::<false>(prefix, &self.before, from, (first, last), start);
                    for (end, (start, sum)) in (start..stop).zip(starts.into_iter().zip(sums)) {
                        self.here[end - low] = sum;
                        self.parents[offset + end - low] = start as u32;
                    }
                    continue;
                }
                let end = start + (stop - start) / 2 / LANES * LANES;
                let within = (first, last.min(end - 1));
                let (place, sum) = largest(prefix, &self.before, from, within, end);
                self.here[end - low] = sum;
                self.parents[offset + end - low] = place as u32;
                self.spans.push(Span { low: start, high: end, first, last: place });
                self.spans.push(Span { low: end + 1, high: stop, first: place, last });
            }
            std::mem::swap(&mut self.before, &mut self.here);
            from = low;
        }
    }

    fn read(
        &self,
        prefix: &Prefix,
        count: usize,
        window: impl Fn(usize) -> Window,
        cuts: &mut Cuts,
    ) {
        cuts.ends.clear();
        let mut end = prefix.len();
        for layer in (1..=count).rev() {
            cuts.ends.push(end);
            end = self.parents[self.offsets[layer] + end - window(layer).0] as usize;
        }
        cuts.ends.reverse();
        cuts.weigh(prefix);
    }
}
