//! Measures between the logits of a conversion and those of the original model.

use crate::arrays::{self, Arrays, MOST_ELEMENTS};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use serde::Serialize;
use std::path::Path;

/// Two largest reference logits closer than this are a tie: float16 cannot tell them apart.
const TIE: f64 = 0.01;

/// Logits of the original model.
pub enum Reference {
    /// Every logit: (tokens, vocabulary).
    Full {
        /// Columns.
        vocabulary: usize,
        /// Row by row.
        logits: Vec<f32>,
    },
    /// The largest logits of each token, and the logarithm of the sum of all exponentials.
    Top {
        /// Entries of each token.
        count: usize,
        /// Token ids, row by row.
        indices: Vec<u32>,
        /// Logits, row by row.
        logits: Vec<f32>,
        /// One value for each token.
        logsumexp: Vec<f32>,
    },
}

/// What is measured at one position.
#[derive(Debug, Clone, Serialize)]
pub struct Position {
    /// Index of the token.
    pub position: u64,
    /// Cosine between the logit vectors.
    pub cosine: f64,
    /// Length of the difference of the logit vectors, as a share of that of the reference.
    pub relative_l2: f64,
    /// Largest absolute difference of two logits.
    pub max_abs_error: f64,
    /// Kullback-Leibler divergence from the reference distribution, in nats.
    pub kl: f64,
    /// Whether the largest logit is the same token's.
    pub top1: bool,
    /// Whether the reference's logits of the two winners are closer than 0.01.
    pub tie: bool,
}

/// What is measured over all positions.
#[derive(Debug, Serialize)]
pub struct Evaluation {
    /// Number of positions compared.
    pub positions: u64,
    /// Smallest cosine.
    pub cosine_min: f64,
    /// Mean cosine.
    pub cosine_mean: f64,
    /// Largest relative error of a logit vector.
    pub relative_l2_max: f64,
    /// Largest absolute difference of two logits.
    pub max_abs_error: f64,
    /// Mean Kullback-Leibler divergence, in nats.
    pub kl_mean: f64,
    /// Share of positions where the winner is the same, ties counted as the same.
    pub top1_agreement: f64,
    /// Each position.
    pub per_position: Vec<Position>,
}

/// Index of the largest value, the first of equals.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// The logarithm of the sum of the exponentials of `values`, without overflow.
pub fn logsumexp(values: &[f32]) -> f64 {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = values.iter().map(|value| f64::from(value - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

impl Reference {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        match self {
            Self::Full { vocabulary, logits } => logits.len() / vocabulary.max(&1),
            Self::Top { logsumexp, .. } => logsumexp.len(),
        }
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a .npy array, or a .npz with `indices`, `logits` and `logsumexp`, of `tokens` rows and
    /// at most `vocabulary` columns. Other sizes are refused before elements are read.
    ///
    /// # Errors
    /// The file cannot be used, or is of other tokens or another model.
    pub fn read(path: &Path, tokens: u64, vocabulary: u64) -> Result<Self> {
        let check = |rows: u64, columns: u64| {
            if rows != tokens {
                return Err(Error::new(
                    codes::EVALUATION_INPUT,
                    format!("there are {tokens} tokens, but reference logits for {rows}"),
                )
                .with_at(path.display().to_string())
                .with_hint("the reference has one row of logits for each token"));
            }
            if columns > vocabulary {
                return Err(
                    vocabulary_differs(vocabulary, columns).with_at(path.display().to_string())
                );
            }
            Ok(rows.saturating_mul(columns))
        };
        if path.extension().is_some_and(|extension| extension == "npz") {
            return Self::read_top(path, check);
        }
        let array = arrays::open(path)?;
        let shape = array.shape();
        let (rows, columns) = match shape[..] {
            [rows, columns] | [1, rows, columns] if columns > 0 => (rows, columns),
            _ => {
                return Err(
                    array.invalid(&format!("shape {shape:?}, expected (tokens, vocabulary)"))
                );
            }
        };
        let most = check(rows, columns)?;
        Ok(Self::Full { vocabulary: columns as usize, logits: array.floats(most)? })
    }

    fn read_top(path: &Path, check: impl Fn(u64, u64) -> Result<u64>) -> Result<Self> {
        let mut archive = Arrays::open(path)?;
        let array = archive.array("indices")?;
        let shape = array.shape();
        let [tokens, count] = shape[..] else {
            return Err(array.invalid("the shape must be (tokens, K)"));
        };
        let most = check(tokens, count)?;
        let indices = array.token_ids(most)?;
        let array = archive.array("logits")?;
        let logits_shape = array.shape();
        let logits = array.floats(most)?;
        let logsumexp = archive.array("logsumexp")?.floats(tokens)?;
        if logits_shape != shape || logsumexp.len() as u64 != tokens || count == 0 {
            let reason = "`indices`, `logits` and `logsumexp` do not match";
            return Err(arrays::invalid(path, reason));
        }
        Ok(Self::Top { count: count as usize, indices, logits, logsumexp })
    }

    /// Compares one row of logits with the reference at `position`.
    pub fn compare(&self, position: usize, ours: &[f32]) -> Result<Position> {
        match self {
            Self::Full { vocabulary, logits } => {
                if ours.len() != *vocabulary {
                    return Err(vocabulary_differs(ours.len() as u64, *vocabulary as u64));
                }
                let reference = &logits[position * vocabulary..(position + 1) * vocabulary];
                let indices = 0..*vocabulary as u32;
                Ok(measure(position, ours, indices, reference, logsumexp(reference)))
            }
            Self::Top { count, indices, logits, logsumexp } => {
                let row = position * count..(position + 1) * count;
                let indices = &indices[row.clone()];
                if let Some(index) = indices.iter().find(|index| **index as usize >= ours.len()) {
                    return Err(vocabulary_differs(ours.len() as u64, u64::from(*index) + 1));
                }
                let total = f64::from(logsumexp[position]);
                Ok(measure(position, ours, indices.iter().copied(), &logits[row], total))
            }
        }
    }
}

/// Over the entries that the reference has; the probability outside of them, if there is any,
/// counts as one outcome.
pub fn measure(
    position: usize,
    ours: &[f32],
    indices: impl Iterator<Item = u32> + Clone,
    reference: &[f32],
    reference_total: f64,
) -> Position {
    let total = logsumexp(ours);
    let (mut dot, mut norm_ours, mut norm_reference) = (0.0, 0.0, 0.0);
    let (mut kl, mut mass_ours, mut mass_reference) = (0.0, 0.0, 0.0);
    let (mut max_abs_error, mut squared_error): (f64, f64) = (0.0, 0.0);
    for (index, theirs) in indices.clone().zip(reference) {
        let mine = f64::from(ours[index as usize]);
        let theirs = f64::from(*theirs);
        dot += mine * theirs;
        norm_ours += mine * mine;
        norm_reference += theirs * theirs;
        max_abs_error = max_abs_error.max((mine - theirs).abs());
        squared_error += (mine - theirs) * (mine - theirs);
        let (log_p, log_q) = (theirs - reference_total, mine - total);
        kl += log_p.exp() * (log_p - log_q);
        mass_reference += log_p.exp();
        mass_ours += log_q.exp();
    }
    let (rest_reference, rest_ours): (f64, f64) = (1.0 - mass_reference, 1.0 - mass_ours);
    if reference.len() < ours.len() && rest_reference > 0.0 && rest_ours > 0.0 {
        kl += rest_reference * (rest_reference / rest_ours).ln();
    }
    let best_reference = argmax(reference);
    let winner = indices.clone().nth(best_reference).unwrap_or(0);
    let our_winner = argmax(ours) as u32;
    let reference_of_ours = indices
        .zip(reference)
        .find(|(index, _)| *index == our_winner)
        .map_or(f64::NEG_INFINITY, |(_, value)| f64::from(*value));
    let norm = (norm_ours * norm_reference).sqrt();
    // One value that is no number, also one outside of the reference's entries, spoils them all.
    let broken = ours.iter().any(|value| !value.is_finite());
    let unless_broken = |value: f64| if broken { f64::NAN } else { value };
    Position {
        position: position as u64,
        // Two zero vectors are the same.
        cosine: unless_broken(if norm == 0.0 && norm_ours == norm_reference {
            1.0
        } else {
            dot / norm
        }),
        relative_l2: unless_broken(if squared_error == 0.0 {
            0.0
        } else {
            (squared_error / norm_reference).sqrt()
        }),
        max_abs_error: unless_broken(max_abs_error),
        // Rounding can give a sum below zero.
        kl: unless_broken(if kl < 0.0 { 0.0 } else { kl }),
        top1: !broken && winner == our_winner,
        tie: !broken
            && winner != our_winner
            && f64::from(reference[best_reference]) - reference_of_ours < TIE,
    }
}

/// Puts the positions together.
pub fn summarize(per_position: Vec<Position>) -> Result<Evaluation> {
    if per_position.is_empty() {
        return Err(Error::new(codes::EVALUATION_INPUT, "there is no position to compare"));
    }
    let count = per_position.len() as f64;
    let mean = |value: fn(&Position) -> f64| per_position.iter().map(value).sum::<f64>() / count;
    // f64::min and max drop a NaN; here it must survive.
    let extreme = |value: fn(&Position) -> f64, larger: bool| {
        per_position.iter().map(value).fold(None, |best: Option<f64>, value| match best {
            Some(best)
                if best.is_nan() || (larger && best >= value) || (!larger && best <= value) =>
            {
                Some(best)
            }
            _ => Some(value),
        })
    };
    Ok(Evaluation {
        positions: per_position.len() as u64,
        cosine_min: extreme(|position| position.cosine, false).unwrap_or(f64::NAN),
        cosine_mean: mean(|position| position.cosine),
        relative_l2_max: extreme(|position| position.relative_l2, true).unwrap_or(f64::NAN),
        max_abs_error: extreme(|position| position.max_abs_error, true).unwrap_or(f64::NAN),
        kl_mean: mean(|position| position.kl),
        top1_agreement: mean(|position| if position.top1 || position.tie { 1.0 } else { 0.0 }),
        per_position,
    })
}

/// Reads token ids: integers of shape (tokens) or (1, tokens).
///
/// # Errors
/// The file cannot be used.
pub fn read_tokens(path: &Path) -> Result<Vec<u32>> {
    let array = arrays::open(path)?;
    let shape = array.shape();
    if !matches!(shape.as_slice(), [_] | [1, _]) {
        return Err(array.invalid(&format!("shape {shape:?}, expected (tokens)")));
    }
    array.token_ids(MOST_ELEMENTS)
}

fn vocabulary_differs(ours: u64, reference: u64) -> Error {
    Error::new(
        codes::EVALUATION_INPUT,
        format!("the conversion has {ours} logits, the reference {reference}"),
    )
    .with_hint("the reference is of another model")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(rows: &[&[f32]]) -> Reference {
        Reference::Full { vocabulary: rows[0].len(), logits: rows.concat() }
    }

    #[test]
    fn equal_logits_have_cosine_one_and_no_divergence() {
        let position = full(&[&[1.0, 2.0, -3.0]]).compare(0, &[1.0, 2.0, -3.0]).unwrap();
        assert!((position.cosine - 1.0).abs() < 1e-12);
        assert!(position.kl < 1e-12 && position.top1 && position.max_abs_error == 0.0);
    }

    #[test]
    fn the_divergence_is_that_of_the_distributions() {
        // p = (0.5, 0.5), q = (0.8, 0.2): KL = 0.5 ln(0.5/0.8) + 0.5 ln(0.5/0.2).
        let ours = [0.8_f32.ln(), 0.2_f32.ln()];
        let position = full(&[&[0.0, 0.0]]).compare(0, &ours).unwrap();
        let expected = 0.5 * (0.5_f64 / 0.8).ln() + 0.5 * (0.5_f64 / 0.2).ln();
        assert!((position.kl - expected).abs() < 1e-6, "{}", position.kl);
    }

    #[test]
    fn the_largest_entries_with_the_sum_come_close_to_the_whole() {
        let reference = [3.0_f32, 1.0, 0.5, -2.0];
        let ours = [2.9_f32, 1.1, 0.4, -2.2];
        let whole = full(&[&reference]).compare(0, &ours).unwrap();
        let top = Reference::Top {
            count: 3,
            indices: vec![0, 1, 2],
            logits: reference[..3].to_vec(),
            logsumexp: vec![logsumexp(&reference) as f32],
        }
        .compare(0, &ours)
        .unwrap();
        assert!((whole.kl - top.kl).abs() < 1e-3);
        assert!(top.kl > 0.0 && top.top1);
    }

    #[test]
    fn a_near_tie_is_told_from_a_disagreement() {
        let reference = full(&[&[1.0, 0.995, 0.0]]);
        let tie = reference.compare(0, &[0.99, 1.0, 0.0]).unwrap();
        assert!(!tie.top1 && tie.tie);
        let wrong = reference.compare(0, &[0.0, 0.0, 5.0]).unwrap();
        assert!(!wrong.top1 && !wrong.tie);
    }

    #[test]
    fn a_nan_survives_the_summary() {
        let reference = full(&[&[1.0, 2.0], &[1.0, 2.0]]);
        let rows = vec![
            reference.compare(0, &[f32::NAN, 2.0]).unwrap(),
            reference.compare(1, &[1.0, 2.0]).unwrap(),
        ];
        let evaluation = summarize(rows).unwrap();
        assert!(evaluation.cosine_min.is_nan() && evaluation.max_abs_error.is_nan());
        assert!(evaluation.kl_mean.is_nan() && evaluation.top1_agreement == 0.5);
    }

    /// The largest entries of a reference say nothing of a NaN elsewhere; the position does.
    #[test]
    fn a_nan_outside_of_the_reference_counts() {
        let top =
            Reference::Top { count: 1, indices: vec![0], logits: vec![3.0], logsumexp: vec![3.2] };
        for bad in [f32::NAN, f32::INFINITY] {
            let position = top.compare(0, &[3.0, bad]).unwrap();
            assert!(position.cosine.is_nan() && position.kl.is_nan() && !position.top1);
        }
    }

    #[test]
    fn another_vocabulary_is_refused() {
        assert!(full(&[&[1.0, 2.0]]).compare(0, &[1.0]).is_err());
    }
}
