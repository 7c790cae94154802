//! Work along some axes of a value: each row (the elements along these axes) on its own, in f32.

use super::Frame;
use crate::element::Element;
use crate::failure::{Outcome, unsupported};
use crate::layout::Layout;
use crate::simd;
use crate::tensor::Tensor;
use crate::workers;
use half::f16;

/// A value with the axes of a row moved to the end, row after row.
pub(crate) struct Rows {
    pub(super) tensor: Tensor,
    /// Elements of a row; 0 only when there are no elements at all.
    pub(super) width: usize,
    /// The order of axes: kept ones first, then those of the row.
    order: Vec<usize>,
}

impl Rows {
    /// `axes` are distinct indices of axes.
    pub(crate) fn new(frame: &Frame<'_>, x: &Tensor, axes: &[usize]) -> Outcome<Self> {
        let mut order: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
        let mut along = axes.to_vec();
        along.sort_unstable();
        let width = along.iter().map(|&axis| x.shape()[axis]).product();
        order.extend(along);
        let tensor = super::shape::view(x, frame.pool, |layout| layout.permuted(&order))?
            .contiguous(frame.pool)?;
        Ok(Self { tensor, width, order })
    }

    pub(super) fn count(&self) -> usize {
        self.tensor.count().checked_div(self.width).unwrap_or(0)
    }

    /// Widens row `index` into `row`.
    pub(super) fn load(&self, index: usize, row: &mut [f32]) -> Outcome<()> {
        let range = index * self.width..(index + 1) * self.width;
        match self.tensor.element {
            Element::F16 => simd::widen(&self.tensor.dense::<f16>()[range], row),
            Element::F32 => row.copy_from_slice(&self.tensor.dense::<f32>()[range]),
            other => return unsupported(format!("this operation on {} values", other.name())),
        }
        Ok(())
    }

    /// Replaces every row by what `function` makes of it; the axes go back to their places.
    pub(crate) fn map(
        &self,
        frame: &Frame<'_>,
        cost: usize,
        function: impl Fn(&mut [f32]) + Sync,
    ) -> Outcome<Tensor> {
        let element = self.tensor.element;
        let mut buffer = frame.pool.take_elements(element, self.tensor.count())?;
        let cost = cost * self.tensor.count();
        match element {
            Element::F16 => {
                let output = buffer.slice_mut::<f16>();
                self.fill(frame, output, cost, &function, simd::narrow)?;
            }
            Element::F32 => {
                let output = buffer.slice_mut::<f32>();
                self.fill(frame, output, cost, &function, |row, output| {
                    output.copy_from_slice(row);
                })?;
            }
            other => return unsupported(format!("this operation on {} values", other.name())),
        }
        let layout = Layout::contiguous(self.tensor.shape());
        let mut back = vec![0; self.order.len()];
        for (position, &axis) in self.order.iter().enumerate() {
            back[axis] = position;
        }
        let moved = Tensor::with_layout(element, layout, buffer);
        super::shape::view(&moved, frame.pool, |layout| layout.permuted(&back))
    }

    fn fill<T: Send>(
        &self,
        frame: &Frame<'_>,
        output: &mut [T],
        cost: usize,
        function: &(impl Fn(&mut [f32]) + Sync),
        store: impl Fn(&[f32], &mut [T]) + Sync,
    ) -> Outcome<()> {
        let width = self.width.max(1);
        workers::split(frame.team, output, width, cost, |start, part| {
            let mut row = vec![0.0; self.width];
            for (index, output) in part.chunks_exact_mut(width).enumerate() {
                self.load(start / width + index, &mut row)?;
                simd::widest(|| function(&mut row));
                store(&row, output);
            }
            Ok(())
        })
    }
}

/// Sum over the elements, in 16 running sums.
#[inline(always)]
pub(crate) fn sum(row: &[f32]) -> f32 {
    fold(row, 0.0, |a, b| a + b)
}

/// Largest element; NaN if there is one; -inf for no elements.
#[inline(always)]
pub(crate) fn maximum(row: &[f32]) -> f32 {
    fold(row, f32::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b })
}

/// Smallest element; NaN if there is one; inf for no elements.
#[inline(always)]
pub(super) fn minimum(row: &[f32]) -> f32 {
    fold(row, f32::INFINITY, |a, b| if a < b || a.is_nan() { a } else { b })
}

/// Combines all elements with an operation whose order does not matter.
#[inline(always)]
pub(super) fn fold(row: &[f32], start: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for i in 0..16 {
            lanes[i] = combine(lanes[i], chunk[i]);
        }
    }
    let mut result = start;
    for lane in lanes {
        result = combine(result, lane);
    }
    for &value in rest {
        result = combine(result, value);
    }
    result
}

/// Sum of squares, in 16 running sums.
#[inline(always)]
pub(super) fn fold_squares(row: &[f32]) -> f32 {
    simd::dot(row, row)
}
