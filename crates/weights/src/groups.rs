//! Which group of elements (with its own lookup table or scale) an element belongs to.

/// A tensor whose axes are cut into equal groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Groups {
    shape: Vec<usize>,
    counts: Vec<usize>,
    /// Number of neighbours in row-major order that share a group; runs start at its multiples.
    run: usize,
}

impl Groups {
    /// Cuts axis `i` of `shape` into `counts[i]` groups. `None` where a count does not divide its
    /// axis, or where the lengths differ.
    pub(crate) fn new(shape: &[usize], counts: &[usize]) -> Option<Self> {
        let fits = shape.len() == counts.len()
            && shape.iter().zip(counts).all(|(size, count)| *count > 0 && size % count == 0);
        // Trailing axes with one group each form runs of elements that share a group.
        let grouped = counts.iter().rposition(|count| *count > 1);
        let run = match grouped {
            _ if !fits => return None,
            Some(axis) => product(&shape[axis + 1..])?.checked_mul(shape[axis] / counts[axis])?,
            None => product(shape)?,
        };
        product(counts)?;
        Some(Self { shape: shape.to_vec(), counts: counts.to_vec(), run: run.max(1) })
    }

    /// Number of groups.
    pub(crate) fn count(&self) -> usize {
        self.counts.iter().product()
    }

    /// The number of neighbours that share a group, where these are all of its elements: group `i` has
    /// those from number `i` times this on.
    pub(crate) fn whole_runs(&self) -> Option<usize> {
        (self.counts.iter().skip(1).all(|count| *count == 1)).then_some(self.run)
    }

    /// The group of the element at a row-major place, which must be inside the tensor. Groups
    /// count in row-major order, too.
    pub(crate) fn of(&self, mut place: usize) -> usize {
        let (mut group, mut scale) = (0, 1);
        for (size, count) in self.shape.iter().zip(&self.counts).rev() {
            if *size == 0 {
                return 0;
            }
            group += (place % size) / (size / count) * scale;
            place /= size;
            scale *= count;
        }
        group
    }

    /// Calls `visit` with each stretch of `start..end` that lies in one group, and with the group.
    pub(crate) fn for_runs(
        &self,
        start: usize,
        end: usize,
        mut visit: impl FnMut(std::ops::Range<usize>, usize),
    ) {
        let mut from = start;
        while from < end {
            let to = ((from / self.run + 1) * self.run).min(end);
            visit(from..to, self.of(from));
            from = to;
        }
    }
}

fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_along_two_axes() {
        let groups = Groups::new(&[2, 4, 1], &[2, 2, 1]).unwrap();
        let all: Vec<usize> = (0..8).map(|place| groups.of(place)).collect();
        assert_eq!(all, [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!((groups.count(), groups.run), (4, 2));
        let mut runs = Vec::new();
        groups.for_runs(1, 5, |range, group| runs.push((range, group)));
        assert_eq!(groups.whole_runs(), None);
        assert_eq!(Groups::new(&[4, 3], &[2, 1]).unwrap().whole_runs(), Some(6));
        assert_eq!(Groups::new(&[4, 3], &[1, 1]).unwrap().whole_runs(), Some(12));
        assert_eq!(runs, [(1..2, 0), (2..4, 1), (4..5, 2)]);
    }

    #[test]
    fn what_does_not_divide_is_refused() {
        assert_eq!(Groups::new(&[6], &[4]), None);
        assert_eq!(Groups::new(&[6], &[0]), None);
        assert_eq!(Groups::new(&[6], &[1, 1]), None);
        assert_eq!(Groups::new(&[usize::MAX, 2], &[1, 1]), None);
        assert!(Groups::new(&[0, 3], &[1, 1]).is_some());
    }
}
