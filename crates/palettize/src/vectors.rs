//! Palettes of vectors: one entry stands for neighbouring rows of a column.

use crate::{BITS, GroupError, PaletteError};
use half::f16;

/// Numbers that an entry can have.
pub const VECTOR_LENGTHS: [usize; 4] = [2, 4, 8, 16];

/// Vectors by which entries are searched for before all count.
const SAMPLE: usize = 1 << 16;
/// Passes of the search after each split.
const SPLIT_PASSES: usize = 8;
/// Most passes over all vectors.
const LAST_PASSES: usize = 12;
/// The search ends where the error falls by less than this share of it.
const ENOUGH: f64 = 1e-3;
/// Steps by which the direction of the largest spread is found.
const DIRECTION_STEPS: usize = 6;

/// A table of vectors, and their indices.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorPalette {
    /// Numbers of an entry: so many rows share an index.
    pub length: usize,
    /// `2^bits` entries of `length` numbers each.
    pub lut: Vec<f16>,
    /// One index for `length` rows of a column: `rows / length` rows of `columns` indices.
    pub indices: Vec<u8>,
    /// What the rounding to entries costs.
    pub error: GroupError,
}

/// One table for a matrix of whole tuples of `length` rows: the element of column `c` in row
/// `length * t + k` becomes number `k` of the entry that index `(t, c)` names. `bits` are those of an
/// index. With `importance`, one number per column, squared distances are weighted by it when entries
/// are chosen.
///
/// Entries come from splitting clusters along their largest spread (Linde, Buzo and Gray 1980) and
/// Lloyd's passes between: a local optimum, the same on every machine.
///
/// # Errors
/// [`PaletteError`]: sizes that do not fit, values that are not finite, importances below zero.
pub fn palettize_vectors(
    values: &[f16],
    columns: usize,
    length: usize,
    bits: u32,
    importance: Option<&[f32]>,
) -> Result<VectorPalette, PaletteError> {
    if !BITS.contains(&bits) {
        return Err(PaletteError::Bits(bits));
    }
    if !VECTOR_LENGTHS.contains(&length) {
        return Err(PaletteError::Size(format!(
            "vectors of {length} numbers do not exist; there are those of 2, 4, 8 and 16"
        )));
    }
    if columns == 0 || values.is_empty() || !values.len().is_multiple_of(columns * length) {
        return Err(PaletteError::Size(format!(
            "{} values are not tuples of {length} rows of {columns} columns",
            values.len()
        )));
    }
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let (row, column) = (at / columns, at % columns);
        return Err(PaletteError::NotFinite { row, column, value: values[at].to_f32() });
    }
    if let Some(importance) = importance {
        if importance.len() != columns {
            let count = importance.len();
            return Err(PaletteError::Size(format!("{count} importances for {columns} columns")));
        }
        if let Some(column) =
            importance.iter().position(|value| !(0.0..f32::INFINITY).contains(value))
        {
            return Err(PaletteError::Importance { column, value: importance[column] });
        }
    }
    let importance = importance.filter(|values| values.iter().any(|value| *value > 0.0));

    let points = Points::of(values, columns, length, importance);
    let mut search = Search::new(length, 1 << bits);
    let sample = points.sample();
    search.begin(sample.as_ref().unwrap_or(&points));
    while search.entries.len() < search.most * length {
        search.split();
        search.settle(sample.as_ref().unwrap_or(&points), SPLIT_PASSES);
    }
    search.settle(&points, LAST_PASSES);
    let lut: Vec<f16> = search.entries.iter().map(|number| f16::from_f32(*number)).collect();
    let finder =
        Nearest::new(&lut.iter().map(|number| number.to_f32()).collect::<Vec<_>>(), length);
    let mut indices = Vec::with_capacity(points.weights.len());
    let mut error = GroupError::default();
    for point in points.numbers.chunks_exact(length) {
        let index = finder.find(point);
        indices.push(index as u8);
        for (number, entry) in point.iter().zip(&lut[index * length..]) {
            let distance = f64::from(*number) - f64::from(*entry);
            error.squared += distance * distance;
            error.max_absolute = error.max_absolute.max(distance.abs());
        }
    }
    Ok(VectorPalette { length, lut, indices, error })
}

/// Finds the entry that is nearest to a vector.
#[derive(Debug, Clone)]
pub struct Nearest {
    length: usize,
    /// Of every [`LANES`] entries: half of their squares, their first numbers, their second ones, and so
    /// on. What is left of the last ones is infinitely far.
    lines: Vec<[f32; LANES]>,
}

/// Entries that are compared at once.
const LANES: usize = 8;

impl Nearest {
    /// For entries of `length` numbers each.
    ///
    /// # Panics
    /// When `length` is zero.
    #[must_use]
    pub fn new(entries: &[f32], length: usize) -> Self {
        let mut lines = Vec::new();
        for block in entries.chunks(LANES * length) {
            let mut halves = [f32::INFINITY; LANES];
            let mut numbers = vec![[0.0; LANES]; length];
            for (lane, entry) in block.chunks_exact(length).enumerate() {
                halves[lane] = entry.iter().map(|number| number * number).sum::<f32>() / 2.0;
                for (numbers, number) in numbers.iter_mut().zip(entry) {
                    numbers[lane] = *number;
                }
            }
            lines.push(halves);
            lines.append(&mut numbers);
        }
        Self { length, lines }
    }

    /// The index of the entry nearest to `vector`, of several the first.
    #[must_use]
    pub fn find(&self, vector: &[f32]) -> usize {
        // |v - e|² = |v|² + 2 (|e|² / 2 - v e): the last part decides.
        let (mut least, mut best) = (f32::INFINITY, 0);
        for (block, lines) in self.lines.chunks_exact(1 + self.length).enumerate() {
            let mut scores = lines[0];
            for (number, line) in vector.iter().zip(&lines[1..]) {
                for (score, entry) in scores.iter_mut().zip(line) {
                    *score -= number * entry;
                }
            }
            for (lane, score) in scores.iter().enumerate() {
                if *score < least {
                    (least, best) = (*score, block * LANES + lane);
                }
            }
        }
        best
    }
}

/// Vectors and how much each counts.
struct Points {
    length: usize,
    numbers: Vec<f32>,
    weights: Vec<f32>,
}

impl Points {
    fn of(values: &[f16], columns: usize, length: usize, importance: Option<&[f32]>) -> Self {
        let count = values.len() / length;
        let mut numbers = Vec::with_capacity(values.len());
        let mut weights = Vec::with_capacity(count);
        for rows in values.chunks_exact(columns * length) {
            for column in 0..columns {
                let tuple = rows.iter().skip(column).step_by(columns);
                numbers.extend(tuple.map(|value| value.to_f32()));
                weights.push(importance.map_or(1.0, |importance| importance[column]));
            }
        }
        Self { length, numbers, weights }
    }

    /// Some of them, evenly spread; none where there are few.
    fn sample(&self) -> Option<Self> {
        let count = self.weights.len();
        if count <= SAMPLE {
            return None;
        }
        let places = (0..SAMPLE).map(|at| (at as u128 * count as u128 / SAMPLE as u128) as usize);
        let mut sample = Self { length: self.length, numbers: Vec::new(), weights: Vec::new() };
        for at in places {
            sample.numbers.extend(&self.numbers[at * self.length..(at + 1) * self.length]);
            sample.weights.push(self.weights[at]);
        }
        Some(sample)
    }
}

/// Entries while they are looked for.
struct Search {
    length: usize,
    /// How many entries there are to be.
    most: usize,
    entries: Vec<f32>,
    /// Of each entry: the weights of its vectors, their weighted sums, and those of their products.
    sums: Vec<Sums>,
}

#[derive(Clone)]
struct Sums {
    weight: f64,
    numbers: Vec<f64>,
    products: Vec<f64>,
}

impl Search {
    fn new(length: usize, most: usize) -> Self {
        Self { length, most, entries: Vec::new(), sums: Vec::new() }
    }

    /// One entry: the mean.
    fn begin(&mut self, points: &Points) {
        self.entries = vec![0.0; self.length];
        self.settle(points, 1);
    }

    /// Every entry becomes two, to both sides of it along the largest spread of its vectors.
    fn split(&mut self) {
        let length = self.length;
        let mut entries = Vec::with_capacity(2 * self.entries.len());
        for (entry, sums) in self.entries.chunks_exact(length).zip(&self.sums) {
            let step = sums.spread(length);
            entries.extend(entry.iter().zip(&step).map(|(number, step)| number - step));
            entries.extend(entry.iter().zip(&step).map(|(number, step)| number + step));
        }
        self.entries = entries;
    }

    /// Lloyd's passes, until they change little. An entry without vectors stays where it is.
    fn settle(&mut self, points: &Points, passes: usize) {
        let length = self.length;
        let mut before = f64::INFINITY;
        for _ in 0..passes {
            let finder = Nearest::new(&self.entries, length);
            let empty = Sums {
                weight: 0.0,
                numbers: vec![0.0; length],
                products: vec![0.0; length * length],
            };
            self.sums = vec![empty; self.entries.len() / length];
            let mut error = 0.0;
            for (point, weight) in points.numbers.chunks_exact(length).zip(&points.weights) {
                let index = finder.find(point);
                let entry = &self.entries[index * length..(index + 1) * length];
                let distance: f32 = point.iter().zip(entry).map(|(a, b)| (a - b) * (a - b)).sum();
                error += f64::from(*weight) * f64::from(distance);
                self.sums[index].add(point, *weight);
            }
            for (entry, sums) in self.entries.chunks_exact_mut(length).zip(&self.sums) {
                if sums.weight > 0.0 {
                    for (number, sum) in entry.iter_mut().zip(&sums.numbers) {
                        *number = (sum / sums.weight) as f32;
                    }
                }
            }
            if before - error < ENOUGH * error {
                break;
            }
            before = error;
        }
    }
}

impl Sums {
    fn add(&mut self, point: &[f32], weight: f32) {
        let weight = f64::from(weight);
        self.weight += weight;
        for (row, a) in point.iter().enumerate() {
            let a = weight * f64::from(*a);
            self.numbers[row] += a;
            let products = &mut self.products[row * point.len()..][..point.len()];
            products.iter_mut().zip(point).for_each(|(sum, b)| *sum += a * f64::from(*b));
        }
    }

    /// A step as long as the standard deviation along the direction in which it is largest.
    fn spread(&self, length: usize) -> Vec<f32> {
        if self.weight <= 0.0 {
            return vec![0.0; length];
        }
        let mean: Vec<f64> = self.numbers.iter().map(|sum| sum / self.weight).collect();
        let covariance = |row: usize, column: usize| {
            self.products[row * length + column] / self.weight - mean[row] * mean[column]
        };
        // The power method, from a direction that no symmetry holds on to.
        let mut direction: Vec<f64> = (0..length).map(|at| 1.0 + 0.37 * at as f64).collect();
        let mut variance = 0.0;
        for _ in 0..DIRECTION_STEPS {
            let norm = direction.iter().map(|number| number * number).sum::<f64>().sqrt();
            if norm <= 0.0 {
                return vec![0.0; length];
            }
            direction.iter_mut().for_each(|number| *number /= norm);
            let next: Vec<f64> = (0..length)
                .map(|row| {
                    (0..length).map(|column| covariance(row, column) * direction[column]).sum()
                })
                .collect();
            variance = next.iter().zip(&direction).map(|(a, b)| a * b).sum();
            direction = next;
        }
        let norm = direction.iter().map(|number| number * number).sum::<f64>().sqrt();
        if norm <= 0.0 || variance <= 0.0 {
            return vec![0.0; length];
        }
        direction.iter().map(|number| (number / norm * variance.sqrt()) as f32).collect()
    }
}
