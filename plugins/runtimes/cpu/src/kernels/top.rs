//! Sorting and the largest elements.

use super::elementwise::from_integers;
use super::rows::Rows;
use super::{Call, Definition, Results, Step, axis_index};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::Layout;
use crate::storage::Buffer;
use crate::tensor::{Tensor, from_wide};
use smallvec::smallvec;
use std::cmp::Ordering;

pub(super) const ALL: &[Definition] =
    &[Definition::new("argsort", argsort), Definition::new("topk", topk)];

/// Descending (or ascending) order; NaN comes last; equal elements keep their order.
fn sorted(row: &[f32], ascending: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| match (row[a].is_nan(), row[b].is_nan()) {
        (false, false) => {
            let ordering = row[a].partial_cmp(&row[b]).unwrap_or(Ordering::Equal);
            if ascending { ordering } else { ordering.reverse() }
        }
        (a, b) => a.cmp(&b),
    });
    order
}

/// `topk`: the k largest (or smallest) elements along an axis, sorted, and their positions.
fn topk(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let k = call.integer("k")?.unwrap_or(1);
    let axis = call.integer("axis")?.unwrap_or(-1);
    let ascending = call.boolean("ascending", false)?;
    let outputs: Vec<Element> = call.outputs.iter().map(|(element, _)| *element).collect();
    Ok(Box::new(move |frame| {
        let x = x.get(frame)?;
        let axis = axis_index(axis, x.rank())?;
        let size = x.shape()[axis];
        let k = match usize::try_from(k) {
            Ok(k) if k <= size => k,
            _ if k == -1 => size,
            _ => return invalid(format!("{k} largest of {size} elements")),
        };
        if !matches!(x.element, Element::F16 | Element::F32) {
            return unsupported(format!("topk of {} values", x.element.name()));
        }
        let rows = Rows::new(frame, x, &[axis])?;
        let mut row = vec![0.0; rows.width];
        let (mut values, mut positions) = (Vec::new(), Vec::new());
        for index in 0..rows.count() {
            rows.load(index, &mut row)?;
            for position in sorted(&row, ascending).into_iter().take(k) {
                values.push(row[position]);
                positions.push(position as i64);
            }
        }
        let mut shape: Vec<usize> = x.shape().to_vec();
        shape.remove(axis);
        shape.push(k);
        let back = |tensor: Tensor| {
            let mut order: Vec<usize> = (0..shape.len() - 1).collect();
            order.insert(axis, shape.len() - 1);
            super::shape::view(&tensor, frame.pool, |layout| layout.permuted(&order))
        };
        let layout = Layout::contiguous(&shape);
        let values = from_wide(x.element, layout, Buffer::from_slice(&values), frame.pool)?;
        let mut results: Results = smallvec![back(values)?];
        if let Some(&element) = outputs.get(1) {
            results.push(back(from_integers(element, &shape, &positions)?)?);
        }
        Ok(results)
    }))
}

/// `argsort`: positions in sorted order along an axis.
fn argsort(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let axis = call.integer("axis")?.unwrap_or(-1);
    let ascending = call.boolean("ascending", false)?;
    let element = call.element()?;
    super::step(move |frame| {
        let x = x.get(frame)?;
        let axis = axis_index(axis, x.rank())?;
        if axis + 1 != x.rank() || !matches!(x.element, Element::F16 | Element::F32) {
            return unsupported("argsort other than of floats along the last axis");
        }
        let rows = Rows::new(frame, x, &[axis])?;
        let mut row = vec![0.0; rows.width];
        let mut positions = Vec::new();
        for index in 0..rows.count() {
            rows.load(index, &mut row)?;
            positions.extend(sorted(&row, ascending).into_iter().map(|p| p as i64));
        }
        from_integers(element, x.shape(), &positions)
    })
}

#[cfg(test)]
mod tests {
    use crate::element::Element;
    use crate::testing::{evaluate_all, f16s, flag, i32s};

    #[test]
    fn the_largest_come_sorted_with_their_positions() {
        let x = || f16s(&[3, 2], &[1.0, 9.0, 5.0, f32::NAN, 5.0, 8.0]);
        let top = |ascending: bool| {
            let arguments = vec![
                ("x", x().into()),
                ("k", i32s(&[], &[2]).into()),
                ("axis", i32s(&[], &[0]).into()),
                ("ascending", flag(ascending).into()),
            ];
            evaluate_all("topk", arguments, &[Element::F16, Element::I32]).unwrap()
        };
        let largest = top(false);
        assert_eq!(largest[0].shape(), [2, 2]);
        assert_eq!(largest[0].floats().unwrap(), [5.0, 9.0, 5.0, 8.0]);
        assert_eq!(largest[1].integers().unwrap(), [1, 0, 2, 2]);
        assert_eq!(top(true)[1].integers().unwrap(), [0, 2, 1, 0]);
        let many = vec![("x", x().into()), ("k", i32s(&[], &[4]).into())];
        assert!(evaluate_all("topk", many, &[Element::F16, Element::I32]).is_err());
    }
}
