//! The product of fp16 or f32 weights with a few or many columns.

use super::Frame;
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::fixed::{self, Group, ROWS};
use crate::packed::Packed;
use crate::simd;
use crate::storage::Buffer;
use crate::tensor::Floats;
use crate::workers;
use anemll_matrix::{Matrix, multiply_add};
use std::borrow::Cow;

/// The rows of a matrix: elements that are there, or that are decoded as they are read.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    Dense(Floats<'a>),
    Packed(&'a Packed),
}

impl Rows<'_> {
    fn len(self) -> usize {
        match self {
            Self::Dense(values) => values.len(),
            Self::Packed(packed) => packed.count(),
        }
    }
}

/// Dot products of rows from number `first` on with each of the vectors, those of a row side by side.
/// Those with one vector do not depend on the others.
fn times_vectors(weights: Rows<'_>, first: usize, vectors: &[&[f32]], output: &mut [f32]) {
    let Some(depth) = vectors.first().map(|vector| vector.len()) else { return };
    let count = output.len() / vectors.len();
    let range = first * depth..(first + count) * depth;
    match weights {
        Rows::Dense(values) => match values.range(range) {
            Floats::F16(values) => simd::rows_times_vectors(values, vectors, output),
            Floats::F32(values) => simd::widest(|| {
                let rows = values.chunks_exact(depth.max(1));
                for (row, results) in rows.zip(output.chunks_exact_mut(vectors.len())) {
                    for (vector, result) in vectors.iter().zip(results) {
                        *result = simd::dot(row, vector);
                    }
                }
            }),
        },
        Rows::Packed(packed) => {
            let mut one = vec![0.0; count];
            for (column, vector) in vectors.iter().enumerate() {
                packed.times_vector(first, vector, &mut one);
                let every = output[column..].iter_mut().step_by(vectors.len());
                every.zip(&one).for_each(|(slot, value)| *slot = *value);
            }
        }
    }
}

/// Columns up to which a product is one with vectors: each has the bits that it has by itself, so that a
/// guess which is verified among others is what it would be alone.
const VECTORS: usize = 8;

/// Products in whole numbers that take as long as one in f32.
const CHEAPER: usize = 2;

/// Floats of weights that are widened at once, so that they stay in the second-level cache.
const BLOCK_FLOATS: usize = 96 * 1024;

/// Rows that the product of matrices takes side by side.
const SIDE_BY_SIDE: usize = 6;

/// Rows of a block at most, so that there are enough blocks for the threads.
const LARGEST_BLOCK: usize = 48;

/// The product of `rows` rows of weights with `columns` columns of x (depth x columns), plus a
/// bias per row, rounded to `element`. The result lies column after column: the `rows` results of
/// column 0, then those of column 1, and so on.
pub(super) fn project(
    frame: &Frame<'_>,
    weights: Rows<'_>,
    rows: usize,
    x: Matrix<'_>,
    bias: Option<&[f32]>,
    element: Element,
) -> Outcome<Buffer> {
    let (depth, columns) = (x.rows(), x.columns());
    if weights.len() != rows * depth || bias.is_some_and(|bias| bias.len() != rows) {
        return invalid("weights or bias do not have the declared shape");
    }
    let mut buffer = frame.pool.take_elements(element, rows * columns)?;
    if let Rows::Packed(packed) = weights
        && project_packed(frame, packed, x, bias, element, &mut buffer)?
    {
        return Ok(buffer);
    }
    if columns <= VECTORS {
        project_vectors(frame, weights, rows, x, bias, element, &mut buffer)?;
        return Ok(buffer);
    }
    let cost = rows * depth * columns;
    // Blocks of rows that fit the cache. Their size must not depend on the number of threads, or
    // the last bits of the results would.
    let block = (BLOCK_FLOATS / depth.max(1)).clamp(SIDE_BY_SIDE, LARGEST_BLOCK);
    let block = block.next_multiple_of(SIDE_BY_SIDE).min(rows.max(1));
    let lines = lines(frame, &x)?;
    let tokens = Matrix::new(lines.slice(), 0, [columns, depth], [1, columns as isize])?;
    let mut wide = frame.pool.take_elements(Element::F32, rows * columns)?;
    workers::split(frame.team, wide.slice_mut::<f32>(), block * columns, cost, |start, part| {
        let mut panel = Vec::new();
        let mut first = start / columns.max(1);
        for output in part.chunks_mut(block * columns) {
            let count = output.len() / columns;
            let range = first * depth..(first + count) * depth;
            let right = match weights {
                Rows::Packed(packed) => {
                    panel.resize(range.len(), 0.0);
                    packed.fill_wide(range.start, &mut panel);
                    &panel
                }
                Rows::Dense(values) => match values.range(range) {
                    Floats::F16(values) => {
                        panel.resize(values.len(), 0.0);
                        simd::widen(values, &mut panel);
                        &panel
                    }
                    Floats::F32(values) => values,
                },
            };
            // Weights on the right, which the product reads as they lie.
            let right = Matrix::new(right, 0, [depth, count], [1, depth as isize])?;
            multiply_add(output, [1, columns as isize], 0.0, 1.0, tokens, right)?;
            add_bias(output, columns, bias.map(|bias| &bias[first..]));
            first += count;
        }
        Ok(())
    })?;
    frame.pool.give(lines);
    collect(frame, wide.slice(), rows, element, &mut buffer)?;
    frame.pool.give(wide);
    Ok(buffer)
}

/// Elements that are moved at once where rows become columns, so that they stay in the first-level cache.
const TILE: usize = 64;

/// The elements of each row side by side, whichever way they lay.
fn lines(frame: &Frame<'_>, x: &Matrix<'_>) -> Outcome<Buffer> {
    let (depth, columns) = (x.rows(), x.columns());
    let mut buffer = frame.pool.take_elements(Element::F32, depth * columns)?;
    let lines: &mut [f32] = buffer.slice_mut();
    for first in (0..depth).step_by(TILE) {
        let end = depth.min(first + TILE);
        for column in 0..columns {
            let slots = lines[first * columns + column..].iter_mut().step_by(columns);
            match x.column(column) {
                Some(values) => {
                    slots.zip(&values[first..end]).for_each(|(slot, value)| *slot = *value);
                }
                None => slots.zip(first..end).for_each(|(slot, row)| *slot = x.at(row, column)),
            }
        }
    }
    Ok(buffer)
}

/// Adds to the products of each row, which lie side by side, the row's bias.
fn add_bias(products: &mut [f32], count: usize, bias: Option<&[f32]>) {
    let Some(bias) = bias else { return };
    for (products, term) in products.chunks_exact_mut(count.max(1)).zip(bias) {
        products.iter_mut().for_each(|value| *value += term);
    }
}

/// The elements of a column, side by side.
fn vector<'x>(x: &Matrix<'x>, column: usize) -> Cow<'x, [f32]> {
    match x.column(column) {
        Some(vector) => Cow::Borrowed(vector),
        None => (0..x.rows()).map(|row| x.at(row, column)).collect(),
    }
}

/// What rounding an element to a whole number costs, in multiply-adds.
const ROUNDING: usize = 16;

/// Products of packed weights in whole numbers, which read every weight once. False, and nothing is
/// written, where weights or columns are not suited.
fn project_packed(
    frame: &Frame<'_>,
    packed: &Packed,
    x: Matrix<'_>,
    bias: Option<&[f32]>,
    element: Element,
    buffer: &mut Buffer,
) -> Outcome<bool> {
    let count = x.columns();
    let Some((tables, indices)) = packed.fixed().filter(|_| count > 0) else { return Ok(false) };
    let places: Vec<_> = fixed::groups(count).collect();
    let mut columns: Vec<Option<Group>> = places.iter().map(|_| None).collect();
    let cost = x.rows() * count * ROUNDING;
    workers::split(frame.team, &mut columns, 1, cost, |start, part| {
        for (slot, (first, size)) in part.iter_mut().zip(&places[start..]) {
            *slot = tables.group(*size, |row, parts| read(&x, row, *first, parts));
        }
        Ok(())
    })?;
    let Some(columns) = columns.into_iter().collect::<Option<Vec<_>>>() else {
        return Ok(false);
    };
    let rows = packed.count() / x.rows().max(1);
    let mut wide = frame.pool.take_elements(Element::F32, rows * count)?;
    let cost = rows * x.rows() * count / CHEAPER;
    workers::split(frame.team, wide.slice_mut::<f32>(), ROWS * count, cost, |start, part| {
        let first = start / count;
        tables.times(indices, first, &columns, part);
        for (number, part) in part.chunks_mut(ROWS * count).enumerate() {
            let Some(bias) = bias.map(|bias| &bias[first + number * ROWS..]) else { break };
            for products in part.chunks_mut(part.len() / count) {
                products.iter_mut().zip(bias).for_each(|(value, term)| *value += term);
            }
        }
        Ok(())
    })?;
    let products: &[f32] = wide.slice();
    match element {
        Element::F16 => join(frame, products, count, buffer.slice_mut(), simd::narrow)?,
        Element::F32 => {
            join(frame, products, count, buffer.slice_mut(), |from, to| to.copy_from_slice(from))?;
        }
        other => return unsupported(format!("a result of type {}", other.name())),
    }
    frame.pool.give(wide);
    Ok(true)
}

/// Writes products as [`fixed::Tables::times`] gives them column after column; `store` writes f32 in the
/// form of the result.
fn join<T: Send>(
    frame: &Frame<'_>,
    products: &[f32],
    count: usize,
    output: &mut [T],
    store: impl Fn(&[f32], &mut [T]) + Sync,
) -> Outcome<()> {
    if count == 1 {
        store(products, output);
        return Ok(());
    }
    let rows = (output.len() / count).max(1);
    workers::split(frame.team, output, rows, products.len(), |start, part| {
        let mut line = vec![0.0; rows];
        for (column, output) in part.chunks_exact_mut(rows).enumerate() {
            let column = start / rows + column;
            let (whole, rest) = line.as_chunks_mut::<ROWS>();
            let last = &products[whole.len() * ROWS * count..];
            rest.copy_from_slice(&last[column * rest.len()..][..rest.len()]);
            let blocks = products.as_chunks::<ROWS>().0.chunks_exact(count);
            for (slots, block) in whole.iter_mut().zip(blocks) {
                *slots = block[column];
            }
            store(&line, output);
        }
        Ok(())
    })
}

/// Reads the elements from a row on, of as many columns from `first` on as there are parts.
fn read<const N: usize>(x: &Matrix<'_>, start: usize, first: usize, parts: &mut [[f32; N]]) {
    let end = x.rows().min(start + N);
    if x.column(first).is_none() && x.row(start).is_some() {
        for row in start..end {
            let values = &x.row(row).unwrap_or_default()[first..][..parts.len()];
            parts.iter_mut().zip(values).for_each(|(part, value)| part[row - start] = *value);
        }
        return;
    }
    for (part, column) in parts.iter_mut().zip(first..) {
        match x.column(column) {
            Some(values) => part[..end - start].copy_from_slice(&values[start..end]),
            None => {
                part.iter_mut().zip(start..end).for_each(|(slot, row)| *slot = x.at(row, column))
            }
        }
    }
}

/// Writes products, those of a row with each column side by side, column after column.
fn collect(
    frame: &Frame<'_>,
    products: &[f32],
    rows: usize,
    element: Element,
    buffer: &mut Buffer,
) -> Outcome<()> {
    match element {
        Element::F16 => turn(frame, products, rows, buffer.slice_mut(), simd::narrow),
        Element::F32 => {
            turn(frame, products, rows, buffer.slice_mut(), |from, to| to.copy_from_slice(from))
        }
        other => unsupported(format!("a result of type {}", other.name())),
    }
}

/// See [`collect`]; `store` writes f32 in the form of the result.
fn turn<T: Send>(
    frame: &Frame<'_>,
    products: &[f32],
    rows: usize,
    output: &mut [T],
    store: impl Fn(&[f32], &mut [T]) + Sync,
) -> Outcome<()> {
    let count = products.len() / rows.max(1);
    if count == 1 {
        store(products, output);
        return Ok(());
    }
    workers::split(frame.team, output, rows.max(1), products.len(), |start, part| {
        let column = start / rows.max(1);
        let mut line = [0.0; TILE];
        for first in (0..rows).step_by(TILE) {
            let line = &mut line[..TILE.min(rows - first)];
            for (at, output) in part.chunks_exact_mut(rows).enumerate() {
                let own = products[first * count + column + at..].iter().step_by(count);
                line.iter_mut().zip(own).for_each(|(slot, value)| *slot = *value);
                store(line, &mut output[first..first + line.len()]);
            }
        }
        Ok(())
    })
}

/// A few columns: dot products that read every weight once.
fn project_vectors(
    frame: &Frame<'_>,
    weights: Rows<'_>,
    rows: usize,
    x: Matrix<'_>,
    bias: Option<&[f32]>,
    element: Element,
    buffer: &mut Buffer,
) -> Outcome<()> {
    let (depth, count) = (x.rows(), x.columns());
    let vectors: Vec<Cow<'_, [f32]>> = (0..count).map(|column| vector(&x, column)).collect();
    let vectors: Vec<&[f32]> = vectors.iter().map(AsRef::as_ref).collect();
    let mut wide = frame.pool.take_elements(Element::F32, rows * count)?;
    let cost = rows * depth * count;
    workers::split(frame.team, wide.slice_mut::<f32>(), 16 * count.max(1), cost, |start, part| {
        let first = start / count.max(1);
        times_vectors(weights, first, &vectors, part);
        add_bias(part, count, bias.map(|bias| &bias[first..]));
        Ok(())
    })?;
    collect(frame, wide.slice(), rows, element, buffer)?;
    frame.pool.give(wide);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Pool;
    use crate::testing::Random;
    use crate::workers::Team;
    use anemll_plugin_api::Host;
    use half::f16;
    use std::sync::Mutex;

    #[test]
    fn projections_match_sums_in_double() {
        let mut random = Random::new(3);
        let pool = Pool::default();
        let host = Host::quiet();
        for [rows, depth, columns] in [[5, 7, 1], [40, 33, 2], [70, 64, 3], [130, 48, 17]] {
            for transposed in [false, true] {
                let halves: Vec<f16> =
                    (0..rows * depth).map(|_| f16::from_f32(random.unit())).collect();
                let x = random.units(depth * columns);
                let bias = random.units(rows);
                let strides = if transposed { (1, depth) } else { (columns, 1) };
                let (down, across) = (strides.0 as isize, strides.1 as isize);
                let matrix = Matrix::new(&x, 0, [depth, columns], [down, across]).unwrap();
                let frame = Frame {
                    slots: Vec::new(),
                    states: &mut [],
                    pool: &pool,
                    team: &Team::new(&host),
                };
                let weights = Rows::Dense(Floats::F16(&halves));
                let result = project(&frame, weights, rows, matrix, Some(&bias), Element::F32);
                let result = result.unwrap();
                for (index, value) in result.slice::<f32>().iter().enumerate() {
                    let (column, row) = (index / rows, index % rows);
                    let exact: f64 = (0..depth)
                        .map(|k| {
                            halves[row * depth + k].to_f64()
                                * f64::from(x[k * strides.0 + column * strides.1])
                        })
                        .sum::<f64>()
                        + f64::from(bias[row]);
                    assert!((f64::from(*value) - exact).abs() < 1e-4, "{row} {column}");
                }
            }
        }
    }

    #[test]
    fn a_column_has_the_bits_that_it_has_alone() {
        let mut random = Random::new(41);
        let (pool, host) = (Pool::default(), Host::quiet());
        let frame =
            Frame { slots: Vec::new(), states: &mut [], pool: &pool, team: &Team::new(&host) };
        for (rows, depth) in [(5, 7), (37, 64), (21, 83)] {
            let halves: Vec<f16> =
                (0..rows * depth).map(|_| f16::from_f32(random.unit())).collect();
            let floats: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
            let (x, bias) = (random.units(depth * VECTORS), random.units(rows));
            for weights in [Floats::F16(&halves), Floats::F32(&floats)] {
                let product = |first: usize, count: usize| {
                    let x = Matrix::new(&x, first * depth, [depth, count], [1, depth as isize]);
                    let made = project(
                        &frame,
                        Rows::Dense(weights),
                        rows,
                        x.unwrap(),
                        Some(&bias),
                        Element::F32,
                    );
                    made.unwrap().slice::<f32>().to_vec()
                };
                let single: Vec<f32> = (0..VECTORS).flat_map(|column| product(column, 1)).collect();
                for count in 2..=VECTORS {
                    let together = product(0, count);
                    let alone = &single[..count * rows];
                    assert!(together.iter().zip(alone).all(|(a, b)| a.to_bits() == b.to_bits()));
                }
            }
        }
    }

    #[test]
    fn blocks_of_one_result_are_collected_in_order() {
        // more rows than one block holds, so that the collecting loop meets several
        let (rows, depth, columns) = (2100, 64, 12);
        let pool = Pool::default();
        let host = Host::quiet();
        let frame =
            Frame { slots: Vec::new(), states: &mut [], pool: &pool, team: &Team::new(&host) };
        let weights: Vec<f32> = (0..rows * depth).map(|i| (i / depth) as f32).collect();
        let x = vec![1.0; depth * columns];
        let matrix = Matrix::new(&x, 0, [depth, columns], [columns as isize, 1]).unwrap();
        let result =
            project(&frame, Rows::Dense(Floats::F32(&weights)), rows, matrix, None, Element::F32);
        for (index, value) in result.unwrap().slice::<f32>().iter().enumerate() {
            assert_eq!(*value, ((index % rows) * depth) as f32);
        }
    }

    /// `Mutex` keeps the ranges of [`workers::split`] apart; this checks the starts it hands out.
    #[test]
    fn split_covers_the_output_once() {
        let host = Host::quiet();
        let mut output = vec![0u32; 1000];
        let starts = Mutex::new(Vec::new());
        let task = |start: usize, part: &mut [u32]| {
            starts.lock().unwrap().push(start);
            part.iter_mut().for_each(|value| *value += 1);
            Ok(())
        };
        workers::split(&Team::new(&host), &mut output, 7, 1 << 30, task).unwrap();
        assert!(output.iter().all(|&value| value == 1));
        assert_eq!(starts.into_inner().unwrap()[0], 0);
    }
}
