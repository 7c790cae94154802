//! Palettes of matrices of 16-bit floats.

use crate::cluster::Solver;
use crate::{BITS, PaletteError};
use half::f16;

/// Number of 16-bit codes.
const CODES: usize = 1 << 16;
const NEGATIVE_ZERO: u16 = 0x8000;

/// Tables and indices of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    /// Bits of an index.
    pub bits: u32,
    /// Rows that share a table.
    pub group_rows: usize,
    /// `rows / group_rows` tables of `2^bits` entries, each ascending; entries that are not needed
    /// repeat the last one that is.
    pub lut: Vec<f16>,
    /// One index per element, row by row, not packed.
    pub indices: Vec<u8>,
    /// What the rounding to entries costs.
    pub error: GroupError,
}

impl Palette {
    /// The elements' entries, row by row; `columns` is that of the matrix.
    #[must_use]
    pub fn decode(&self, columns: usize) -> Vec<f16> {
        let entries = 1_usize << self.bits;
        let group = self.group_rows.saturating_mul(columns).max(1);
        let groups = self.indices.chunks(group).zip(self.lut.chunks_exact(entries));
        groups
            .flat_map(|(indices, lut)| indices.iter().map(|index| lut[usize::from(*index)]))
            .collect()
    }
}

/// Distances of values to their entries.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GroupError {
    /// The sum of the squares, not weighted.
    pub squared: f64,
    /// The largest one.
    pub max_absolute: f64,
}

impl GroupError {
    /// Takes in a value that is this far from its entry.
    pub fn add(&mut self, distance: f64) {
        self.squared += distance * distance;
        self.max_absolute = self.max_absolute.max(distance.abs());
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            squared: self.squared + other.squared,
            max_absolute: self.max_absolute.max(other.max_absolute),
        }
    }
}

/// The best palette of a matrix: for each group of `group_rows` rows the `2^bits` entries with the
/// least sum of squared distances, rounded to 16-bit floats, and for each element the index of the
/// nearest rounded entry (of two, the lower one). With `importance`, one number per column, squares
/// are weighted by it when the entries are chosen; a group in which all are zero is taken as if
/// none were given. 0 and -0 are one value.
///
/// # Errors
/// [`PaletteError`]: sizes that do not fit, values that are not finite, importances below zero.
pub fn palettize(
    values: &[f16],
    columns: usize,
    group_rows: usize,
    bits: u32,
    importance: Option<&[f32]>,
) -> Result<Palette, PaletteError> {
    if !BITS.contains(&bits) {
        return Err(PaletteError::Bits(bits));
    }
    let group = columns.checked_mul(group_rows).filter(|group| *group > 0);
    let Some(group) = group.filter(|group| values.len().is_multiple_of(*group)) else {
        return Err(PaletteError::Size(format!(
            "{} values are not groups of {group_rows} rows of {columns} columns",
            values.len()
        )));
    };
    let entries = 1_usize << bits;
    let mut lut = vec![f16::ZERO; values.len() / group * entries];
    let mut indices = vec![0; values.len()];
    let mut error = GroupError::default();
    let mut palettizer = Palettizer::new();
    let groups = values
        .chunks_exact(group)
        .zip(lut.chunks_exact_mut(entries))
        .zip(indices.chunks_exact_mut(group));
    for (index, ((values, lut), indices)) in groups.enumerate() {
        let found =
            palettizer.group(values, columns, bits, importance, lut, indices).map_err(|error| {
                match error {
                    PaletteError::NotFinite { row, column, value } => {
                        PaletteError::NotFinite { row: index * group_rows + row, column, value }
                    }
                    error => error,
                }
            })?;
        error = error.and(found);
    }
    Ok(Palette { bits, group_rows, lut, indices, error })
}

/// Makes palettes group by group, in memory that is used again: about half a megabyte, or a whole
/// one with importances.
#[derive(Debug, Clone)]
pub struct Palettizer {
    solver: Solver,
    /// How often each code occurs; zeros between groups.
    counts: Vec<u32>,
    /// The sum of the importances of each code; empty until needed, zeros between groups.
    importances: Vec<f64>,
    /// The index of each code of the group.
    table: Vec<u8>,
    /// The codes that occur, and room for one more.
    codes: Vec<u16>,
    /// One bit per code, in the order of values; zeros between groups.
    present: Vec<u64>,
    /// The distinct values, ascending, with their codes.
    sorted: Vec<u16>,
    values: Vec<f64>,
    weights: Vec<f64>,
}

impl Default for Palettizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Palettizer {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self {
            solver: Solver::default(),
            counts: vec![0; CODES],
            importances: Vec::new(),
            table: vec![0; CODES],
            codes: vec![0; CODES + 1],
            present: vec![0; CODES / 64],
            sorted: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// The palette of one group, as [`palettize`] does it: `lut` has `2^bits` entries, and `indices`
    /// one element per value.
    ///
    /// # Errors
    /// As [`palettize`]; rows are counted from the group's first one. The palettizer stays usable.
    pub fn group(
        &mut self,
        values: &[f16],
        columns: usize,
        bits: u32,
        importance: Option<&[f32]>,
        lut: &mut [f16],
        indices: &mut [u8],
    ) -> Result<GroupError, PaletteError> {
        check(values, columns, bits, importance, lut, indices)?;
        let distinct = self.count(values);
        let codes = &self.codes[..distinct];
        if codes.iter().any(|code| !f16::from_bits(*code).is_finite()) {
            self.clear(distinct);
            return Err(not_finite(values, columns));
        }
        if let Some(importance) = importance {
            self.add_importance(values, importance);
        }
        self.sort(distinct);
        self.weigh(importance.is_some());
        let used = self.entries(lut);
        let error = self.assign(&lut[..used]);
        for (index, value) in indices.iter_mut().zip(values) {
            *index = self.table[usize::from(value.to_bits())];
        }
        self.clear(distinct);
        Ok(error)
    }

    /// Counts the codes; gives how many there are.
    fn count(&mut self, values: &[f16]) -> usize {
        let mut distinct = 0;
        for value in values {
            let code = value.to_bits();
            let count = &mut self.counts[usize::from(code)];
            // Without a branch: a new code stays in the list, another is written over.
            self.codes[distinct] = code;
            distinct += usize::from(*count == 0);
            *count += 1;
        }
        distinct
    }

    fn add_importance(&mut self, values: &[f16], importance: &[f32]) {
        if self.importances.is_empty() {
            self.importances = vec![0.0; CODES];
        }
        for row in values.chunks_exact(importance.len()) {
            for (value, importance) in row.iter().zip(importance) {
                self.importances[usize::from(value.to_bits())] += f64::from(*importance);
            }
        }
    }

    /// The distinct codes in the order of their values, without -0.
    fn sort(&mut self, distinct: usize) {
        for code in &self.codes[..distinct] {
            let key = usize::from(order_of(*code));
            self.present[key / 64] |= 1 << (key % 64);
        }
        if self.counts[usize::from(NEGATIVE_ZERO)] > 0 {
            let (minus, plus) = (order_of(NEGATIVE_ZERO) as usize, order_of(0) as usize);
            self.present[minus / 64] &= !(1 << (minus % 64));
            self.present[plus / 64] |= 1 << (plus % 64);
        }
        self.sorted.clear();
        for (word, bits) in self.present.iter_mut().enumerate() {
            let mut bits = std::mem::take(bits);
            while bits != 0 {
                let key = word * 64 + bits.trailing_zeros() as usize;
                self.sorted.push(code_at(key as u16));
                bits &= bits - 1;
            }
        }
    }

    /// The distinct values that have a weight, with their weights.
    fn weigh(&mut self, important: bool) {
        self.values.clear();
        self.weights.clear();
        if important {
            let importances = self.importances.as_slice();
            for code in &self.sorted {
                let weight = with_both_zeros(*code, |code| importances[usize::from(code)]);
                if weight > 0.0 {
                    self.values.push(value_of(*code));
                    self.weights.push(weight);
                }
            }
        }
        if self.values.is_empty() {
            let counts = self.counts.as_slice();
            let count = |code: u16| f64::from(counts[usize::from(code)]);
            self.values.extend(self.sorted.iter().map(|code| value_of(*code)));
            self.weights.extend(self.sorted.iter().map(|code| with_both_zeros(*code, count)));
        }
    }

    /// Fills `lut`, and gives the number of entries that are not repetitions.
    ///
    /// Rounding keeps the means of clusters apart: each stays between the least and the largest
    /// value of its cluster, which are 16-bit floats.
    fn entries(&mut self, lut: &mut [f16]) -> usize {
        let ends = self.solver.solve(&self.values, &self.weights, lut.len());
        let mut start = 0;
        for (entry, end) in lut.iter_mut().zip(ends) {
            let first = self.values[start];
            let (mut weight_sum, mut moment) = (0.0, 0.0);
            for (value, weight) in self.values[start..*end].iter().zip(&self.weights[start..]) {
                weight_sum += weight;
                moment += weight * (value - first);
            }
            let mean = nearest_half(first + moment / weight_sum);
            *entry = if mean == f16::ZERO { f16::ZERO } else { mean };
            start = *end;
        }
        let used = ends.len().min(lut.len());
        let last = lut[used - 1];
        lut[used..].fill(last);
        used
    }

    /// Fills the table with the index of the nearest entry of each code.
    fn assign(&mut self, entries: &[f16]) -> GroupError {
        let mut error = GroupError::default();
        let counts = self.counts.as_slice();
        let count = |code: u16| f64::from(counts[usize::from(code)]);
        let mut index = 0;
        let mut here = value_of(entries[0].to_bits());
        let mut next = entries.get(1).map(|entry| value_of(entry.to_bits()));
        for code in &self.sorted {
            let value = value_of(*code);
            while let Some(entry) = next
                && (entry - value).abs() < (here - value).abs()
            {
                index += 1;
                here = entry;
                next = entries.get(index + 1).map(|entry| value_of(entry.to_bits()));
            }
            self.table[usize::from(*code)] = index as u8;
            let distance = (value - here).abs();
            error.squared += with_both_zeros(*code, count) * distance * distance;
            error.max_absolute = error.max_absolute.max(distance);
        }
        // -0 is not among the sorted codes; where there is neither, nobody reads this.
        self.table[usize::from(NEGATIVE_ZERO)] = self.table[0];
        error
    }

    /// Back to zeros.
    fn clear(&mut self, distinct: usize) {
        for code in &self.codes[..distinct] {
            self.counts[usize::from(*code)] = 0;
            if let Some(importance) = self.importances.get_mut(usize::from(*code)) {
                *importance = 0.0;
            }
        }
    }
}

fn check(
    values: &[f16],
    columns: usize,
    bits: u32,
    importance: Option<&[f32]>,
    lut: &[f16],
    indices: &[u8],
) -> Result<(), PaletteError> {
    if !BITS.contains(&bits) {
        return Err(PaletteError::Bits(bits));
    }
    let size = |message: String| Err(PaletteError::Size(message));
    if values.is_empty() || columns == 0 || !values.len().is_multiple_of(columns) {
        return size(format!("{} values are not rows of {columns} columns", values.len()));
    }
    if u32::try_from(values.len()).is_err() {
        return size(format!("a group of {} values is too large", values.len()));
    }
    if lut.len() != 1 << bits || indices.len() != values.len() {
        return size(format!(
            "there is room for {} entries and {} indices, not for {} and {}",
            lut.len(),
            indices.len(),
            1 << bits,
            values.len()
        ));
    }
    importance.map_or(Ok(()), |importance| check_importance(importance, columns))
}

/// Whether there is an importance for every column.
pub(crate) fn check_importance(importance: &[f32], columns: usize) -> Result<(), PaletteError> {
    if importance.len() != columns {
        let count = importance.len();
        let message = format!("{count} importances are not one for {columns} columns");
        return Err(PaletteError::Size(message));
    }
    match importance.iter().position(|value| !(value.is_finite() && *value >= 0.0)) {
        Some(column) => Err(PaletteError::Importance { column, value: importance[column] }),
        None => Ok(()),
    }
}

/// The first value that is not finite.
pub(crate) fn not_finite(values: &[f16], columns: usize) -> PaletteError {
    let at = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
    PaletteError::NotFinite { row: at / columns, column: at % columns, value: values[at].to_f32() }
}

/// The value of a finite code: its exponent and fraction are moved to where those of 64 bits are,
/// which is faster than what the processor has for halves one by one.
#[inline]
fn value_of(code: u16) -> f64 {
    // 2^1008: 1023 and 15 are what exponents are stored with.
    const REBASE: f64 = f64::from_bits((1023 + 1008) << 52);
    let value = f64::from_bits(u64::from(code & !NEGATIVE_ZERO) << 42) * REBASE;
    if code & NEGATIVE_ZERO == 0 { value } else { -value }
}

/// What `of` gives for a code; for zero, that of both zeros.
#[inline]
fn with_both_zeros(code: u16, of: impl Fn(u16) -> f64) -> f64 {
    if code == 0 { of(0) + of(NEGATIVE_ZERO) } else { of(code) }
}

/// Where a code stands in the order of values; -0 comes before 0.
fn order_of(code: u16) -> u16 {
    if code & NEGATIVE_ZERO == 0 { code | NEGATIVE_ZERO } else { !code }
}

/// The inverse of [`order_of`].
fn code_at(order: u16) -> u16 {
    if order & NEGATIVE_ZERO == 0 { !order } else { order & !NEGATIVE_ZERO }
}

/// The 16-bit float nearest to a value between two of them, of two the even one.
///
/// What the processor offers goes through 32 bits on some machines, and rounds twice.
fn nearest_half(value: f64) -> f16 {
    let guess = f16::from_f64(value);
    let order = order_of(guess.to_bits());
    let distance = |half: f16| (value_of(half.to_bits()) - value).abs();
    let around = [order.saturating_sub(1), order.saturating_add(1)];
    around.into_iter().map(|order| f16::from_bits(code_at(order))).fold(guess, |best, half| {
        let (to_half, to_best) = (distance(half), distance(best));
        let even = half.to_bits().is_multiple_of(2) && !best.to_bits().is_multiple_of(2);
        if to_half < to_best || (to_half == to_best && even) { half } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_codes_is_that_of_values() {
        let mut last = f64::NEG_INFINITY;
        for order in order_of(0xFBFF)..=order_of(0x7BFF) {
            let code = code_at(order);
            assert_eq!(order_of(code), order);
            let value = f16::from_bits(code).to_f64();
            assert_eq!(value_of(code).to_bits(), value.to_bits(), "{code:04x}");
            assert!(value > last || code == 0, "{code:04x}");
            last = value;
        }
        assert_eq!(last, 65504.0);
    }

    #[test]
    fn rounding_is_to_the_nearest_once() {
        for order in order_of(0xFBFF)..order_of(0x7BFF) {
            let low = f16::from_bits(code_at(order));
            let high = f16::from_bits(code_at(order + 1));
            let (from, to) = (low.to_f64(), high.to_f64());
            assert_eq!(nearest_half(from).to_f64(), from);
            let middle = from / 2.0 + to / 2.0;
            let nudge = (to - from) * 1e-9;
            assert_eq!(nearest_half(middle - nudge).to_f64(), from);
            assert_eq!(nearest_half(middle + nudge).to_f64(), to);
            if from != to {
                let even = if low.to_bits().is_multiple_of(2) { from } else { to };
                assert_eq!(nearest_half(middle).to_f64(), even);
            }
        }
    }
}
