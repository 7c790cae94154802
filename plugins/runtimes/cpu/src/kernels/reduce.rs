//! Reductions along axes.

use super::elementwise::from_integers;
use super::rows::{Rows, fold_squares, maximum, minimum, sum};
use super::{Call, Definition, Frame, Input, Step, axis_index, axis_indices, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::Layout;
use crate::simd;
use crate::tensor::{Tensor, from_wide};

pub(super) const ALL: &[Definition] = &[
    Definition::new("reduce_argmax", argument),
    Definition::new("reduce_argmin", argument),
    Definition::new("reduce_l1_norm", reduce),
    Definition::new("reduce_l2_norm", reduce),
    Definition::new("reduce_log_sum", reduce),
    Definition::new("reduce_log_sum_exp", reduce),
    Definition::new("reduce_max", reduce),
    Definition::new("reduce_mean", reduce),
    Definition::new("reduce_min", reduce),
    Definition::new("reduce_prod", reduce),
    Definition::new("reduce_sum", reduce),
    Definition::new("reduce_sum_square", reduce),
];

/// A row of f32 to its one result.
type Reduction = fn(&[f32]) -> f32;

fn log_sum_exp(row: &[f32]) -> f32 {
    let largest = maximum(row);
    if largest.is_infinite() {
        return largest;
    }
    largest + row.iter().map(|value| (value - largest).exp()).sum::<f32>().ln()
}

fn reduction(name: &str) -> Outcome<Reduction> {
    Ok(match name {
        "reduce_l1_norm" => |row| row.iter().map(|value| value.abs()).sum(),
        "reduce_l2_norm" => |row| fold_squares(row).sqrt(),
        "reduce_log_sum" => |row| sum(row).ln(),
        "reduce_log_sum_exp" => log_sum_exp,
        "reduce_max" => |row| simd::widest(|| maximum(row)),
        "reduce_mean" => |row| simd::widest(|| sum(row)) / row.len() as f32,
        "reduce_min" => |row| simd::widest(|| minimum(row)),
        "reduce_prod" => |row| row.iter().product(),
        "reduce_sum" => |row| simd::widest(|| sum(row)),
        "reduce_sum_square" => |row| fold_squares(row),
        other => return unsupported(format!("operation `{other}`")),
    })
}

fn integer_reduction(name: &str, row: &[i64]) -> Outcome<i64> {
    let fold = |start: i64, combine: fn(i64, i64) -> i64| row.iter().copied().fold(start, combine);
    Ok(match name {
        "reduce_max" => fold(i64::MIN, i64::max),
        "reduce_min" => fold(i64::MAX, i64::min),
        "reduce_sum" => fold(0, i64::wrapping_add),
        "reduce_prod" => fold(1, i64::wrapping_mul),
        "reduce_mean" => fold(0, i64::wrapping_add) / (row.len() as i64).max(1),
        other => return unsupported(format!("`{other}` of integers")),
    })
}

/// The shape with the given axes set to 1, or left out.
fn reduced_shape(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let sizes = shape.iter().enumerate();
    sizes
        .filter(|(axis, _)| keep || !axes.contains(axis))
        .map(|(axis, &size)| if axes.contains(&axis) { 1 } else { size })
        .collect()
}

fn reduce(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let axes = call.integers("axes")?;
    let keep = call.boolean("keep_dims", false)?;
    let name = call.operation.to_owned();
    let reduction = reduction(&name)?;
    step(move |frame| {
        let x = x.get(frame)?;
        let axes = match &axes {
            Some(axes) => axis_indices(axes, x.rank())?,
            None => (0..x.rank()).collect(),
        };
        let shape = reduced_shape(x.shape(), &axes, keep);
        let rows = Rows::new(frame, x, &axes)?;
        if rows.width == 0 {
            return invalid(format!("nothing to reduce in shape {:?}", x.shape()));
        }
        if !x.element.is_float() {
            let values = rows.tensor.integers()?;
            let rows = values.chunks_exact(rows.width);
            let results: Vec<i64> =
                rows.map(|row| integer_reduction(&name, row)).collect::<Outcome<_>>()?;
            return from_integers(x.element, &shape, &results);
        }
        let mut wide = frame.pool.take_elements(Element::F32, rows.count())?;
        let mut row = vec![0.0; rows.width];
        for (index, result) in wide.slice_mut::<f32>().iter_mut().enumerate() {
            rows.load(index, &mut row)?;
            *result = reduction(&row);
        }
        from_wide(x.element, Layout::contiguous(&shape), wide, frame.pool)
    })
}

/// The position of the first extreme element; the first NaN counts as extreme.
fn extreme(row: &[f32], largest: bool) -> usize {
    let mut best = 0;
    for (index, &value) in row.iter().enumerate() {
        let better = if largest { value > row[best] } else { value < row[best] };
        if (better || value.is_nan()) && !row[best].is_nan() {
            best = index;
        }
    }
    best
}

/// `reduce_argmax` and `reduce_argmin`: the first position of the extreme element.
fn argument(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let axis = call.integer("axis")?.unwrap_or(-1);
    let keep = call.boolean("keep_dims", false)?;
    let element = call.element()?;
    let largest = call.operation == "reduce_argmax";
    step(move |frame| positions(frame, &x, axis, keep, element, largest))
}

fn positions(
    frame: &Frame<'_>,
    x: &Input,
    axis: i64,
    keep: bool,
    element: Element,
    largest: bool,
) -> Outcome<Tensor> {
    let x = x.get(frame)?;
    let axis = axis_index(axis, x.rank())?;
    let shape = reduced_shape(x.shape(), &[axis], keep);
    let rows = Rows::new(frame, x, &[axis])?;
    if rows.width == 0 {
        return invalid(format!("nothing to compare in shape {:?}", x.shape()));
    }
    let results: Vec<i64> = if x.element.is_float() {
        let mut row = vec![0.0; rows.width];
        let mut results = Vec::with_capacity(rows.count());
        for index in 0..rows.count() {
            rows.load(index, &mut row)?;
            results.push(extreme(&row, largest) as i64);
        }
        results
    } else {
        let values = rows.tensor.integers()?;
        let best = |row: &[i64]| {
            let positions = 0..row.len();
            let found = if largest {
                positions.min_by_key(|&index| (std::cmp::Reverse(row[index]), index))
            } else {
                positions.min_by_key(|&index| (row[index], index))
            };
            found.unwrap_or(0) as i64
        };
        values.chunks_exact(rows.width).map(best).collect()
    };
    from_integers(element, &shape, &results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{evaluate, f16s, f32s, flag, i32s};

    #[test]
    fn extremes_are_first_and_nan_wins() {
        assert_eq!(extreme(&[1.0, 3.0, 3.0, 2.0], true), 1);
        assert_eq!(extreme(&[1.0, -3.0, -3.0], false), 1);
        assert_eq!(extreme(&[1.0, f32::NAN, 9.0, f32::NAN], true), 1);
        assert_eq!(extreme(&[f32::NEG_INFINITY; 3], true), 0);
    }

    #[test]
    fn log_sum_exp_survives_large_values() {
        assert!((log_sum_exp(&[1000.0, 1000.0]) - 1_000.693_1).abs() < 1e-3);
        assert_eq!(log_sum_exp(&[f32::NEG_INFINITY; 2]), f32::NEG_INFINITY);
    }

    #[test]
    fn reductions_over_axes() {
        let x = || f32s(&[2, 3], &[1.0, -2.0, 3.0, 4.0, 5.0, -6.0]);
        let over = |operation: &str, axes: &[i32], keep: bool| {
            let arguments = vec![
                ("x", x().into()),
                ("axes", i32s(&[axes.len()], axes).into()),
                ("keep_dims", flag(keep).into()),
            ];
            evaluate(operation, arguments, Element::F32).unwrap()
        };
        assert_eq!(over("reduce_sum", &[1], false).floats().unwrap(), [2.0, 3.0]);
        assert_eq!(over("reduce_max", &[0], true).shape(), [1, 3]);
        assert_eq!(over("reduce_max", &[0], true).floats().unwrap(), [4.0, 5.0, 3.0]);
        assert_eq!(over("reduce_mean", &[0, 1], false).floats().unwrap(), [5.0 / 6.0]);
        assert_eq!(over("reduce_sum_square", &[1], false).floats().unwrap(), [14.0, 77.0]);
        assert_eq!(over("reduce_prod", &[1], false).floats().unwrap(), [-6.0, -120.0]);
        assert_eq!(over("reduce_min", &[-1], false).floats().unwrap(), [-2.0, -6.0]);
    }

    #[test]
    fn positions_of_the_largest() {
        let arguments = vec![
            ("x", f16s(&[1, 2, 3], &[1.0, 7.0, 7.0, 5.0, -1.0, 2.0]).into()),
            ("axis", i32s(&[], &[-1]).into()),
            ("keep_dims", flag(true).into()),
        ];
        let result = evaluate("reduce_argmax", arguments, Element::I32).unwrap();
        assert_eq!(result.shape(), [1, 2, 1]);
        assert_eq!(result.integers().unwrap(), [1, 0]);
    }
}
