//! Walking float values in blocks of f32: what unary and binary operations share.
//!
//! fp16 operands are widened block by block, computed in f32, and rounded to fp16 once. The result
//! keeps the memory order of a dense operand, so transposed views cost nothing.

use super::{Frame, broadcast_shape, checked_count};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::Layout;
use crate::simd;
use crate::storage::Buffer;
use crate::tensor::{Floats, Tensor};
use crate::walk::Walk;
use crate::workers;
use half::f16;

/// Elements that are computed at once.
const BLOCK: usize = 1024;

/// Reads a run into `block`, which has its length.
fn load(values: Floats<'_>, start: usize, stride: isize, block: &mut [f32]) {
    let at = |i: usize| (start as isize + stride * i as isize) as usize;
    match (values, stride) {
        (Floats::F16(values), 1) => simd::widen(&values[start..start + block.len()], block),
        (Floats::F32(values), 1) => block.copy_from_slice(&values[start..start + block.len()]),
        (Floats::F16(values), 0) => block.fill(values[start].to_f32()),
        (Floats::F32(values), 0) => block.fill(values[start]),
        (Floats::F16(values), _) => {
            let mut picked = [f16::ZERO; BLOCK];
            let picked = &mut picked[..block.len()];
            for (i, value) in picked.iter_mut().enumerate() {
                *value = values[at(i)];
            }
            simd::widen(picked, block);
        }
        (Floats::F32(values), _) => {
            for (i, value) in block.iter_mut().enumerate() {
                *value = values[at(i)];
            }
        }
    }
}

/// An element type that blocks of f32 can be stored as.
trait Store: bytemuck::Pod + Send {
    fn store(block: &[f32], output: &mut [Self]);
}

impl Store for f16 {
    fn store(block: &[f32], output: &mut [Self]) {
        simd::narrow(block, output);
    }
}

impl Store for f32 {
    fn store(block: &[f32], output: &mut [Self]) {
        output.copy_from_slice(block);
    }
}

/// Truth values: a block holds 0 or 1.
impl Store for u8 {
    fn store(block: &[f32], output: &mut [Self]) {
        for (value, flag) in block.iter().zip(output) {
            *flag = Self::from(*value != 0.0);
        }
    }
}

/// Applies `function` to all elements; `cost` is its rough price in multiply-adds per element.
pub(super) fn map(
    frame: &Frame<'_>,
    x: &Tensor,
    element: Element,
    cost: usize,
    function: impl Fn(&mut [f32]) + Sync,
) -> Outcome<Tensor> {
    let layout =
        if x.layout.is_dense() { x.layout.at_zero() } else { Layout::contiguous(x.shape()) };
    let Some(walk) = Walk::new([&layout, &x.layout]) else {
        return map(frame, &x.contiguous(frame.pool)?, element, cost, function);
    };
    let walk = walk.in_memory_order(0);
    let source = Floats::whole(x)?;
    let visit = |starts: [usize; 2], block: &mut [f32]| {
        load(source, starts[1], walk.run_strides[1], block);
        simd::widest(|| function(block));
    };
    output(frame, element, layout, cost, &walk, visit)
}

/// Applies `function` to pairs of elements, broadcast; the result stands in its first argument.
pub(crate) fn zip(
    frame: &Frame<'_>,
    x: &Tensor,
    y: &Tensor,
    element: Element,
    function: impl Fn(&mut [f32], &[f32]) + Sync,
) -> Outcome<Tensor> {
    let shape = broadcast_shape(x.shape(), y.shape())?;
    checked_count(&shape)?;
    let dense = [x, y].into_iter().find(|t| t.shape() == shape && t.layout.is_dense());
    let layout = dense.map_or_else(|| Layout::contiguous(&shape), |tensor| tensor.layout.at_zero());
    let views = (x.layout.broadcast(&shape), y.layout.broadcast(&shape));
    let (Some(left), Some(right)) = views else {
        let (x, y) = (x.contiguous(frame.pool)?, y.contiguous(frame.pool)?);
        return zip(frame, &x, &y, element, function);
    };
    let Some(walk) = Walk::new([&layout, &left, &right]) else {
        let (x, y) = (x.contiguous(frame.pool)?, y.contiguous(frame.pool)?);
        return zip(frame, &x, &y, element, function);
    };
    let walk = walk.in_memory_order(0);
    let (first, second) = (Floats::whole(x)?, Floats::whole(y)?);
    let visit = |starts: [usize; 3], block: &mut [f32]| {
        load(first, starts[1], walk.run_strides[1], block);
        let mut other = [0.0; BLOCK];
        let other = &mut other[..block.len()];
        load(second, starts[2], walk.run_strides[2], other);
        simd::widest(|| function(block, other));
    };
    output(frame, element, layout, 2, &walk, visit)
}

/// Fills a dense result in memory order, block by block. Layout 0 of the walk is the result's.
fn output<const N: usize>(
    frame: &Frame<'_>,
    element: Element,
    layout: Layout,
    cost: usize,
    walk: &Walk<N>,
    visit: impl Fn([usize; N], &mut [f32]) + Sync,
) -> Outcome<Tensor> {
    let count = layout.count();
    let mut buffer = frame.pool.take_elements(element, count)?;
    match element {
        Element::F16 => fill::<f16, N>(frame, &mut buffer, count * cost, walk, visit)?,
        Element::F32 => fill::<f32, N>(frame, &mut buffer, count * cost, walk, visit)?,
        Element::Bool => fill::<u8, N>(frame, &mut buffer, count * cost, walk, visit)?,
        other => return unsupported(format!("a result of type {}", other.name())),
    }
    Ok(Tensor::with_layout(element, layout, buffer))
}

fn fill<T: Store, const N: usize>(
    frame: &Frame<'_>,
    buffer: &mut Buffer,
    cost: usize,
    walk: &Walk<N>,
    visit: impl Fn([usize; N], &mut [f32]) + Sync,
) -> Outcome<()> {
    workers::split(frame.team, buffer.slice_mut::<T>(), BLOCK, cost, |start, part| {
        let mut block = [0.0; BLOCK];
        let mut done = 0;
        walk.for_elements(start, start + part.len(), |starts, length| {
            for offset in (0..length).step_by(BLOCK) {
                let size = BLOCK.min(length - offset);
                let mut moved = starts;
                for i in 0..N {
                    let move_by = walk.run_strides[i] * offset as isize;
                    moved[i] = (starts[i] as isize + move_by) as usize;
                }
                visit(moved, &mut block[..size]);
                T::store(&block[..size], &mut part[done..done + size]);
                done += size;
            }
        });
        Ok(())
    })
}

/// Integers (or truth values) of two operands, broadcast to one shape.
pub(super) fn integer_pairs(
    frame: &Frame<'_>,
    x: &Tensor,
    y: &Tensor,
) -> Outcome<(Vec<usize>, Vec<i64>, Vec<i64>)> {
    let shape = broadcast_shape(x.shape(), y.shape())?;
    checked_count(&shape)?;
    let list = |tensor: &Tensor| -> Outcome<Vec<i64>> {
        let tensor = match tensor.layout.broadcast(&shape) {
            Some(layout) => tensor.viewed(layout),
            None => {
                let tensor = tensor.contiguous(frame.pool)?;
                match tensor.layout.broadcast(&shape) {
                    Some(layout) => tensor.viewed(layout),
                    None => return invalid("a contiguous value does not broadcast"),
                }
            }
        };
        tensor.integers()
    };
    Ok((shape.clone(), list(x)?, list(y)?))
}

/// A row-major value of integers or truth values, each wrapped to the element type.
pub(super) fn from_integers(element: Element, shape: &[usize], values: &[i64]) -> Outcome<Tensor> {
    macro_rules! list {
        ($kind:ty) => {{
            let wrapped: Vec<$kind> = values.iter().map(|&value| value as $kind).collect();
            Tensor::from_slice(element, shape, &wrapped)
        }};
    }
    Ok(match element {
        Element::I8 => list!(i8),
        Element::I16 => list!(i16),
        Element::I32 => list!(i32),
        Element::I64 => list!(i64),
        Element::U8 => list!(u8),
        Element::U16 => list!(u16),
        Element::U32 => list!(u32),
        Element::U64 => list!(u64),
        Element::Bool => {
            let flags: Vec<u8> = values.iter().map(|&value| u8::from(value != 0)).collect();
            Tensor::from_slice(element, shape, &flags)
        }
        other => return unsupported(format!("integers of type {}", other.name())),
    })
}
