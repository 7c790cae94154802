//! Slices by index, as views, and their update.

use super::shape::view;
use super::{Call, Definition, Frame, Input, Step, step, view_step};
use crate::failure::{Outcome, invalid};
use crate::layout::Layout;
use crate::storage::{Buffer, Storage};
use crate::tensor::{Tensor, copy};
use std::sync::Arc;

pub(super) const ALL: &[Definition] = &[
    Definition::new("slice_by_index", slice_by_index),
    Definition::new("slice_by_size", slice_by_size),
    Definition::new("slice_update", slice_update),
];

/// The arguments that slices by index share.
struct Bounds {
    begin: Input,
    end: Input,
    stride: Option<Input>,
    begin_mask: Option<Vec<bool>>,
    end_mask: Option<Vec<bool>>,
    squeeze_mask: Option<Vec<bool>>,
}

/// A slice of a certain shape.
#[derive(Debug, PartialEq)]
struct Region {
    begin: Vec<usize>,
    steps: Vec<isize>,
    count: Vec<usize>,
    /// Shape of the slice without the squeezed axes.
    shape: Vec<usize>,
}

impl Bounds {
    fn of(call: &Call<'_>) -> Outcome<Self> {
        Ok(Self {
            begin: call.tensor("begin")?,
            end: call.tensor("end")?,
            stride: call.optional("stride")?,
            begin_mask: call.booleans("begin_mask")?,
            end_mask: call.booleans("end_mask")?,
            squeeze_mask: call.booleans("squeeze_mask")?,
        })
    }

    fn region(&self, frame: &Frame<'_>, shape: &[usize]) -> Outcome<Region> {
        let begin = self.begin.get(frame)?.integers()?;
        let end = self.end.get(frame)?.integers()?;
        let stride = match &self.stride {
            Some(stride) => stride.get(frame)?.integers()?,
            None => vec![1; shape.len()],
        };
        let masks = [&self.begin_mask, &self.end_mask, &self.squeeze_mask];
        let lengths = [begin.len(), end.len(), stride.len()];
        if lengths.iter().any(|&length| length != shape.len())
            || masks.iter().any(|mask| mask.as_ref().is_some_and(|m| m.len() != shape.len()))
        {
            return invalid(format!("begin, end, stride or a mask does not suit shape {shape:?}"));
        }
        let [begin_mask, end_mask, squeeze_mask] = masks.map(Option::as_deref);
        let masks = [begin_mask, end_mask, squeeze_mask];
        resolve(shape, &begin, &end, &stride, masks)
    }
}

/// Index arithmetic as in numpy: negative indices count from the end, bounds are cut to the axis;
/// a masked bound is the end of the axis; a squeezed axis takes the one element at `begin`.
fn resolve(
    shape: &[usize],
    begin: &[i64],
    end: &[i64],
    stride: &[i64],
    masks: [Option<&[bool]>; 3],
) -> Outcome<Region> {
    let set = |mask: usize, axis: usize| masks[mask].is_some_and(|mask| mask[axis]);
    let mut region = Region {
        begin: Vec::with_capacity(shape.len()),
        steps: Vec::with_capacity(shape.len()),
        count: Vec::with_capacity(shape.len()),
        shape: Vec::with_capacity(shape.len()),
    };
    for (axis, &size) in shape.iter().enumerate() {
        let length = size as i64;
        let from_end = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
        if set(2, axis) {
            let index = from_end(begin[axis]);
            if index < 0 || index >= length {
                return invalid(format!("index {} of an axis of size {size}", begin[axis]));
            }
            region.begin.push(index as usize);
            region.steps.push(1);
            region.count.push(1);
            continue;
        }
        let by = stride[axis];
        let (first, last) = match by {
            0 => return invalid(format!("stride 0 along axis {axis}")),
            1.. => (
                if set(0, axis) { 0 } else { from_end(begin[axis]).clamp(0, length) },
                if set(1, axis) { length } else { from_end(end[axis]).clamp(0, length) },
            ),
            _ => (
                if set(0, axis) { length - 1 } else { from_end(begin[axis]).clamp(-1, length - 1) },
                if set(1, axis) { -1 } else { from_end(end[axis]).clamp(-1, length - 1) },
            ),
        };
        let distance = if by > 0 { last - first } else { first - last };
        let count =
            if distance <= 0 { 0 } else { (distance as u64).div_ceil(by.unsigned_abs()) as usize };
        region.begin.push(if count == 0 { 0 } else { first as usize });
        region.steps.push(if count <= 1 { 1 } else { by as isize });
        region.count.push(count);
        region.shape.push(count);
    }
    Ok(region)
}

fn slice_by_index(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let bounds = Bounds::of(call)?;
    let fixed = [Some(&bounds.begin), Some(&bounds.end), bounds.stride.as_ref()];
    let fixed = fixed.into_iter().flatten().all(|bound| bound.constant().is_some());
    let part = move |frame: &Frame<'_>, x: &Tensor| {
        let region = bounds.region(frame, x.shape())?;
        let part = view(x, frame.pool, |layout| {
            layout.sliced(&region.begin, &region.steps, &region.count)
        })?;
        Ok(part.viewed(part.layout.reshaped(&region.shape)))
    };
    match fixed {
        true => view_step(x, part),
        false => step(move |frame| part(frame, x.get(frame)?)),
    }
}

/// `slice_by_size`: -1 takes the rest of the axis.
fn slice_by_size(call: &Call<'_>) -> Outcome<Step> {
    let (x, begin, size) = (call.tensor("x")?, call.tensor("begin")?, call.tensor("size")?);
    step(move |frame| {
        let x = x.get(frame)?;
        let begin = begin.get(frame)?.integers()?;
        let size = size.get(frame)?.integers()?;
        if begin.len() != x.rank() || size.len() != x.rank() {
            return invalid(format!("begin or size does not suit shape {:?}", x.shape()));
        }
        let mut starts = Vec::with_capacity(x.rank());
        let mut counts = Vec::with_capacity(x.rank());
        for (axis, &length) in x.shape().iter().enumerate() {
            let length = length as i64;
            let first = if begin[axis] < 0 { begin[axis] + length } else { begin[axis] };
            let count = if size[axis] == -1 { length - first } else { size[axis] };
            if first < 0 || count < 0 || first.checked_add(count).is_none_or(|end| end > length) {
                return invalid(format!(
                    "{} elements from {} along axis {axis} of shape {:?}",
                    size[axis],
                    begin[axis],
                    x.shape()
                ));
            }
            starts.push(first as usize);
            counts.push(count as usize);
        }
        let steps = vec![1; x.rank()];
        view(x, frame.pool, |layout| layout.sliced(&starts, &steps, &counts))
    })
}

/// `slice_update`: a copy of x with one slice replaced; in place when no one else reads x.
fn slice_update(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let update = call.tensor("update")?;
    let bounds = Bounds::of(call)?;
    let in_place = call.in_place;
    let slot_to_clear = match x {
        Input::Slot(slot) if call.last_uses.contains(&slot) => Some(slot),
        _ => None,
    };
    step(move |frame| {
        let value = x.get(frame)?.clone();
        let update = update.get(frame)?.clone();
        let region = bounds.region(frame, value.shape())?;
        let target = Layout::contiguous(value.shape());
        let target = target.sliced(&region.begin, &region.steps, &region.count);
        let fits = update.shape() == region.shape || update.shape() == region.count;
        let Some(target) = target.filter(|_| fits && update.element == value.element) else {
            return invalid(format!(
                "update {} {:?} does not fit the slice {:?} of {} {:?}",
                update.element.name(),
                update.shape(),
                region.shape,
                value.element.name(),
                value.shape()
            ));
        };
        if let Some(slot) = slot_to_clear {
            frame.slots[slot] = None;
        }
        if let Some(state) = in_place.map(|index| &mut frame.states[index])
            && value.storage.is(&state.buffer)
            && is_whole(&value)
        {
            let (element, shape) = (value.element, value.shape().to_vec());
            drop(value);
            // Copies the state only when an earlier reading of it is still needed.
            copy(&update, Arc::make_mut(&mut state.buffer), &target)?;
            return Ok(Tensor {
                element,
                layout: Layout::contiguous(&shape),
                storage: Storage::new(Arc::clone(&state.buffer)),
            });
        }
        let (element, layout) = (value.element, Layout::contiguous(value.shape()));
        let mut buffer = own(value, frame)?;
        copy(&update, &mut buffer, &target)?;
        Ok(Tensor::with_layout(element, layout, buffer))
    })
}

/// True when the value is all of its buffer, in order.
fn is_whole(value: &Tensor) -> bool {
    value.layout.is_contiguous()
        && value.layout.offset() == 0
        && value.element.bytes_of(value.count()) == Some(value.storage.bytes().len())
}

/// The elements in a buffer that nothing else uses.
fn own(value: Tensor, frame: &Frame<'_>) -> Outcome<Buffer> {
    let (element, layout) = (value.element, Layout::contiguous(value.shape()));
    let value = if is_whole(&value) {
        match Arc::try_unwrap(value.storage.into_shared()) {
            Ok(buffer) => return Ok(buffer),
            Err(shared) => {
                Tensor { element, layout: layout.clone(), storage: Storage::new(shared) }
            }
        }
    } else {
        value
    };
    let mut buffer = frame.pool.take_elements(element, layout.count())?;
    copy(&value, &mut buffer, &layout)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(begin: i64, end: i64, stride: i64, masks: [bool; 3]) -> (usize, isize, usize) {
        let masks = masks.map(|mask| vec![mask]);
        let masks = [Some(masks[0].as_slice()), Some(&masks[1]), Some(&masks[2])];
        let region = resolve(&[10], &[begin], &[end], &[stride], masks).unwrap();
        (region.begin[0], region.steps[0], region.count[0])
    }

    #[test]
    fn bounds_follow_numpy() {
        let none = [false; 3];
        assert_eq!(region(2, 5, 1, none), (2, 1, 3));
        assert_eq!(region(-3, -1, 1, none), (7, 1, 2));
        assert_eq!(region(0, 10, 3, none), (0, 3, 4));
        assert_eq!(region(0, 99, 1, none), (0, 1, 10));
        assert_eq!(region(5, 2, 1, none), (0, 1, 0));
        assert_eq!(region(8, 2, -2, none), (8, -2, 3));
        assert_eq!(region(7, 0, 1, [true, true, false]), (0, 1, 10));
        assert_eq!(region(0, 0, -1, [true, true, false]), (9, -1, 10));
        assert_eq!(region(-2, 0, 1, [false, false, true]), (8, 1, 1));
        assert_eq!(region(i64::MIN, i64::MAX, 1, none), (0, 1, 10));
    }

    #[test]
    fn bad_bounds_are_refused() {
        let squeezed = [None, None, Some([true].as_slice())];
        assert!(resolve(&[3], &[3], &[4], &[1], squeezed).is_err());
        assert!(resolve(&[3], &[0], &[3], &[0], [None; 3]).is_err());
    }
}
