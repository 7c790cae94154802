//! Second moments of a matrix's inputs, made ready: damped, ordered, factored.

use crate::GptqError;
use crate::inverse;
use crate::matrix::{Matrix, multiply_add};

/// Columns that are factored at once.
const BLOCK: usize = 64;
/// Largest difference of the two moments of a pair of inputs, as a share of their sizes.
const SKEW: f32 = 1e-3;
/// Times that the damping is multiplied by ten before a matrix is given up.
const TRIES: u32 = 6;

/// Second moments of `columns` inputs in the order in which indices are chosen, from the last to the
/// first.
#[derive(Debug, Clone)]
pub struct Moments {
    columns: usize,
    /// Which input stands where.
    order: Vec<u32>,
    /// The damped moments, ordered: `columns` x `columns`.
    pub(crate) full: Vec<f32>,
    /// Lower triangle with `factor * factorᵀ = full`; zeros above.
    pub(crate) factor: Vec<f32>,
    /// What an error of an input's weight costs when the others make up for it, in the inputs' own
    /// order.
    importance: Vec<f32>,
    /// The diagonal as it was given, in the inputs' own order.
    squares: Vec<f32>,
}

impl Moments {
    /// Makes `moments`, the means of products of two inputs (`columns` x `columns`, symmetric),
    /// ready. `damping` times the median of their diagonal is added to it: few tokens say little about
    /// some directions. (The mean would not do: in some layers one or two inputs are so large at the
    /// first token of a text that it is hundreds of times what is usual, and nothing would be left of
    /// how the others belong together.) An input that was never seen gets the median instead, so that
    /// its weights are rounded as they are.
    ///
    /// Memory: two matrices of `columns`² floats, beside the given one.
    ///
    /// # Errors
    /// [`GptqError::Size`], [`GptqError::Moment`], or [`GptqError::NotPositive`].
    pub fn new(moments: &[f32], columns: usize, damping: f32) -> Result<Self, GptqError> {
        if columns == 0 || columns.checked_mul(columns) != Some(moments.len()) {
            return Err(GptqError::Size(format!(
                "{} second moments are not those of {columns} inputs",
                moments.len()
            )));
        }
        if !(damping.is_finite() && damping > 0.0) {
            return Err(GptqError::Size(format!("the damping is {damping}, not above zero")));
        }
        if let Some(at) = moments.iter().position(|value| !value.is_finite()) {
            let (row, column) = (at / columns, at % columns);
            return Err(GptqError::Moment { row, column, value: moments[at] });
        }
        let squares: Vec<f32> = moments.iter().step_by(columns + 1).copied().collect();
        if let Some(row) = squares.iter().position(|value| *value < 0.0) {
            return Err(GptqError::Moment { row, column: row, value: squares[row] });
        }
        for row in 0..columns {
            for column in 0..row {
                let (a, b) = (moments[row * columns + column], moments[column * columns + row]);
                let scale = (squares[row] * squares[column]).sqrt();
                if (a - b).abs() > SKEW * scale.max(f32::MIN_POSITIVE) {
                    return Err(GptqError::Size(format!(
                        "the second moments of the inputs {row} and {column} are {a} one way and {b} \
                         the other"
                    )));
                }
            }
        }
        let mut order: Vec<u32> = (0..columns as u32).collect();
        order.sort_by(|a, b| {
            let of = |index: &u32| squares[*index as usize];
            of(a).total_cmp(&of(b)).then(a.cmp(b))
        });
        let usual = usual(&squares);
        // Less than this is lost when the products of a row are summed.
        let rounding = f32::EPSILON * columns as f32;
        let mut full = Vec::with_capacity(moments.len());
        for row in &order {
            let row = &moments[*row as usize * columns..][..columns];
            full.extend(order.iter().map(|column| row[*column as usize]));
        }
        for at in 0..columns {
            let diagonal = &mut full[at * (columns + 1)];
            let added = (damping * usual).max(rounding * *diagonal);
            *diagonal = if *diagonal > 0.0 { *diagonal + added } else { usual };
        }
        let largest = squares.iter().fold(0.0_f32, |largest, square| largest.max(*square));
        let mut more = (damping * usual).max(rounding * largest);
        for _ in 0..TRIES {
            if let Some(factor) = factor(&full, columns) {
                let inverse = inverse::diagonal(&factor, columns);
                let mut importance = vec![0.0; columns];
                for (at, inverse) in order.iter().zip(inverse) {
                    importance[*at as usize] = 1.0 / inverse;
                }
                return Ok(Self { columns, order, full, factor, importance, squares });
            }
            more *= 10.0;
            full.iter_mut().step_by(columns + 1).for_each(|diagonal| *diagonal += more);
        }
        Err(GptqError::NotPositive)
    }

    /// Number of inputs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How much each input counts when the first tables are made, in their own order: what an error of
    /// its weight costs once the weights of all others have made up for it, the reciprocal of the
    /// diagonal of the inverse of the damped moments (LeanQuant, Zhang and Shrivastava 2024, arXiv
    /// 2407.10032).
    #[must_use]
    pub fn importance(&self) -> &[f32] {
        &self.importance
    }

    /// The mean square of each input, in their own order.
    #[must_use]
    pub fn squares(&self) -> &[f32] {
        &self.squares
    }

    /// Writes `source`, a row in the inputs' own order, into `target` in the order of the moments.
    pub(crate) fn arrange<T: Copy>(&self, source: &[T], target: &mut [T]) {
        for (target, at) in target.iter_mut().zip(&self.order) {
            *target = source[*at as usize];
        }
    }

    /// The inverse of [`Self::arrange`].
    pub(crate) fn restore<T: Copy>(&self, source: &[T], target: &mut [T]) {
        for (source, at) in source.iter().zip(&self.order) {
            target[*at as usize] = *source;
        }
    }
}

/// The median of the squares above zero; one where there are none.
fn usual(squares: &[f32]) -> f32 {
    let mut seen: Vec<f32> = squares.iter().copied().filter(|square| *square > 0.0).collect();
    seen.sort_by(f32::total_cmp);
    seen.get(seen.len() / 2).copied().unwrap_or(1.0)
}

/// The lower Cholesky factor, a block of columns at a time; none where the matrix is not positive.
fn factor(full: &[f32], size: usize) -> Option<Vec<f32>> {
    let mut lower = full.to_vec();
    let mut panel = vec![0.0; size * BLOCK];
    for start in (0..size).step_by(BLOCK) {
        let end = (start + BLOCK).min(size);
        let width = end - start;
        // The block on the diagonal, and the rows below it against that block.
        for column in start..end {
            let row = &lower[column * size + start..column * size + column];
            let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            let pivot = f64::from(lower[column * size + column]) - squares;
            if !(pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            let pivot = pivot.sqrt();
            lower[column * size + column] = pivot as f32;
            let (above, below) = lower.split_at_mut((column + 1) * size);
            let head = &above[column * size + start..column * size + column];
            for row in below.chunks_exact_mut(size) {
                let product: f32 = head.iter().zip(&row[start..column]).map(|(a, b)| a * b).sum();
                row[column] = ((f64::from(row[column]) - f64::from(product)) / pivot) as f32;
            }
        }
        // What is right of the block and below it.
        let rest = size - end;
        if rest > 0 {
            for (row, panel) in (end..size).zip(panel.chunks_exact_mut(width)) {
                panel.copy_from_slice(&lower[row * size + start..row * size + end]);
            }
            let left = Matrix::new(&panel[..rest * width], rest, width, width);
            multiply_add(&mut lower[end * size + end..], size, 1.0, -1.0, left, left.transposed());
        }
    }
    for row in 0..size {
        lower[row * size + row + 1..(row + 1) * size].fill(0.0);
    }
    Some(lower)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Numbers from -1 to 1.
    pub(crate) fn noise(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        }
    }

    /// The second moments of `tokens` inputs that depend on each other.
    pub(crate) fn moments(columns: usize, tokens: usize, seed: u64) -> Vec<f32> {
        let mut next = noise(seed);
        let mut sums = vec![0.0; columns * columns];
        for _ in 0..tokens {
            let common = next();
            let inputs: Vec<f32> = (0..columns)
                .map(|column| (next() + common) * (1.0 + (column % 7) as f32))
                .collect();
            for (row, left) in sums.chunks_exact_mut(columns).zip(&inputs) {
                row.iter_mut().zip(&inputs).for_each(|(sum, right)| *sum += left * right);
            }
        }
        sums.iter().map(|sum| sum / tokens as f32).collect()
    }

    #[test]
    fn the_factor_gives_the_moments_again() {
        for columns in [1, 3, 64, 65, 150] {
            let given = moments(columns, 3 * columns, columns as u64);
            let ready = Moments::new(&given, columns, 0.01).unwrap();
            for row in 0..columns {
                for column in 0..=row {
                    let (a, b) =
                        (&ready.factor[row * columns..], &ready.factor[column * columns..]);
                    let product: f64 =
                        (0..=column).map(|k| f64::from(a[k]) * f64::from(b[k])).sum();
                    let expected = f64::from(ready.full[row * columns + column]);
                    assert!((product - expected).abs() < 1e-3, "{product} {expected}");
                }
                assert!(
                    ready.factor[row * columns + row + 1..(row + 1) * columns]
                        .iter()
                        .all(|value| *value == 0.0)
                );
            }
        }
    }

    #[test]
    fn the_largest_moments_are_last_and_rows_come_back() {
        let given = moments(20, 100, 3);
        let ready = Moments::new(&given, 20, 0.01).unwrap();
        let ascending = ready.full.iter().step_by(21).collect::<Vec<_>>();
        assert!(ascending.windows(2).all(|pair| pair[0] <= pair[1]));
        let row: Vec<u8> = (0..20).collect();
        let (mut arranged, mut restored) = (vec![0; 20], vec![0; 20]);
        ready.arrange(&row, &mut arranged);
        ready.restore(&arranged, &mut restored);
        assert_eq!(restored, row);
        assert_ne!(arranged, row);
    }

    #[test]
    fn fewer_tokens_than_inputs_and_inputs_without_tokens_suffice() {
        let mut given = moments(40, 5, 9);
        for other in 0..40 {
            given[7 * 40 + other] = 0.0;
            given[other * 40 + 7] = 0.0;
        }
        assert!(Moments::new(&given, 40, 0.01).is_ok());
        assert!(Moments::new(&[0.0; 16], 4, 0.01).is_ok());
    }

    /// Most inputs next to dead, and fewer tokens than the others: what is usual is no help.
    #[test]
    fn few_live_inputs_among_dead_ones_suffice() {
        let mut given = moments(100, 10, 11);
        let live = |at: usize| at >= 60;
        for row in 0..100 {
            for column in 0..100 {
                let moment = &mut given[row * 100 + column];
                *moment = match (live(row) && live(column), row == column) {
                    (true, _) => *moment,
                    (false, true) => 1e-12,
                    (false, false) => 0.0,
                };
            }
        }
        let ready = Moments::new(&given, 100, 0.05).unwrap();
        let pivots = ready.factor.iter().step_by(101).zip(ready.full.iter().step_by(101));
        // Each is more than what rounding leaves of the moment that it comes from.
        assert!(pivots.into_iter().all(|(pivot, full)| pivot * pivot > 1e-6 * full));
        assert!(ready.importance().iter().all(|value| value.is_finite() && *value > 0.0));
    }

    #[test]
    fn inputs_that_others_stand_in_for_count_less() {
        // The first two are nearly the same, the third is alone.
        let given = [1.0, 0.99, 0.0, 0.99, 1.0, 0.0, 0.0, 0.0, 1.0];
        let ready = Moments::new(&given, 3, 1e-3).unwrap();
        let [first, second, alone] = ready.importance() else { panic!("three inputs") };
        assert!((first / second - 1.0).abs() < 1e-3);
        // The variance of one that the other leaves: 1 - 0.99².
        assert!((first - 0.0217).abs() < 1e-3, "{first}");
        assert!((alone - 1.001).abs() < 1e-3, "{alone}");
    }

    #[test]
    fn what_is_no_moment_is_named() {
        let mut given = moments(4, 20, 1);
        given[6] = f32::NAN;
        let error = Moments::new(&given, 4, 0.01).unwrap_err();
        assert!(matches!(error, GptqError::Moment { row: 1, column: 2, .. }), "{error}");
        let error = Moments::new(&[1.0, 0.0, 0.0, -2.0], 2, 0.01).unwrap_err();
        assert_eq!(error, GptqError::Moment { row: 1, column: 1, value: -2.0 });
        // One triangle alone.
        assert!(matches!(Moments::new(&[1.0, 0.5, 0.0, 1.0], 2, 0.01), Err(GptqError::Size(_))));
        assert!(matches!(Moments::new(&[1.0; 5], 2, 0.01), Err(GptqError::Size(_))));
        assert!(matches!(Moments::new(&[1.0; 4], 2, 0.0), Err(GptqError::Size(_))));
        // 1000 times the diagonal beside it.
        assert_eq!(
            Moments::new(&[1.0, 1e9, 1e9, 1.0], 2, 0.01).unwrap_err(),
            GptqError::NotPositive
        );
    }
}
