//! The best clusters when each cluster has a price, and how two such solutions are joined.

use crate::prefix::Prefix;

/// A way to cut sorted values into clusters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cuts {
    /// Ends of the clusters, ascending; the last one is the number of values.
    pub(crate) ends: Vec<usize>,
    /// The sum of the gains.
    pub(crate) gain: f64,
}

impl Cuts {
    /// With the gain of `ends`.
    pub(crate) fn new(prefix: &Prefix, ends: Vec<usize>) -> Self {
        let mut start = 0;
        let mut gain = 0.0;
        for &end in &ends {
            gain += prefix.gain(start, end);
            start = end;
        }
        Self { ends, gain }
    }

    /// Number of clusters.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Where cluster `index` begins, which may be one past the last one.
    fn node(&self, index: usize) -> usize {
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
    /// Beginnings of the last cluster that are yet to be the best ones, each with the first end for
    /// which it is.
    queue: Vec<(u32, u32)>,
}

impl Penalised {
    /// The clusters with the largest gain when each costs `price`, and the gain less price.
    ///
    /// The squared error of a cluster fulfils the quadrangle inequality, so that of two beginnings
    /// of the last cluster the later one is better from some end on and stays so. The queue of
    /// candidates with their first ends is the classical one for such recurrences
    /// (Hirschberg and Larmore 1987, Galil and Giancarlo 1989): O(m log m).
    pub(crate) fn solve(&mut self, prefix: &Prefix, price: f64) -> f64 {
        let count = prefix.len();
        self.best.clear();
        self.best.resize(count + 1, 0.0);
        self.parent.clear();
        self.parent.resize(count + 1, 0);
        self.queue.clear();
        self.queue.push((0, 1));
        let mut head = 0;
        for end in 1..=count {
            while self.queue.get(head + 1).is_some_and(|next| next.1 as usize <= end) {
                head += 1;
            }
            let start = self.queue[head].0 as usize;
            self.best[end] = self.best[start] + prefix.gain(start, end) - price;
            self.parent[end] = start as u32;
            if end < count {
                self.insert(prefix, end, head);
            }
        }
        self.best[count]
    }

    /// Adds the beginning `start` to the queue, whose entries before `head` are past.
    fn insert(&mut self, prefix: &Prefix, start: usize, head: usize) {
        // `start` is known to win at this end, if there is one.
        let mut bound = prefix.len() + 1;
        while let Some(&(other, first)) = self.queue.get(head..).and_then(|rest| rest.last()) {
            let first = (first as usize).max(start + 1);
            if self.later_wins(prefix, other as usize, start, first) {
                self.queue.pop();
                bound = first;
                continue;
            }
            // The later one loses at `low`; steps grow until it wins at `high`.
            let (mut low, mut step) = (first, 1);
            let mut high = loop {
                let next = low + step;
                if next >= bound {
                    break bound;
                }
                if self.later_wins(prefix, other as usize, start, next) {
                    break next;
                }
                low = next;
                step *= 2;
            };
            while high - low > 1 {
                let middle = usize::midpoint(low, high);
                if self.later_wins(prefix, other as usize, start, middle) {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            bound = high;
            break;
        }
        if bound <= prefix.len() {
            self.queue.push((start as u32, bound as u32));
        }
    }

    /// Whether a last cluster `later..end` is better than `earlier..end`. Multiplied out, since
    /// divisions would be most of the time.
    #[inline]
    fn later_wins(&self, prefix: &Prefix, earlier: usize, later: usize, end: usize) -> bool {
        let [weight, moment] = prefix.between(later, end);
        let [other_weight, other_moment] = prefix.between(earlier, end);
        let ahead = self.best[later] - self.best[earlier];
        (ahead * weight + moment * moment) * other_weight > other_moment * other_moment * weight
    }

    /// The clusters of the last call of [`Self::solve`].
    pub(crate) fn cuts(&self, prefix: &Prefix) -> Cuts {
        let mut ends = Vec::new();
        let mut end = prefix.len();
        while end > 0 {
            ends.push(end);
            end = self.parent[end] as usize;
        }
        ends.reverse();
        Cuts::new(prefix, ends)
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
pub(crate) fn splice(prefix: &Prefix, few: &Cuts, many: &Cuts, count: usize) -> Option<Cuts> {
    let more = count.checked_sub(few.count())?;
    if many.count() < count {
        return None;
    }
    let at = (0..few.count()).find(|index| many.node(index + 1 + more) <= few.node(index + 1))?;
    let mut ends = many.ends[..at + more].to_vec();
    ends.extend_from_slice(&few.ends[at..]);
    Some(Cuts::new(prefix, ends))
}
