//! Values of a run: element type, layout and storage; and how they are read and copied.

use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::{Layout, PerAxis};
use crate::simd;
use crate::storage::{Buffer, Pool, Storage};
use crate::walk::Walk;
use bytemuck::Pod;
use half::f16;
use std::sync::Arc;

/// A value. Cloning shares the elements.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) element: Element,
    pub(crate) layout: Layout,
    pub(crate) storage: Storage,
}

/// The elements of a value as its whole buffer; the layout says where they start.
pub(crate) enum Data<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    Bool(&'a [u8]),
}

/// Elements of a float type that arithmetic is done on.
#[derive(Clone, Copy)]
pub(crate) enum Floats<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
}

impl<'a> Floats<'a> {
    /// The whole buffer of a value; the layout says where its elements start.
    pub(crate) fn whole(tensor: &'a Tensor) -> Outcome<Self> {
        match tensor.element {
            Element::F16 => Ok(Self::F16(tensor.raw())),
            Element::F32 => Ok(Self::F32(tensor.raw())),
            other => unsupported(format!("arithmetic on {} values", other.name())),
        }
    }

    /// The elements of a contiguous value.
    pub(crate) fn dense(tensor: &'a Tensor) -> Outcome<Self> {
        let start = tensor.layout.offset();
        Ok(Self::whole(tensor)?.range(start..start + tensor.count()))
    }

    /// The elements of this range.
    pub(crate) fn range(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F16(values) => Self::F16(&values[range]),
            Self::F32(values) => Self::F32(&values[range]),
        }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Self::F16(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }
}

impl Tensor {
    /// A value of row-major elements in a buffer of its own.
    pub(crate) fn owned(element: Element, shape: &[usize], buffer: Buffer) -> Self {
        Self::with_layout(element, Layout::contiguous(shape), buffer)
    }

    pub(crate) fn with_layout(element: Element, layout: Layout, buffer: Buffer) -> Self {
        Self { element, layout, storage: Storage::new(Arc::new(buffer)) }
    }

    pub(crate) fn from_slice<T: Pod>(element: Element, shape: &[usize], values: &[T]) -> Self {
        Self::owned(element, shape, Buffer::from_slice(values))
    }

    pub(crate) fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    pub(crate) fn rank(&self) -> usize {
        self.layout.rank()
    }

    pub(crate) fn count(&self) -> usize {
        self.layout.count()
    }

    /// The same elements under another layout.
    pub(crate) fn viewed(&self, layout: Layout) -> Self {
        Self { element: self.element, layout, storage: self.storage.clone() }
    }

    /// The whole buffer as elements of a type of this value's width.
    pub(crate) fn raw<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(self.storage.bytes())
    }

    /// The whole buffer by element type.
    pub(crate) fn data(&self) -> Data<'_> {
        match self.element {
            Element::F16 => Data::F16(self.raw()),
            Element::F32 => Data::F32(self.raw()),
            Element::F64 => Data::F64(self.raw()),
            Element::I8 => Data::I8(self.raw()),
            Element::I16 => Data::I16(self.raw()),
            Element::I32 => Data::I32(self.raw()),
            Element::I64 => Data::I64(self.raw()),
            Element::U8 => Data::U8(self.raw()),
            Element::U16 => Data::U16(self.raw()),
            Element::U32 => Data::U32(self.raw()),
            Element::U64 => Data::U64(self.raw()),
            Element::Bool => Data::Bool(self.raw()),
        }
    }

    /// The value in f32 where it is float16, else itself.
    pub(crate) fn widened(&self) -> Outcome<Self> {
        if self.element != Element::F16 {
            return Ok(self.clone());
        }
        Ok(Self::from_slice(Element::F32, self.shape(), &self.floats()?))
    }

    /// The elements of a contiguous value.
    pub(crate) fn dense<T: Pod>(&self) -> &[T] {
        let start = self.layout.offset();
        &self.raw()[start..start + self.count()]
    }

    /// The value in row-major order without gaps; itself when it is so already.
    pub(crate) fn contiguous(&self, pool: &Pool) -> Outcome<Self> {
        if self.layout.is_contiguous() {
            return Ok(self.clone());
        }
        let layout = Layout::contiguous(self.shape());
        let mut buffer = pool.take_elements(self.element, self.count())?;
        copy(self, &mut buffer, &layout)?;
        Ok(Self::with_layout(self.element, layout, buffer))
    }

    /// The value under a layout that has one stride per axis, and these strides.
    pub(crate) fn with_strides(&self, pool: &Pool) -> Outcome<(Self, PerAxis<isize>)> {
        if let Some(strides) = self.layout.strides() {
            return Ok((self.clone(), strides));
        }
        let copy = self.contiguous(pool)?;
        match copy.layout.strides() {
            Some(strides) => Ok((copy, strides)),
            None => invalid("a contiguous value has no strides"),
        }
    }

    /// All elements as integers in row-major order (bool as 0 and 1).
    pub(crate) fn integers(&self) -> Outcome<Vec<i64>> {
        macro_rules! list {
            ($values:expr) => {
                gather(&self.layout, |i| $values[i] as i64)
            };
        }
        Ok(match self.data() {
            Data::I8(values) => list!(values),
            Data::I16(values) => list!(values),
            Data::I32(values) => list!(values),
            Data::I64(values) => list!(values),
            Data::U8(values) | Data::Bool(values) => list!(values),
            Data::U16(values) => list!(values),
            Data::U32(values) => list!(values),
            Data::U64(values) => list!(values),
            _ => return invalid(format!("expected integers, not {}", self.element.name())),
        })
    }

    /// All elements as f32 in row-major order, whatever their type.
    pub(crate) fn floats(&self) -> Outcome<Vec<f32>> {
        Ok(match self.data() {
            Data::F16(values) => {
                if self.layout.is_contiguous() {
                    let mut wide = vec![0.0; self.count()];
                    simd::widen(self.dense(), &mut wide);
                    return Ok(wide);
                }
                gather(&self.layout, |i| values[i].to_f32())
            }
            Data::F32(values) => gather(&self.layout, |i| values[i]),
            Data::F64(values) => gather(&self.layout, |i| values[i] as f32),
            _ => self.integers()?.into_iter().map(|value| value as f32).collect(),
        })
    }

    /// The single element as f32.
    pub(crate) fn scalar(&self) -> Outcome<f32> {
        match self.floats()?.as_slice() {
            [value] => Ok(*value),
            values => invalid(format!("expected one element, not {}", values.len())),
        }
    }
}

fn gather<T>(layout: &Layout, read: impl Fn(usize) -> T) -> Vec<T> {
    let mut list = Vec::with_capacity(layout.count());
    if let Some(walk) = Walk::new([layout]) {
        walk.for_each(|[start]| {
            for i in 0..walk.run {
                list.push(read((start as isize + walk.run_strides[0] * i as isize) as usize));
            }
        });
    }
    list
}

/// Copies the elements of `source` to where `target` says in `buffer`. Equal shapes and types.
pub(crate) fn copy(source: &Tensor, buffer: &mut Buffer, target: &Layout) -> Outcome<()> {
    match source.element.size() {
        1 => copy_elements::<u8>(source, buffer, target),
        2 => copy_elements::<u16>(source, buffer, target),
        4 => copy_elements::<u32>(source, buffer, target),
        _ => copy_elements::<u64>(source, buffer, target),
    }
}

fn copy_elements<T: Pod>(source: &Tensor, buffer: &mut Buffer, target: &Layout) -> Outcome<()> {
    let from: &[T] = source.raw();
    let to: &mut [T] = buffer.slice_mut();
    let Some(walk) = Walk::new([&source.layout, target]) else {
        // Their runs cross: go element by element along two separate walks.
        let indices = gather(&source.layout, |i| i);
        for (from_index, to_index) in indices.into_iter().zip(gather(target, |i| i)) {
            to[to_index] = from[from_index];
        }
        return Ok(());
    };
    let run = walk.run;
    match walk.run_strides {
        [1, 1] => walk.for_each(|[a, b]| to[b..b + run].copy_from_slice(&from[a..a + run])),
        [0, 1] => walk.for_each(|[a, b]| to[b..b + run].fill(from[a])),
        [step, 1] if step > 0 => walk.for_each(|[a, b]| {
            let picked = from[a..].iter().step_by(step as usize);
            for (slot, value) in to[b..b + run].iter_mut().zip(picked) {
                *slot = *value;
            }
        }),
        [from_step, to_step] => walk.for_each(|[a, b]| {
            for i in 0..run as isize {
                to[(b as isize + to_step * i) as usize] =
                    from[(a as isize + from_step * i) as usize];
            }
        }),
    }
    Ok(())
}

/// The elements of a float value as f32: borrowed when they are so already, else converted into
/// a buffer of the pool. Keeps the layout's order of axes when the value is dense.
pub(crate) struct Wide<'a> {
    source: WideSource<'a>,
    /// Layout of the f32 elements.
    pub(crate) layout: Layout,
}

enum WideSource<'a> {
    Borrowed(&'a [f32]),
    Converted(Buffer),
}

impl<'a> Wide<'a> {
    /// Converts a float value.
    pub(crate) fn new(tensor: &'a Tensor, pool: &Pool) -> Outcome<Self> {
        match tensor.element {
            Element::F32 => Ok(Self {
                source: WideSource::Borrowed(tensor.raw()),
                layout: tensor.layout.clone(),
            }),
            Element::F16 if tensor.layout.is_dense() => {
                let start = tensor.layout.offset();
                let mut buffer = pool.take_elements(Element::F32, tensor.count())?;
                let source = &tensor.raw::<f16>()[start..start + tensor.count()];
                simd::widen(source, buffer.slice_mut());
                Ok(Self { source: WideSource::Converted(buffer), layout: tensor.layout.at_zero() })
            }
            Element::F16 => {
                let copy = tensor.contiguous(pool)?;
                let mut buffer = pool.take_elements(Element::F32, tensor.count())?;
                simd::widen(copy.dense(), buffer.slice_mut());
                pool.recycle(copy.storage);
                Ok(Self {
                    source: WideSource::Converted(buffer),
                    layout: Layout::contiguous(tensor.shape()),
                })
            }
            other => unsupported(format!("{} where float16 or float32 is needed", other.name())),
        }
    }

    pub(crate) fn data(&self) -> &[f32] {
        match &self.source {
            WideSource::Borrowed(values) => values,
            WideSource::Converted(buffer) => buffer.slice(),
        }
    }

    /// Gives the buffer back.
    pub(crate) fn release(self, pool: &Pool) {
        if let WideSource::Converted(buffer) = self.source {
            pool.give(buffer);
        }
    }
}

/// A row-major result from f32 elements: float32 as they are, float16 rounded to nearest even.
pub(crate) fn from_wide(
    element: Element,
    layout: Layout,
    wide: Buffer,
    pool: &Pool,
) -> Outcome<Tensor> {
    match element {
        Element::F32 => Ok(Tensor::with_layout(element, layout, wide)),
        Element::F16 => {
            let mut buffer = pool.take_elements(element, layout.count())?;
            simd::narrow(wide.slice(), buffer.slice_mut());
            pool.give(wide);
            Ok(Tensor::with_layout(element, layout, buffer))
        }
        other => unsupported(format!("a result of type {}", other.name())),
    }
}
