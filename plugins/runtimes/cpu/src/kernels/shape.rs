//! Operations that move or regroup elements without changing them. Most give views.

use super::elementwise::from_integers;
use super::{
    Call, Definition, Frame, Results, Step, axis_index, axis_indices, checked_count, step,
    view_step,
};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::Layout;
use crate::storage::Pool;
use crate::tensor::{Tensor, copy};

pub(super) const ALL: &[Definition] = &[
    Definition::new("concat", concat),
    Definition::new("expand_dims", expand_dims),
    Definition::new("fill", fill),
    Definition::new("identity", identity),
    Definition::new("range_1d", range),
    Definition::new("reshape", reshape),
    Definition::new("reverse", reverse),
    Definition::new("shape", shape_of),
    Definition::new("split", split),
    Definition::new("squeeze", squeeze),
    Definition::new("stack", stack),
    Definition::new("tile", tile),
    Definition::new("transpose", transpose),
];

/// A view that `make` gives of the value, or of its contiguous copy where the value itself allows
/// none.
pub(super) fn view(
    x: &Tensor,
    pool: &Pool,
    make: impl Fn(&Layout) -> Option<Layout>,
) -> Outcome<Tensor> {
    if let Some(layout) = make(&x.layout) {
        return Ok(x.viewed(layout));
    }
    let x = x.contiguous(pool)?;
    match make(&x.layout) {
        Some(layout) => Ok(x.viewed(layout)),
        None => invalid("a contiguous value has no such view"),
    }
}

fn identity(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    step(move |frame| Ok(x.get(frame)?.clone()))
}

/// `reshape`: 0 keeps the size of that axis, -1 takes what is left.
fn reshape(call: &Call<'_>) -> Outcome<Step> {
    let (x, shape) = (call.tensor("x")?, call.tensor("shape")?);
    let to = |x: &Tensor, wanted: &[i64]| {
        Ok(x.viewed(x.layout.reshaped(&resolve_shape(x.shape(), wanted)?)))
    };
    if let Some(shape) = shape.constant() {
        let wanted = shape.integers()?;
        return view_step(x, move |_, x| to(x, &wanted));
    }
    step(move |frame| to(x.get(frame)?, &shape.get(frame)?.integers()?))
}

fn resolve_shape(from: &[usize], wanted: &[i64]) -> Outcome<Vec<usize>> {
    let count = checked_count(from)?;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (axis, &size) in wanted.iter().enumerate() {
        match (size, usize::try_from(size)) {
            (-1, _) if open.is_none() => {
                open = Some(axis);
                shape.push(1);
            }
            (0, _) => match from.get(axis) {
                Some(&kept) => shape.push(kept),
                None => {
                    return invalid(format!("shape {wanted:?} keeps an axis that is not there"));
                }
            },
            (_, Ok(size)) => shape.push(size),
            _ => return invalid(format!("shape {wanted:?}")),
        }
    }
    let known = checked_count(&shape)?;
    if let Some(axis) = open
        && known > 0
    {
        shape[axis] = count / known;
    }
    if checked_count(&shape)? != count {
        return invalid(format!("shape {from:?} cannot become {wanted:?}"));
    }
    Ok(shape)
}

fn expand_dims(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let axes = call.integers("axes")?.unwrap_or_default();
    view_step(x, move |_, x| {
        let rank = x.rank() + axes.len();
        let inserted = axis_indices(&axes, rank)?;
        let mut sizes = x.shape().iter().copied();
        let shape: Vec<usize> = (0..rank)
            .map(|axis| if inserted.contains(&axis) { 1 } else { sizes.next().unwrap_or(1) })
            .collect();
        Ok(x.viewed(x.layout.reshaped(&shape)))
    })
}

/// `squeeze`: without axes, all axes of size 1 go.
fn squeeze(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let axes = call.integers("axes")?;
    view_step(x, move |_, x| {
        let removed = match &axes {
            Some(axes) => axis_indices(axes, x.rank())?,
            None => (0..x.rank()).filter(|&axis| x.shape()[axis] == 1).collect(),
        };
        if let Some(&axis) = removed.iter().find(|&&axis| x.shape()[axis] != 1) {
            return invalid(format!("axis {axis} of shape {:?} is not 1", x.shape()));
        }
        let kept = x.shape().iter().enumerate().filter(|(axis, _)| !removed.contains(axis));
        let shape: Vec<usize> = kept.map(|(_, &size)| size).collect();
        Ok(x.viewed(x.layout.reshaped(&shape)))
    })
}

fn transpose(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let permutation = call.integers("perm")?.unwrap_or_default();
    view_step(x, move |frame, x| {
        let order = axis_indices(&permutation, x.rank())?;
        if order.len() != x.rank() {
            return invalid(format!("perm {permutation:?} for shape {:?}", x.shape()));
        }
        view(x, frame.pool, |layout| layout.permuted(&order))
    })
}

fn reverse(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let axes = call.integers("axes")?;
    step(move |frame| {
        let x = x.get(frame)?;
        let turned = match &axes {
            Some(axes) => axis_indices(axes, x.rank())?,
            None => (0..x.rank()).collect(),
        };
        let begin: Vec<usize> = (0..x.rank())
            .map(|axis| if turned.contains(&axis) { x.shape()[axis].saturating_sub(1) } else { 0 })
            .collect();
        let steps: Vec<isize> =
            (0..x.rank()).map(|axis| if turned.contains(&axis) { -1 } else { 1 }).collect();
        view(x, frame.pool, |layout| layout.sliced(&begin, &steps, layout.shape()))
    })
}

fn tile(call: &Call<'_>) -> Outcome<Step> {
    let (x, repetitions) = (call.tensor("x")?, call.tensor("reps")?);
    let Some(wanted) = repetitions.constant().map(Tensor::integers).transpose()? else {
        return step(move |frame| {
            tiled(frame, x.get(frame)?, &repetitions.get(frame)?.integers()?)
        });
    };
    view_step(x, move |frame, x| tiled(frame, x, &wanted))
}

fn tiled(frame: &Frame<'_>, x: &Tensor, wanted: &[i64]) -> Outcome<Tensor> {
    let times: Vec<usize> = wanted.iter().filter_map(|&t| usize::try_from(t).ok()).collect();
    if times.len() != x.rank() || wanted.len() != x.rank() {
        return invalid(format!("reps {wanted:?} for shape {:?}", x.shape()));
    }
    let sizes = x.shape().iter().zip(&times);
    let shape: Option<Vec<usize>> = sizes.map(|(size, times)| size.checked_mul(*times)).collect();
    match shape {
        Some(shape) => checked_count(&shape)?,
        None => return invalid("the tiled shape is too large"),
    };
    view(x, frame.pool, |layout| layout.tiled(&times))
}

/// `concat`: one after the other, or element by element in turn when interleaved.
fn concat(call: &Call<'_>) -> Outcome<Step> {
    let values = call.tensors("values")?;
    let Some(axis) = call.integer("axis")? else { return invalid("argument `axis` is missing") };
    let interleave = call.boolean("interleave", false)?;
    step(move |frame| {
        let parts: Vec<&Tensor> = values.iter().map(|v| v.get(frame)).collect::<Outcome<_>>()?;
        let Some(first) = parts.first() else { return invalid("nothing to join") };
        let axis = axis_index(axis, first.rank())?;
        let mut shape = first.shape().to_vec();
        shape[axis] = 0;
        for part in &parts {
            let fits = part.rank() == shape.len()
                && part.element == first.element
                && (0..shape.len()).all(|a| a == axis || part.shape()[a] == shape[a])
                && (!interleave || part.shape() == first.shape());
            if !fits {
                return invalid(format!(
                    "cannot join {} {:?} with {} {:?} along axis {axis}",
                    first.element.name(),
                    first.shape(),
                    part.element.name(),
                    part.shape()
                ));
            }
            shape[axis] += part.shape()[axis];
        }
        let count = checked_count(&shape)?;
        let whole = Layout::contiguous(&shape);
        let mut buffer = frame.pool.take_elements(first.element, count)?;
        let mut offset = 0;
        for (index, part) in parts.iter().enumerate() {
            let mut begin = vec![0; shape.len()];
            let mut steps = vec![1; shape.len()];
            if interleave {
                begin[axis] = index;
                steps[axis] = parts.len() as isize;
            } else {
                begin[axis] = offset;
                offset += part.shape()[axis];
            }
            match whole.sliced(&begin, &steps, part.shape()) {
                Some(target) => copy(part, &mut buffer, &target)?,
                None => return invalid("a contiguous result has no such part"),
            }
        }
        Ok(Tensor::with_layout(first.element, whole, buffer))
    })
}

fn stack(call: &Call<'_>) -> Outcome<Step> {
    let values = call.tensors("values")?;
    let Some(axis) = call.integer("axis")? else { return invalid("argument `axis` is missing") };
    step(move |frame| {
        let parts: Vec<&Tensor> = values.iter().map(|v| v.get(frame)).collect::<Outcome<_>>()?;
        let Some(first) = parts.first() else { return invalid("nothing to stack") };
        let axis = axis_index(axis, first.rank() + 1)?;
        let mut shape = first.shape().to_vec();
        shape.insert(axis, parts.len());
        let whole = Layout::contiguous(&shape);
        let mut buffer = frame.pool.take_elements(first.element, checked_count(&shape)?)?;
        let mut one = shape.clone();
        one[axis] = 1;
        for (index, part) in parts.iter().enumerate() {
            if part.shape() != first.shape() || part.element != first.element {
                return invalid(format!("cannot stack {:?} on {:?}", part.shape(), first.shape()));
            }
            let mut begin = vec![0; shape.len()];
            begin[axis] = index;
            match whole.sliced(&begin, &vec![1; shape.len()], &one) {
                Some(target) => copy(part, &mut buffer, &target)?,
                None => return invalid("a contiguous result has no such part"),
            }
        }
        Ok(Tensor::with_layout(first.element, whole, buffer))
    })
}

fn split(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let Some(axis) = call.integer("axis")? else { return invalid("argument `axis` is missing") };
    let sizes = call.integers("split_sizes")?;
    let pieces = call.integer("num_splits")?;
    Ok(Box::new(move |frame| {
        let x = x.get(frame)?;
        let axis = axis_index(axis, x.rank())?;
        let total = x.shape()[axis];
        let sizes: Vec<usize> = match (&sizes, pieces) {
            (Some(sizes), _) => sizes.iter().filter_map(|&s| usize::try_from(s).ok()).collect(),
            (None, Some(pieces)) => match usize::try_from(pieces) {
                Ok(pieces) if pieces > 0 && total % pieces == 0 => vec![total / pieces; pieces],
                _ => return invalid(format!("{total} elements in {pieces} equal parts")),
            },
            (None, None) => return invalid("neither `split_sizes` nor `num_splits` is given"),
        };
        if sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)) != Some(total) {
            return invalid(format!("sizes {sizes:?} do not make up {total}"));
        }
        let mut begin = vec![0; x.rank()];
        let mut parts = Results::new();
        for size in sizes {
            let mut count = x.shape().to_vec();
            count[axis] = size;
            let steps = vec![1; x.rank()];
            parts.push(view(x, frame.pool, |layout| layout.sliced(&begin, &steps, &count))?);
            begin[axis] += size;
        }
        Ok(parts)
    }))
}

fn shape_of(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let element = call.element()?;
    step(move |frame| {
        let sizes: Vec<i64> = x.get(frame)?.shape().iter().map(|&size| size as i64).collect();
        from_integers(element, &[sizes.len()], &sizes)
    })
}

fn fill(call: &Call<'_>) -> Outcome<Step> {
    let (shape, value) = (call.tensor("shape")?, call.tensor("value")?);
    step(move |frame| {
        let wanted = shape.get(frame)?.integers()?;
        let shape: Vec<usize> = wanted.iter().filter_map(|&s| usize::try_from(s).ok()).collect();
        if shape.len() != wanted.len() {
            return invalid(format!("shape {wanted:?}"));
        }
        checked_count(&shape)?;
        let value = value.get(frame)?;
        if value.count() != 1 {
            return invalid("`value` must have one element");
        }
        view(&value.viewed(value.layout.reshaped(&[])), frame.pool, |one| one.broadcast(&shape))
    })
}

fn range(call: &Call<'_>) -> Outcome<Step> {
    let (start, end, stride) = (call.tensor("start")?, call.tensor("end")?, call.tensor("step")?);
    let element = call.element()?;
    step(move |frame| {
        let number = |input: &super::Input| input.get(frame)?.scalar();
        let (start, end, stride) = (number(&start)?, number(&end)?, number(&stride)?);
        let length = ((end - start) / stride).ceil();
        if !length.is_finite() || length > 1e9 {
            return invalid(format!("range from {start} to {end} by {stride}"));
        }
        let values = (0..length.max(0.0) as usize).map(|i| start + stride * i as f32);
        match element {
            Element::F32 => {
                let values: Vec<f32> = values.collect();
                Ok(Tensor::from_slice(element, &[values.len()], &values))
            }
            Element::F16 => {
                let values: Vec<half::f16> = values.map(half::f16::from_f32).collect();
                Ok(Tensor::from_slice(element, &[values.len()], &values))
            }
            _ if element.is_integer() => {
                let values: Vec<i64> = values.map(|value| value as i64).collect();
                from_integers(element, &[values.len()], &values)
            }
            other => unsupported(format!("a range of {}", other.name())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Given, evaluate, evaluate_all, f32s, flag, i32s};

    fn numbered(shape: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
        f32s(shape, &values)
    }

    #[test]
    fn reshape_keeps_and_infers_sizes() {
        assert_eq!(resolve_shape(&[2, 3, 4], &[0, -1]).unwrap(), [2, 12]);
        assert_eq!(resolve_shape(&[2, 3, 4], &[24]).unwrap(), [24]);
        assert_eq!(resolve_shape(&[1], &[]).unwrap(), [0usize; 0]);
        for wrong in [&[5, -1][..], &[-1, -1], &[2, 3], &[1, 24, 0, 0], &[-2, 12]] {
            assert!(resolve_shape(&[2, 3, 4], wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn concat_joins_and_interleaves() {
        let join = |axis: i32, interleave: bool| {
            let arguments = vec![
                ("values", Given::List(vec![numbered(&[2, 2]), f32s(&[2, 2], &[9.0; 4])])),
                ("axis", i32s(&[], &[axis]).into()),
                ("interleave", flag(interleave).into()),
            ];
            evaluate("concat", arguments, Element::F32).unwrap()
        };
        assert_eq!(join(-1, false).floats().unwrap(), [0.0, 1.0, 9.0, 9.0, 2.0, 3.0, 9.0, 9.0]);
        assert_eq!(join(0, false).shape(), [4, 2]);
        assert_eq!(join(1, true).floats().unwrap(), [0.0, 9.0, 1.0, 9.0, 2.0, 9.0, 3.0, 9.0]);
        assert_eq!(join(0, true).floats().unwrap(), [0.0, 1.0, 9.0, 9.0, 2.0, 3.0, 9.0, 9.0]);
        let uneven = vec![
            ("values", Given::List(vec![numbered(&[2, 2]), numbered(&[3, 3])])),
            ("axis", i32s(&[], &[0]).into()),
        ];
        assert!(evaluate("concat", uneven, Element::F32).is_err());
    }

    #[test]
    fn shapes_beyond_all_memory_are_refused() {
        let huge = i32s(&[3], &[i32::MAX; 3]);
        let arguments = vec![("x", numbered(&[1, 1, 1]).into()), ("reps", huge.clone().into())];
        assert!(evaluate("tile", arguments, Element::F32).is_err());
        let arguments = vec![("shape", huge.into()), ("value", f32s(&[], &[1.0]).into())];
        assert!(evaluate("fill", arguments, Element::F32).is_err());
    }

    #[test]
    fn axes_come_and_go() {
        let x = || numbered(&[2, 1, 3]);
        let with = |operation: &str, axes: &[i32]| {
            let arguments = vec![("x", x().into()), ("axes", i32s(&[axes.len()], axes).into())];
            evaluate(operation, arguments, Element::F32).map(|tensor| tensor.shape().to_vec())
        };
        assert_eq!(with("expand_dims", &[0, -1]).unwrap(), [1, 2, 1, 3, 1]);
        assert_eq!(with("squeeze", &[-2]).unwrap(), [2, 3]);
        assert!(with("squeeze", &[0]).is_err());
        assert!(with("expand_dims", &[0, 0]).is_err());
        assert!(with("squeeze", &[7]).is_err());
    }

    #[test]
    fn tile_split_stack_and_reverse() {
        let arguments = vec![("x", numbered(&[1, 2]).into()), ("reps", i32s(&[2], &[2, 2]).into())];
        let tiled = evaluate("tile", arguments, Element::F32).unwrap();
        assert_eq!(tiled.shape(), [2, 4]);
        assert_eq!(tiled.floats().unwrap(), [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        let arguments = vec![
            ("x", numbered(&[2, 3]).into()),
            ("axis", i32s(&[], &[1]).into()),
            ("split_sizes", i32s(&[2], &[1, 2]).into()),
        ];
        let parts = evaluate_all("split", arguments, &[Element::F32; 2]).unwrap();
        assert_eq!(parts[1].floats().unwrap(), [1.0, 2.0, 4.0, 5.0]);
        let arguments =
            vec![("values", Given::List(parts[..1].to_vec())), ("axis", i32s(&[], &[0]).into())];
        assert_eq!(evaluate("stack", arguments, Element::F32).unwrap().shape(), [1, 2, 1]);
        let arguments = vec![("x", numbered(&[2, 2]).into()), ("axes", i32s(&[1], &[1]).into())];
        let turned = evaluate("reverse", arguments, Element::F32).unwrap();
        assert_eq!(turned.floats().unwrap(), [1.0, 0.0, 3.0, 2.0]);
    }
}
