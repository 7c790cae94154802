//! Where the elements of a value lie in its buffer: views that need no copy.
//!
//! A layout is a logical shape and, apart from it, a list of factors (size, stride). Walking the
//! factors in row-major order visits the elements in row-major order of the shape. So a reshape
//! never copies: it changes the shape only. Operations that name an axis (slice, transpose,
//! broadcast) need the factors cut at the borders of the axes, which [`Layout::axes`] does when
//! the sizes allow it.
//!
//! With few axes it takes no memory of its own: a token passes through a thousand views.

use smallvec::SmallVec;

/// Runs of a layout.
type Factors = SmallVec<[Factor; 4]>;

/// Something for each axis.
pub(crate) type PerAxis<T> = SmallVec<[T; 5]>;

/// Factors of one axis.
type Axis = SmallVec<[Factor; 2]>;

/// A run of `size` elements, `stride` elements apart (0 repeats one element).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Factor {
    pub(crate) size: usize,
    pub(crate) stride: isize,
}

/// Shape and element order of a view into a buffer. Strides and offset count elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    shape: PerAxis<usize>,
    /// No factor of size 1; neighbours that form one run are one factor.
    factors: Factors,
    offset: usize,
}

/// Number of elements of a shape; `None` when that overflows.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))
}

fn push(factors: &mut Factors, factor: Factor) {
    if factor.size == 1 {
        return;
    }
    if let Some(last) = factors.last_mut()
        && last.stride == factor.stride * factor.size as isize
    {
        last.size *= factor.size;
        last.stride = factor.stride;
        return;
    }
    factors.push(factor);
}

impl Layout {
    /// Row-major layout without gaps, from offset 0.
    pub(crate) fn contiguous(shape: &[usize]) -> Self {
        let count = shape.iter().product();
        let mut factors = Factors::new();
        push(&mut factors, Factor { size: count, stride: 1 });
        Self { shape: shape.into(), factors, offset: 0 }
    }

    /// A layout of one stride per axis.
    pub(crate) fn strided(shape: &[usize], strides: &[isize], offset: usize) -> Self {
        if shape.contains(&0) {
            return Self::contiguous(shape);
        }
        let mut factors = Factors::new();
        for (&size, &stride) in shape.iter().zip(strides) {
            push(&mut factors, Factor { size, stride });
        }
        Self { shape: shape.into(), factors, offset }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// The runs, outermost first; none of size 1.
    pub(crate) fn factors(&self) -> &[Factor] {
        &self.factors
    }

    /// Number of elements.
    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// True when the elements lie in row-major order without gaps (at any offset).
    pub(crate) fn is_contiguous(&self) -> bool {
        matches!(self.factors.as_slice(), [] | [Factor { stride: 1, .. }])
            || self.shape.contains(&0)
    }

    /// True when the elements fill a range without gaps or repetitions, in any order of axes.
    pub(crate) fn is_dense(&self) -> bool {
        if self.is_contiguous() {
            return true;
        }
        let mut sorted = self.factors.clone();
        sorted.sort_by_key(|factor| factor.stride);
        let mut expected = 1isize;
        for factor in sorted {
            if factor.stride != expected {
                return false;
            }
            expected = factor.stride * factor.size as isize;
        }
        true
    }

    /// The same order of axes for a buffer that holds just these elements, from offset 0.
    /// Only for dense layouts.
    pub(crate) fn at_zero(&self) -> Self {
        Self { offset: 0, ..self.clone() }
    }

    /// The same elements under another shape of equal count.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Self {
        if shape.contains(&0) {
            return Self::contiguous(shape);
        }
        Self { shape: shape.into(), factors: self.factors.clone(), offset: self.offset }
    }

    /// The factors of each axis, or `None` when a factor crosses the border of an axis unevenly.
    pub(crate) fn axes(&self) -> Option<PerAxis<Axis>> {
        if self.shape.contains(&0) {
            let one = |&size: &usize| Axis::from_slice(&[Factor { size, stride: 1 }]);
            return Some(self.shape.iter().map(one).collect());
        }
        let mut rest = self.factors.iter().rev().copied();
        let mut current: Option<Factor> = None;
        let mut axes = PerAxis::new();
        for &size in self.shape.iter().rev() {
            let mut axis = Axis::new();
            let mut open = size;
            while open > 1 {
                let factor = match current.take() {
                    Some(factor) => factor,
                    None => rest.next()?,
                };
                if factor.size <= open {
                    if open % factor.size != 0 {
                        return None;
                    }
                    open /= factor.size;
                    axis.push(factor);
                } else {
                    if factor.size % open != 0 {
                        return None;
                    }
                    axis.push(Factor { size: open, stride: factor.stride });
                    current = Some(Factor {
                        size: factor.size / open,
                        stride: factor.stride * open as isize,
                    });
                    open = 1;
                }
            }
            axis.reverse();
            axes.push(axis);
        }
        axes.reverse();
        Some(axes)
    }

    /// One stride per axis (0 for axes of size 1), or `None` when an axis needs several factors.
    pub(crate) fn strides(&self) -> Option<PerAxis<isize>> {
        let axes = self.axes()?;
        axes.iter()
            .map(|axis| match axis.as_slice() {
                [] => Some(0),
                [factor] => Some(factor.stride),
                _ => None,
            })
            .collect()
    }

    /// The leading axes as a layout of their own, and the strides of the last two axes. `None`
    /// when one of the two has no single stride, or the rank is below 2.
    pub(crate) fn matrices(&self) -> Option<(Self, [isize; 2])> {
        let axes = self.axes()?;
        let leading = axes.len().checked_sub(2)?;
        let stride = |axis: &[Factor]| match axis {
            [] => Some(0),
            [factor] => Some(factor.stride),
            _ => None,
        };
        let strides = [stride(&axes[leading])?, stride(&axes[leading + 1])?];
        let order: PerAxis<&[Factor]> = axes[..leading].iter().map(Axis::as_slice).collect();
        let shape = self.shape[..leading].into();
        Some((Self::from_axes(shape, &order, self.offset), strides))
    }

    fn from_axes(shape: PerAxis<usize>, axes: &[&[Factor]], offset: usize) -> Self {
        if shape.contains(&0) {
            return Self::contiguous(&shape);
        }
        let mut factors = Factors::new();
        for factor in axes.iter().flat_map(|axis| axis.iter()) {
            push(&mut factors, *factor);
        }
        Self { shape, factors, offset }
    }

    /// The axes in another order; `None` when that needs a copy first.
    pub(crate) fn permuted(&self, permutation: &[usize]) -> Option<Self> {
        let axes = self.axes()?;
        let order: PerAxis<&[Factor]> =
            permutation.iter().map(|&axis| axes[axis].as_slice()).collect();
        let shape = permutation.iter().map(|&axis| self.shape[axis]).collect();
        Some(Self::from_axes(shape, &order, self.offset))
    }

    /// `count[i]` elements of axis i from `begin[i]` on, `step[i]` apart (steps may be negative).
    /// The ranges must lie inside the axes. `None` when that needs a copy first.
    pub(crate) fn sliced(&self, begin: &[usize], step: &[isize], count: &[usize]) -> Option<Self> {
        if count.contains(&0) {
            return Some(Self::contiguous(count));
        }
        let mut axes = self.axes()?;
        let mut offset = self.offset as isize;
        for (axis, factors) in axes.iter_mut().enumerate() {
            if begin[axis] == 0 && step[axis] == 1 && count[axis] == self.shape[axis] {
                continue;
            }
            match factors.as_mut_slice() {
                [] => {}
                [factor] => {
                    offset += factor.stride * begin[axis] as isize;
                    factor.stride *= step[axis];
                    factor.size = count[axis];
                }
                _ if count[axis] == 1 => {
                    let mut position = begin[axis];
                    for factor in factors.iter().rev() {
                        offset += factor.stride * (position % factor.size) as isize;
                        position /= factor.size;
                    }
                    factors.clear();
                }
                _ => return None,
            }
        }
        let order: PerAxis<&[Factor]> = axes.iter().map(Axis::as_slice).collect();
        Some(Self::from_axes(count.into(), &order, usize::try_from(offset).ok()?))
    }

    /// Each axis repeated `repetitions[i]` times; `None` when that needs a copy first.
    pub(crate) fn tiled(&self, repetitions: &[usize]) -> Option<Self> {
        let shape: PerAxis<usize> =
            self.shape.iter().zip(repetitions).map(|(size, times)| size * times).collect();
        if shape.contains(&0) {
            return Some(Self::contiguous(&shape));
        }
        let mut axes = self.axes()?;
        for (axis, &times) in axes.iter_mut().zip(repetitions) {
            if times > 1 {
                axis.insert(0, Factor { size: times, stride: 0 });
            }
        }
        let order: PerAxis<&[Factor]> = axes.iter().map(Axis::as_slice).collect();
        Some(Self::from_axes(shape, &order, self.offset))
    }

    /// Broadcast to `shape` by the usual rule (missing axes in front, size 1 repeats); the caller
    /// has checked that the shapes fit. `None` when that needs a copy first.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Option<Self> {
        if self.shape.as_slice() == shape {
            return Some(self.clone());
        }
        if shape.contains(&0) {
            return Some(Self::contiguous(shape));
        }
        let axes = self.axes()?;
        let missing = shape.len() - self.shape.len();
        let mut factors = Factors::new();
        for (index, &size) in shape.iter().enumerate() {
            if index < missing || (self.shape[index - missing] == 1 && size > 1) {
                push(&mut factors, Factor { size, stride: 0 });
            } else {
                for &factor in &axes[index - missing] {
                    push(&mut factors, factor);
                }
            }
        }
        Some(Self { shape: shape.into(), factors, offset: self.offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use crate::walk::Walk;

    fn offsets(layout: &Layout) -> Vec<usize> {
        let Some(walk) = Walk::new([layout]) else { panic!("one layout always walks") };
        let mut all = Vec::new();
        walk.for_each(|[start]| {
            for i in 0..walk.run {
                all.push((start as isize + walk.run_strides[0] * i as isize) as usize);
            }
        });
        all
    }

    /// Offsets of a strided layout, by counting.
    fn naive(shape: &[usize], strides: &[isize], offset: usize) -> Vec<usize> {
        let mut all = vec![offset as isize];
        for (&size, &stride) in shape.iter().zip(strides) {
            all = all
                .iter()
                .flat_map(|&base| (0..size).map(move |i| base + stride * i as isize))
                .collect();
        }
        all.iter().map(|&o| o as usize).collect()
    }

    #[test]
    fn random_view_chains_match_index_lists() {
        let mut random = Random::new(7);
        for _ in 0..400 {
            let rank = 1 + random.below(4);
            let mut shape: Vec<usize> = (0..rank).map(|_| 1 + random.below(4)).collect();
            let mut layout = Layout::contiguous(&shape);
            let mut list: Vec<usize> = (0..layout.count()).collect();
            for _ in 0..5 {
                match random.below(4) {
                    0 => {
                        let mut order: Vec<usize> = (0..shape.len()).collect();
                        for i in (1..order.len()).rev() {
                            order.swap(i, random.below(i + 1));
                        }
                        let Some(next) = layout.permuted(&order) else { continue };
                        list = permute(&list, &shape, &order);
                        shape = order.iter().map(|&axis| shape[axis]).collect();
                        layout = next;
                    }
                    1 => {
                        let begin: Vec<usize> = shape.iter().map(|&s| random.below(s)).collect();
                        let count: Vec<usize> = shape
                            .iter()
                            .zip(&begin)
                            .map(|(&s, &b)| 1 + random.below(s - b))
                            .collect();
                        let Some(next) = layout.sliced(&begin, &vec![1; shape.len()], &count)
                        else {
                            continue;
                        };
                        list = slice(&list, &shape, &begin, &count);
                        shape = count;
                        layout = next;
                    }
                    2 => {
                        let total: usize = shape.iter().product();
                        let first =
                            (1..=total).filter(|d| total.is_multiple_of(*d)).nth(random.below(2));
                        let first = first.unwrap_or(1);
                        shape = vec![first, 1, total / first];
                        layout = layout.reshaped(&shape);
                    }
                    _ => {
                        let times: Vec<usize> = shape.iter().map(|_| 1 + random.below(2)).collect();
                        let Some(next) = layout.tiled(&times) else { continue };
                        let target: Vec<usize> =
                            shape.iter().zip(&times).map(|(s, t)| s * t).collect();
                        if target.iter().product::<usize>() > 4096 {
                            continue;
                        }
                        list = naive_tile(&list, &shape, &target);
                        shape = target;
                        layout = next;
                    }
                }
                assert_eq!(layout.shape(), shape.as_slice());
                assert_eq!(offsets(&layout), list);
            }
        }
    }

    fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
        let mut index = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            index[axis] = flat % shape[axis];
            flat /= shape[axis];
        }
        index
    }

    fn ravel(index: &[usize], shape: &[usize]) -> usize {
        index.iter().zip(shape).fold(0, |flat, (i, s)| flat * s + i)
    }

    fn permute(list: &[usize], shape: &[usize], order: &[usize]) -> Vec<usize> {
        let target: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        (0..list.len())
            .map(|flat| {
                let index = unravel(flat, &target);
                let mut source = vec![0; shape.len()];
                for (position, &axis) in order.iter().enumerate() {
                    source[axis] = index[position];
                }
                list[ravel(&source, shape)]
            })
            .collect()
    }

    fn slice(list: &[usize], shape: &[usize], begin: &[usize], count: &[usize]) -> Vec<usize> {
        (0..count.iter().product())
            .map(|flat| {
                let index: Vec<usize> =
                    unravel(flat, count).iter().zip(begin).map(|(i, b)| i + b).collect();
                list[ravel(&index, shape)]
            })
            .collect()
    }

    fn naive_tile(list: &[usize], shape: &[usize], target: &[usize]) -> Vec<usize> {
        (0..target.iter().product())
            .map(|flat| {
                let index: Vec<usize> =
                    unravel(flat, target).iter().zip(shape).map(|(i, s)| i % s).collect();
                list[ravel(&index, shape)]
            })
            .collect()
    }

    #[test]
    fn grouped_heads_stay_a_view() {
        // state row (2 heads, 8 positions, 4), each head repeated 3 times, then merged
        let row = Layout::strided(&[2, 1, 8, 4], &[64, 0, 4, 1], 128);
        let Some(tiled) = row.tiled(&[1, 3, 1, 1]) else { panic!("an axis of size 1 repeats") };
        let merged = tiled.reshaped(&[1, 6, 8, 4]);
        let expected = naive(&[2, 3, 8, 4], &[64, 0, 4, 1], 128);
        assert_eq!(offsets(&merged), expected);
        assert!(!merged.is_dense());
        let Some(axes) = merged.axes() else { panic!("the axes are aligned") };
        assert_eq!(axes[1].len(), 2);
    }

    #[test]
    fn transposed_is_dense_and_negative_steps_walk_back() {
        let transposed = Layout::contiguous(&[3, 5]).permuted(&[1, 0]);
        assert!(transposed.as_ref().is_some_and(Layout::is_dense));
        assert!(!transposed.is_some_and(|layout| layout.is_contiguous()));
        let back = Layout::contiguous(&[4]).sliced(&[3], &[-1], &[4]);
        assert_eq!(back.map(|layout| offsets(&layout)), Some(vec![3, 2, 1, 0]));
    }
}
