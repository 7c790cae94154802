//! Walking the elements of several layouts at once.

use crate::layout::{Factor, Layout};
use smallvec::SmallVec;

/// Loops, each with its size and the stride in each layout.
type Levels<const N: usize> = SmallVec<[(usize, [isize; N]); 4]>;

/// Loops over several layouts of one shape at once, with as few and as long runs as they share.
pub(crate) struct Walk<const N: usize> {
    /// Outer loops first.
    outer: Levels<N>,
    /// Elements of the innermost run.
    pub(crate) run: usize,
    /// Stride of the innermost run in each layout.
    pub(crate) run_strides: [isize; N],
    start: [isize; N],
    empty: bool,
}

impl<const N: usize> Walk<N> {
    /// The joint loops of layouts that have the same element count.
    ///
    /// `None` when the factors of the layouts cross each other unevenly (copy one of them first).
    pub(crate) fn new(layouts: [&Layout; N]) -> Option<Self> {
        let start = layouts.map(|layout| layout.offset() as isize);
        let empty = layouts.iter().any(|layout| layout.shape().contains(&0));
        let mut levels = Levels::new();
        if !empty {
            let mut rest = layouts.map(|layout| layout.factors());
            let mut current: [Option<Factor>; N] = [None; N];
            loop {
                for (slot, factors) in current.iter_mut().zip(rest.iter_mut()) {
                    if slot.is_none()
                        && let Some((last, front)) = factors.split_last()
                    {
                        *slot = Some(*last);
                        *factors = front;
                    }
                }
                let Some(size) = current.iter().flatten().map(|factor| factor.size).min() else {
                    break;
                };
                let mut strides = [0; N];
                for (slot, stride) in current.iter_mut().zip(&mut strides) {
                    let factor = (*slot)?;
                    if factor.size % size != 0 {
                        return None;
                    }
                    *stride = factor.stride;
                    let left = factor.size / size;
                    *slot = (left > 1)
                        .then(|| Factor { size: left, stride: factor.stride * size as isize });
                }
                match levels.last_mut() {
                    Some((inner, inner_strides))
                        if (0..N).all(|i| strides[i] == inner_strides[i] * *inner as isize) =>
                    {
                        *inner *= size;
                    }
                    _ => levels.push((size, strides)),
                }
            }
        }
        let (run, run_strides) = if levels.is_empty() { (1, [1; N]) } else { levels.remove(0) };
        levels.reverse();
        Some(Self { outer: levels, run, run_strides, start, empty })
    }

    /// The loops reordered so that layout `lead` is walked in the order of its memory. For work
    /// whose order does not matter.
    pub(crate) fn in_memory_order(self, lead: usize) -> Self {
        let mut levels = self.outer;
        levels.push((self.run, self.run_strides));
        levels.retain(|(size, _)| *size != 1);
        levels.sort_by_key(|(_, strides)| std::cmp::Reverse(strides[lead].unsigned_abs()));
        let mut merged = Levels::new();
        for (size, strides) in levels {
            match merged.last_mut() {
                Some((outer, outer_strides))
                    if (0..N).all(|i| outer_strides[i] == strides[i] * size as isize) =>
                {
                    *outer *= size;
                    *outer_strides = strides;
                }
                _ => merged.push((size, strides)),
            }
        }
        let (run, run_strides) = merged.pop().unwrap_or((1, [1; N]));
        Self { outer: merged, run, run_strides, start: self.start, empty: self.empty }
    }

    /// The start offsets of every element in each layout, in the order of the walk.
    pub(crate) fn starts(&self) -> Vec<[usize; N]> {
        let mut all = Vec::new();
        self.for_each(|starts| {
            for i in 0..self.run as isize {
                let mut moved = starts;
                for layout in 0..N {
                    let offset = self.run_strides[layout] * i;
                    moved[layout] = (starts[layout] as isize + offset) as usize;
                }
                all.push(moved);
            }
        });
        all
    }

    /// Calls `visit` with start offsets and length of each piece of a run that lies in the range
    /// `first..end` of all elements, counted in the order of the walk.
    pub(crate) fn for_elements(
        &self,
        first: usize,
        end: usize,
        mut visit: impl FnMut([usize; N], usize),
    ) {
        if first >= end || self.empty {
            return;
        }
        let run = self.run;
        let mut position = first;
        self.for_range(first / run, end.div_ceil(run), |starts| {
            let skip = position % run;
            let length = (run - skip).min(end - position);
            let mut moved = starts;
            for i in 0..N {
                moved[i] = (starts[i] as isize + self.run_strides[i] * skip as isize) as usize;
            }
            visit(moved, length);
            position += length;
        });
    }

    /// Number of runs.
    pub(crate) fn runs(&self) -> usize {
        if self.empty { 0 } else { self.outer.iter().map(|(size, _)| size).product() }
    }

    /// Calls `visit` with the start offset of every run in each layout, in row-major order.
    pub(crate) fn for_each(&self, mut visit: impl FnMut([usize; N])) {
        self.for_range(0, self.runs(), &mut visit);
    }

    /// As [`Walk::for_each`], for the runs `first..end` only.
    pub(crate) fn for_range(&self, first: usize, end: usize, mut visit: impl FnMut([usize; N])) {
        if first >= end {
            return;
        }
        let mut index: SmallVec<[usize; 4]> = SmallVec::from_elem(0, self.outer.len());
        let mut position = self.start;
        let mut left = first;
        for (level, (size, strides)) in self.outer.iter().enumerate().rev() {
            index[level] = left % size;
            left /= size;
            for i in 0..N {
                position[i] += strides[i] * index[level] as isize;
            }
        }
        for _ in first..end {
            visit(position.map(|offset| offset as usize));
            for (level, (size, strides)) in self.outer.iter().enumerate().rev() {
                index[level] += 1;
                for i in 0..N {
                    position[i] += strides[i];
                }
                if index[level] < *size {
                    break;
                }
                index[level] = 0;
                for i in 0..N {
                    position[i] -= strides[i] * *size as isize;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_order_makes_a_transposed_pair_one_run() {
        let Some(turned) = Layout::contiguous(&[3, 5]).permuted(&[1, 0]) else { panic!("dense") };
        let scalar = Layout::strided(&[5, 3], &[0, 0], 7);
        let Some(walk) = Walk::new([&turned, &turned, &scalar]) else { panic!("equal shapes") };
        assert!(walk.runs() > 1);
        let walk = walk.in_memory_order(0);
        assert_eq!((walk.runs(), walk.run, walk.run_strides), (1, 15, [1, 1, 0]));
    }

    #[test]
    fn ranges_of_runs_cover_all() {
        let layout = Layout::strided(&[3, 4, 2], &[100, 10, 1], 5);
        let Some(walk) = Walk::new([&layout]) else { panic!("one layout always walks") };
        let mut whole = Vec::new();
        walk.for_each(|[start]| whole.push(start));
        let mut parts = Vec::new();
        for (first, end) in [(0, 5), (5, 6), (6, 12)] {
            walk.for_range(first, end, |[start]| parts.push(start));
        }
        assert_eq!(whole, parts);
        assert_eq!(whole.len(), 12);
        let layout_starts: Vec<usize> = walk.starts().iter().map(|[start]| *start).collect();
        let mut pieces = Vec::new();
        for (first, end) in [(0, 3), (3, 4), (4, 24)] {
            walk.for_elements(first, end, |[start], length| {
                pieces.extend(start..start + length);
            });
        }
        assert_eq!(pieces, layout_starts);
    }
}
