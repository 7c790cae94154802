//! `matmul`: products of matrices, batched and broadcast.

use super::{Call, Definition, Frame, Step, broadcast_shape, checked_count, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::Layout;
use crate::simd;
use crate::tensor::{Floats, Tensor};
use crate::walk::Walk;
use crate::workers;
use anemll_matrix::{Matrix, multiply_add};
use half::f16;

pub(super) const ALL: &[Definition] = &[Definition::new("matmul", matmul)];

/// `matmul`: the last two axes are matrices (either may be transposed), the others broadcast.
fn matmul(call: &Call<'_>) -> Outcome<Step> {
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    let transpose_x = call.boolean("transpose_x", false)?;
    let transpose_y = call.boolean("transpose_y", false)?;
    let element = call.element()?;
    step(move |frame| {
        let (x, y) = (x.get(frame)?, y.get(frame)?);
        // A vector on the left is a row, on the right a column; its axis goes from the result.
        let row = x.viewed(x.layout.reshaped(&promoted(x.shape(), true)));
        let column = y.viewed(y.layout.reshaped(&promoted(y.shape(), false)));
        let result = product(frame, &row, &column, [transpose_x, transpose_y], element)?;
        if x.rank() > 1 && y.rank() > 1 {
            return Ok(result);
        }
        let mut shape = result.shape().to_vec();
        let last = shape.len() - 1;
        if y.rank() == 1 {
            shape.remove(last);
        }
        if x.rank() == 1 {
            shape.remove(last - 1);
        }
        Ok(result.viewed(result.layout.reshaped(&shape)))
    })
}

fn promoted(shape: &[usize], left: bool) -> Vec<usize> {
    match shape {
        [size] if left => vec![1, *size],
        [size] => vec![*size, 1],
        _ => shape.to_vec(),
    }
}

/// Matrices of one operand: strides along rows and columns after any transposition.
struct Operand<'a> {
    values: Floats<'a>,
    rows: usize,
    columns: usize,
    strides: [isize; 2],
}

/// The value in a layout whose last two axes have one stride each, its batch layout and strides.
pub(crate) fn matrices(frame: &Frame<'_>, x: &Tensor) -> Outcome<(Tensor, Layout, [isize; 2])> {
    if let Some((batch, strides)) = x.layout.matrices() {
        return Ok((x.clone(), batch, strides));
    }
    let x = x.contiguous(frame.pool)?;
    match x.layout.matrices() {
        Some((batch, strides)) => Ok((x, batch, strides)),
        None => invalid(format!("shape {:?} holds no matrices", x.shape())),
    }
}

impl<'a> Operand<'a> {
    fn new(tensor: &'a Tensor, strides: [isize; 2], transposed: bool) -> Outcome<Self> {
        let (rows, columns) =
            (tensor.shape()[tensor.rank() - 2], tensor.shape()[tensor.rank() - 1]);
        let values = Floats::whole(tensor)?;
        Ok(if transposed {
            Self { values, rows: columns, columns: rows, strides: [strides[1], strides[0]] }
        } else {
            Self { values, rows, columns, strides }
        })
    }

    /// The matrix at `start` as f32; fp16 is widened into `scratch`.
    fn widened<'s>(&'s self, start: usize, scratch: &'s mut Vec<f32>) -> Outcome<Matrix<'s>> {
        let [row_stride, column_stride] = self.strides;
        let sizes = [self.rows, self.columns];
        let halves = match self.values {
            Floats::F32(data) => return Ok(Matrix::new(data, start, sizes, self.strides)?),
            Floats::F16(halves) => halves,
        };
        // Lines run along the axis of stride 1, if there is one.
        let by_column = row_stride == 1 && column_stride != 1;
        let (lines, length, line_stride, step) = if by_column {
            (self.columns, self.rows, column_stride, row_stride)
        } else {
            (self.rows, self.columns, row_stride, column_stride)
        };
        scratch.resize(lines * length, 0.0);
        for (index, line) in scratch.chunks_exact_mut(length.max(1)).enumerate() {
            let at = start as isize + line_stride * index as isize;
            if step == 1 {
                simd::widen(&halves[at as usize..at as usize + length], line);
            } else {
                for (i, value) in line.iter_mut().enumerate() {
                    *value = halves[(at + step * i as isize) as usize].to_f32();
                }
            }
        }
        let strides = if by_column { [1, length as isize] } else { [length as isize, 1] };
        Ok(Matrix::new(scratch, 0, sizes, strides)?)
    }
}

fn product(
    frame: &Frame<'_>,
    x: &Tensor,
    y: &Tensor,
    [transpose_x, transpose_y]: [bool; 2],
    element: Element,
) -> Outcome<Tensor> {
    let (x, x_batch, x_strides) = matrices(frame, x)?;
    let (y, y_batch, y_strides) = matrices(frame, y)?;
    let left = Operand::new(&x, x_strides, transpose_x)?;
    let right = Operand::new(&y, y_strides, transpose_y)?;
    if left.columns != right.rows {
        return invalid(format!(
            "{:?}{} times {:?}{}",
            x.shape(),
            if transpose_x { " transposed" } else { "" },
            y.shape(),
            if transpose_y { " transposed" } else { "" }
        ));
    }
    let batch = broadcast_shape(x_batch.shape(), y_batch.shape())?;
    let (Some(x_batch), Some(y_batch)) = (x_batch.broadcast(&batch), y_batch.broadcast(&batch))
    else {
        return product(
            frame,
            &x.contiguous(frame.pool)?,
            &y.contiguous(frame.pool)?,
            [transpose_x, transpose_y],
            element,
        );
    };
    let Some(walk) = Walk::new([&x_batch, &y_batch]) else {
        return product(
            frame,
            &x.contiguous(frame.pool)?,
            &y.contiguous(frame.pool)?,
            [transpose_x, transpose_y],
            element,
        );
    };
    let starts = if batch.contains(&0) { Vec::new() } else { walk.starts() };
    let shape = [batch.as_slice(), &[left.rows, right.columns]].concat();
    let mut buffer = frame.pool.take_elements(element, checked_count(&shape)?)?;
    let each = left.rows * right.columns;
    let cost = starts.len() * each * left.columns;
    macro_rules! fill {
        ($kind:ty, $store:expr) => {
            workers::split(frame.team, buffer.slice_mut::<$kind>(), each, cost, |start, part| {
                let mut scratch = Scratch::default();
                scratch.output.resize(each, 0.0);
                for (index, output) in part.chunks_exact_mut(each.max(1)).enumerate() {
                    single(&left, &right, starts[start / each + index], &mut scratch)?;
                    $store(&scratch.output, output);
                }
                Ok(())
            })?
        };
    }
    match element {
        Element::F16 => fill!(f16, simd::narrow),
        Element::F32 => fill!(f32, |wide: &[f32], output: &mut [f32]| output.copy_from_slice(wide)),
        other => return unsupported(format!("a product of type {}", other.name())),
    }
    Ok(Tensor::owned(element, &shape, buffer))
}

/// Buffers that are reused from one matrix to the next.
#[derive(Default)]
struct Scratch {
    left: Vec<f32>,
    right: Vec<f32>,
    output: Vec<f32>,
    /// Where the right matrix in `right` came from, so that neighbours that share it (grouped
    /// heads) widen it once.
    right_start: Option<usize>,
}

/// One product into `scratch.output`, row-major.
fn single(
    left: &Operand<'_>,
    right: &Operand<'_>,
    [left_start, right_start]: [usize; 2],
    scratch: &mut Scratch,
) -> Outcome<()> {
    let (rows, depth, columns) = (left.rows, left.columns, right.columns);
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    if depth == 0 {
        scratch.output.fill(0.0);
        return Ok(());
    }
    let Scratch { left: left_wide, right: right_wide, output, right_start: cached } = scratch;
    let left_matrix = left.widened(left_start, left_wide)?;
    if let (1, Floats::F16(halves)) = (rows, right.values) {
        let factor = |k: usize| left_matrix.at(0, k);
        // One row: read the fp16 matrix once, without widening it to memory.
        match right.strides {
            [1, stride] if stride == depth as isize || columns == 1 => {
                let vector: Vec<f32> = (0..depth).map(factor).collect();
                let lines = &halves[right_start..right_start + columns * depth];
                simd::rows_times_vector(lines, &vector, output);
                return Ok(());
            }
            [stride, 1] if stride >= 0 => {
                let factors: Vec<f32> = (0..depth).map(factor).collect();
                let rows = &halves[right_start..];
                simd::weighted_sums(rows, stride as usize, &[&factors], output);
                return Ok(());
            }
            _ => {}
        }
    }
    let right_matrix = if *cached == Some(right_start) && matches!(right.values, Floats::F16(_)) {
        // Strides do not depend on the place, so an empty matrix of the same operand tells them.
        let by_column = right.strides[0] == 1 && right.strides[1] != 1;
        let strides = if by_column { [1, depth as isize] } else { [columns as isize, 1] };
        Matrix::new(right_wide, 0, [depth, columns], strides)?
    } else {
        *cached = Some(right_start);
        right.widened(right_start, right_wide)?
    };
    multiply_add(output, [columns as isize, 1], 0.0, 1.0, left_matrix, right_matrix)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Pool;
    use crate::testing::Random;
    use crate::workers::Team;
    use anemll_plugin_api::Host;

    /// Product by counting, in f64, of contiguous operands with equal batch shapes.
    fn naive(x: &Tensor, y: &Tensor, transposed: [bool; 2]) -> Vec<f64> {
        let sizes = |t: &Tensor, turn: bool| {
            let (a, b) = (t.shape()[t.rank() - 2], t.shape()[t.rank() - 1]);
            if turn { (b, a) } else { (a, b) }
        };
        let ((rows, depth), (_, columns)) = (sizes(x, transposed[0]), sizes(y, transposed[1]));
        let (xs, ys) = (x.floats().unwrap(), y.floats().unwrap());
        let at = |turn: bool, a: usize, b: usize, rows: usize, columns: usize| {
            if turn { b * rows + a } else { a * columns + b }
        };
        let mut result = Vec::new();
        for batch in 0..xs.len() / (rows * depth) {
            let (left, right) = (&xs[batch * rows * depth..], &ys[batch * depth * columns..]);
            for i in 0..rows {
                for j in 0..columns {
                    result.push(
                        (0..depth)
                            .map(|k| {
                                f64::from(left[at(transposed[0], i, k, rows, depth)])
                                    * f64::from(right[at(transposed[1], k, j, depth, columns)])
                            })
                            .sum(),
                    );
                }
            }
        }
        result
    }

    fn random_halves(random: &mut Random, shape: &[usize]) -> Tensor {
        let count = shape.iter().product();
        let values: Vec<f16> = (0..count).map(|_| f16::from_f32(random.unit())).collect();
        Tensor::from_slice(Element::F16, shape, &values)
    }

    #[test]
    fn products_of_all_orientations_match() {
        let mut random = Random::new(11);
        let (pool, host) = (Pool::default(), Host::quiet());
        let frame =
            Frame { slots: Vec::new(), states: &mut [], pool: &pool, team: &Team::new(&host) };
        for (rows, depth, columns) in [(1, 16, 5), (1, 7, 33), (4, 9, 6), (3, 1, 2), (2, 5, 1)] {
            for transposed in [[false, false], [true, false], [false, true], [true, true]] {
                let turn = |a, b, turned| if turned { [2, 3, b, a] } else { [2, 3, a, b] };
                let x = random_halves(&mut random, &turn(rows, depth, transposed[0]));
                let y = random_halves(&mut random, &turn(depth, columns, transposed[1]));
                let result = product(&frame, &x, &y, transposed, Element::F32).unwrap();
                assert_eq!(result.shape(), [2, 3, rows, columns]);
                let expected = naive(&x, &y, transposed);
                for (value, exact) in result.floats().unwrap().iter().zip(expected) {
                    assert!((f64::from(*value) - exact).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn grouped_heads_read_the_cache_through_a_view() {
        let mut random = Random::new(5);
        let (pool, host) = (Pool::default(), Host::quiet());
        let frame =
            Frame { slots: Vec::new(), states: &mut [], pool: &pool, team: &Team::new(&host) };
        for rows in [1, 4] {
            let cache = random_halves(&mut random, &[4, 2, 16, 8]);
            let query = random_halves(&mut random, &[1, 6, rows, 8]);
            let row = cache.layout.sliced(&[1, 0, 0, 0], &[1; 4], &[1, 2, 10, 8]).unwrap();
            let row = row.reshaped(&[2, 1, 10, 8]).tiled(&[1, 3, 1, 1]).unwrap();
            let keys = cache.viewed(row.reshaped(&[1, 6, 10, 8]));
            let copied = keys.contiguous(&pool).unwrap();
            let result = product(&frame, &query, &keys, [false, true], Element::F32).unwrap();
            assert_eq!(result.shape(), [1, 6, rows, 10]);
            let expected = naive(&query, &copied, [false, true]);
            for (value, exact) in result.floats().unwrap().iter().zip(expected) {
                assert!((f64::from(*value) - exact).abs() < 1e-5);
            }
            let values = random_halves(&mut random, &[1, 6, rows, 10]);
            let result = product(&frame, &values, &keys, [false, false], Element::F32).unwrap();
            let expected = naive(&values, &copied, [false, false]);
            for (value, exact) in result.floats().unwrap().iter().zip(expected) {
                assert!((f64::from(*value) - exact).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn batches_broadcast() {
        let (pool, host) = (Pool::default(), Host::quiet());
        let frame =
            Frame { slots: Vec::new(), states: &mut [], pool: &pool, team: &Team::new(&host) };
        let x = Tensor::from_slice(Element::F32, &[3, 1, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let y = Tensor::from_slice(Element::F32, &[2, 1], &[10.0f32, 1.0]);
        let result = product(&frame, &x, &y, [false, false], Element::F32).unwrap();
        assert_eq!(result.shape(), [3, 1, 1]);
        assert_eq!(result.floats().unwrap(), [12.0, 34.0, 56.0]);
        assert!(product(&frame, &y, &y, [false, false], Element::F32).is_err());
    }
}
