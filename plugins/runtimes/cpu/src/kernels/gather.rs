//! Picking elements by index.

use super::{Call, Definition, Frame, Step, Weight, axis_index, checked_count, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid};
use crate::packed::Packed;
use crate::tensor::Tensor;
use half::f16;

pub(super) const ALL: &[Definition] =
    &[Definition::new("gather", gather), Definition::new("gather_along_axis", gather_along_axis)];

/// The element of `axis` that a run-time index names; negative indices count from the end.
fn position(index: i64, size: usize) -> Outcome<usize> {
    let from_start = if index < 0 { index.saturating_add(size as i64) } else { index };
    match usize::try_from(from_start) {
        Ok(position) if position < size => Ok(position),
        _ => invalid(format!("index {index} of an axis of size {size}")),
    }
}

/// `gather`: result = x's axes before `axis`, the indices' axes, x's axes after it.
fn gather(call: &Call<'_>) -> Outcome<Step> {
    let (x, indices) = (call.weight("x")?, call.tensor("indices")?);
    let axis = call.integer("axis")?.unwrap_or(0);
    let batch = call.integer("batch_dims")?.unwrap_or(0);
    step(move |frame| {
        let x = match &x {
            Weight::Packed(packed) if axis == 0 && batch == 0 => {
                return packed_rows(frame, packed, indices.get(frame)?);
            }
            Weight::Packed(packed) => packed.decoded()?,
            Weight::Tensor(input) => input.get(frame)?.contiguous(frame.pool)?,
        };
        let indices = indices.get(frame)?;
        let axis = axis_index(axis, x.rank())?;
        let Ok(batch) = usize::try_from(batch) else {
            return invalid(format!("batch_dims {batch}"));
        };
        if batch > axis || batch > indices.rank() || x.shape()[..batch] != indices.shape()[..batch]
        {
            return invalid(format!(
                "batch_dims {batch} with x {:?} and indices {:?}",
                x.shape(),
                indices.shape()
            ));
        }
        let shape =
            [&x.shape()[..axis], &indices.shape()[batch..], &x.shape()[axis + 1..]].concat();
        let list = indices.integers()?;
        let size = x.shape()[axis];
        let positions: Vec<usize> =
            list.into_iter().map(|index| position(index, size)).collect::<Outcome<_>>()?;
        let batches: usize = x.shape()[..batch].iter().product();
        let middle: usize = x.shape()[batch..axis].iter().product();
        let inner: usize = x.shape()[axis + 1..].iter().product();
        let each = positions.len() / batches.max(1);
        let width = x.element.size() * inner;
        let mut buffer = frame.pool.take_elements(x.element, checked_count(&shape)?)?;
        if width > 0 {
            let start = x.layout.offset() * x.element.size();
            let source = &x.storage.bytes()[start..];
            let mut pieces = buffer.bytes_mut().chunks_exact_mut(width);
            for outer in 0..batches * middle {
                let own = &positions[outer / middle * each..][..each];
                for (position, piece) in own.iter().zip(&mut pieces) {
                    let at = (outer * size + position) * width;
                    piece.copy_from_slice(&source[at..at + width]);
                }
            }
        }
        Ok(Tensor::owned(x.element, &shape, buffer))
    })
}

/// Rows of a packed weight, which alone are decoded.
fn packed_rows(frame: &Frame<'_>, packed: &Packed, indices: &Tensor) -> Outcome<Tensor> {
    let Some((&size, row)) = packed.shape().split_first() else {
        return invalid("a weight has no axis");
    };
    let shape = [indices.shape(), row].concat();
    let width: usize = row.iter().product();
    let mut buffer = frame.pool.take_elements(Element::F16, checked_count(&shape)?)?;
    let list = indices.integers()?;
    // Without elements, indices are checked all the same.
    let mut rows = buffer.slice_mut::<f16>().chunks_exact_mut(width.max(1));
    for index in list {
        let position = position(index, size)?;
        if let Some(row) = rows.next() {
            packed.fill(position * width, row);
        }
    }
    Ok(Tensor::owned(Element::F16, &shape, buffer))
}

/// `gather_along_axis`: result[.., i, ..] = x[.., indices[.., i, ..], ..].
fn gather_along_axis(call: &Call<'_>) -> Outcome<Step> {
    let (x, indices) = (call.tensor("x")?, call.tensor("indices")?);
    let axis = call.integer("axis")?.unwrap_or(0);
    step(move |frame| {
        let x = x.get(frame)?.contiguous(frame.pool)?;
        let indices = indices.get(frame)?;
        let axis = axis_index(axis, x.rank())?;
        let fits = indices.rank() == x.rank()
            && (0..x.rank()).all(|a| a == axis || indices.shape()[a] == x.shape()[a]);
        if !fits {
            return invalid(format!("x {:?} and indices {:?}", x.shape(), indices.shape()));
        }
        let (size, each) = (x.shape()[axis], indices.shape()[axis]);
        let inner: usize = x.shape()[axis + 1..].iter().product();
        let width = x.element.size();
        let shape = indices.shape().to_vec();
        let mut buffer = frame.pool.take_elements(x.element, indices.count())?;
        let start = x.layout.offset() * width;
        let source = &x.storage.bytes()[start..];
        let pieces = buffer.bytes_mut().chunks_exact_mut(width);
        for (flat, (index, piece)) in indices.integers()?.into_iter().zip(pieces).enumerate() {
            let (outer, column) = (flat / (each * inner), flat % inner);
            let at = ((outer * size + position(index, size)?) * inner + column) * width;
            piece.copy_from_slice(&source[at..at + width]);
        }
        Ok(Tensor::owned(x.element, &shape, buffer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{evaluate, f32s, i32s};

    fn numbered(shape: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
        f32s(shape, &values)
    }

    #[test]
    fn rows_and_columns_are_picked() {
        let pick = |axis: i32, indices: Tensor| {
            let arguments = vec![
                ("x", numbered(&[2, 3, 2]).into()),
                ("indices", indices.into()),
                ("axis", i32s(&[], &[axis]).into()),
            ];
            evaluate("gather", arguments, Element::F32)
        };
        let rows = pick(1, i32s(&[2], &[-1, 0])).unwrap();
        assert_eq!(rows.shape(), [2, 2, 2]);
        assert_eq!(rows.floats().unwrap(), [4.0, 5.0, 0.0, 1.0, 10.0, 11.0, 6.0, 7.0]);
        assert_eq!(pick(-1, i32s(&[], &[1])).unwrap().shape(), [2, 3]);
        let grid = pick(0, i32s(&[1, 2], &[1, 1])).unwrap();
        assert_eq!(grid.shape(), [1, 2, 3, 2]);
        for wrong in [2, -3, i32::MAX, i32::MIN] {
            let error = pick(0, i32s(&[1], &[wrong])).unwrap_err();
            assert!(error.to_string().contains(&wrong.to_string()));
        }
    }

    #[test]
    fn batches_pick_their_own() {
        let arguments = vec![
            ("x", numbered(&[2, 3]).into()),
            ("indices", i32s(&[2, 2], &[0, 2, 1, 1]).into()),
            ("axis", i32s(&[], &[1]).into()),
            ("batch_dims", i32s(&[], &[1]).into()),
        ];
        let result = evaluate("gather", arguments, Element::F32).unwrap();
        assert_eq!(result.floats().unwrap(), [0.0, 2.0, 4.0, 4.0]);
        let arguments = vec![
            ("x", numbered(&[2, 3]).into()),
            ("indices", i32s(&[1, 3], &[1, 0, -1]).into()),
            ("axis", i32s(&[], &[0]).into()),
        ];
        let result = evaluate("gather_along_axis", arguments, Element::F32).unwrap();
        assert_eq!(result.floats().unwrap(), [3.0, 1.0, 5.0]);
    }
}
