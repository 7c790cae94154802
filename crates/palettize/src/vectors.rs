//! Palettes of vectors: one entry stands for neighbouring rows of a column.

use crate::palette::{check_importance, not_finite};
use crate::{BITS, GroupError, PaletteError};
use half::f16;

/// Numbers that an entry can have.
const LENGTHS: [usize; 4] = [2, 4, 8, 16];

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
/// # Errors
/// As [`vector_entries`].
pub fn palettize_vectors(
    values: &[f16],
    columns: usize,
    length: usize,
    bits: u32,
    importance: Option<&[f32]>,
) -> Result<VectorPalette, PaletteError> {
    let lut = vector_entries(values, columns, length, bits, importance)?;
    let wide: Vec<f32> = lut.iter().map(|number| number.to_f32()).collect();
    let finder = Nearest::new(&wide, length);
    let points = Points::of(values, columns, length, None);
    let mut error = GroupError::default();
    let indices = points.numbers.chunks_exact(length).map(|point| {
        let index = finder.find(point);
        for (number, entry) in point.iter().zip(&wide[index * length..]) {
            error.add(f64::from(*number) - f64::from(*entry));
        }
        index as u8
    });
    let indices = indices.collect();
    Ok(VectorPalette { length, lut, indices, error })
}

/// The table of [`palettize_vectors`] alone: `2^bits` entries of `length` numbers each.
///
/// Entries come from splitting clusters along their largest spread (Linde, Buzo and Gray 1980) and
/// Lloyd's passes between: a local optimum, the same on every machine.
///
/// # Errors
/// [`PaletteError`]: sizes that do not fit, values that are not finite, importances below zero.
pub fn vector_entries(
    values: &[f16],
    columns: usize,
    length: usize,
    bits: u32,
    importance: Option<&[f32]>,
) -> Result<Vec<f16>, PaletteError> {
    if !BITS.contains(&bits) {
        return Err(PaletteError::Bits(bits));
    }
    if !LENGTHS.contains(&length) {
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
    if values.iter().any(|value| !value.is_finite()) {
        return Err(not_finite(values, columns));
    }
    importance.map_or(Ok(()), |importance| check_importance(importance, columns))?;
    let importance = importance.filter(|values| values.iter().any(|value| *value > 0.0));

    let points = Points::of(values, columns, length, importance);
    let sample = points.sample();
    let few = sample.as_ref().unwrap_or(&points);
    let mut search = Search::begin(few, length);
    while search.entries.len() < (length << bits) {
        search.split(few);
        search.settle(few, SPLIT_PASSES);
    }
    search.settle(&points, LAST_PASSES);
    // An entry without vectors may lie beyond them.
    let half = |number: &f32| f16::from_f32(number.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
    Ok(search.entries.iter().map(half).collect())
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
    /// Each vector, and how much it counts.
    fn iter(&self) -> impl Iterator<Item = (&[f32], f64)> {
        let weights = self.weights.iter().map(|weight| f64::from(*weight));
        self.numbers.chunks_exact(self.length).zip(weights)
    }

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

    /// Some of them, spread over all; none where there are few.
    fn sample(&self) -> Option<Self> {
        let count = self.weights.len();
        if count <= SAMPLE {
            return None;
        }
        let mut sample = Self { length: self.length, numbers: Vec::new(), weights: Vec::new() };
        for at in 0..SAMPLE {
            let start = |at: usize| (at as u128 * count as u128 / SAMPLE as u128) as usize;
            // One of each stretch. At even distances they could all be of a few columns.
            let scattered = (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let place = start(at) + scattered as usize % (start(at + 1) - start(at));
            sample.numbers.extend(&self.numbers[place * self.length..(place + 1) * self.length]);
            sample.weights.push(self.weights[place]);
        }
        Some(sample)
    }
}

/// Entries while they are looked for.
struct Search {
    length: usize,
    entries: Vec<f32>,
}

impl Search {
    /// One entry: the mean.
    fn begin(points: &Points, length: usize) -> Self {
        let mut search = Self { length, entries: vec![0.0; length] };
        search.settle(points, 1);
        search
    }

    /// Every entry becomes two, to both sides of it along the largest spread of its vectors.
    fn split(&mut self, points: &Points) {
        let length = self.length;
        let finder = Nearest::new(&self.entries, length);
        let mut sums = vec![Moments::new(length); self.entries.len() / length];
        for (point, weight) in points.iter() {
            sums[finder.find(point)].add(point, weight);
        }
        let mut entries = Vec::with_capacity(2 * self.entries.len());
        for (entry, sums) in self.entries.chunks_exact(length).zip(&sums) {
            let step = sums.spread();
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
            let mut sums = vec![0.0_f64; self.entries.len()];
            let mut weights = vec![0.0_f64; self.entries.len() / length];
            let mut error = 0.0;
            for (point, weight) in points.iter() {
                let index = finder.find(point);
                let range = index * length..(index + 1) * length;
                weights[index] += weight;
                for ((sum, number), entry) in
                    sums[range.clone()].iter_mut().zip(point).zip(&self.entries[range])
                {
                    *sum += weight * f64::from(*number);
                    error += weight * f64::from((number - entry) * (number - entry));
                }
            }
            let means = self.entries.chunks_exact_mut(length).zip(sums.chunks_exact(length));
            for ((entry, sums), weight) in means.zip(weights) {
                if weight > 0.0 {
                    for (number, sum) in entry.iter_mut().zip(sums) {
                        *number = (sum / weight) as f32;
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

/// Sums over the vectors of an entry: their weights, themselves, and the products of their numbers.
#[derive(Clone)]
struct Moments {
    weight: f64,
    numbers: Vec<f64>,
    products: Vec<f64>,
}

impl Moments {
    fn new(length: usize) -> Self {
        Self { weight: 0.0, numbers: vec![0.0; length], products: vec![0.0; length * length] }
    }

    fn add(&mut self, point: &[f32], weight: f64) {
        self.weight += weight;
        for (row, a) in point.iter().enumerate() {
            let a = weight * f64::from(*a);
            self.numbers[row] += a;
            let products = &mut self.products[row * point.len()..][..point.len()];
            products.iter_mut().zip(point).for_each(|(sum, b)| *sum += a * f64::from(*b));
        }
    }

    /// A step as long as the standard deviation along the direction in which it is largest.
    fn spread(&self) -> Vec<f32> {
        let length = self.numbers.len();
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
