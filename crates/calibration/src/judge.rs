//! Judging a conversion by what the original model says of a text.

use crate::corpus::Corpus;
use crate::file::{JUDGE, Lazy};
use crate::statistics::Statistics;
use anemll_codes as codes;
use anemll_generation::engine::Engine;
use anemll_generation::evaluation::{logsumexp, measure};
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Logits that are kept of each token: the largest. What is outside of them counts as one outcome.
const KEPT: usize = 256;

/// What the original model says of some windows of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    windows: Vec<Vec<u32>>,
    /// Entries of each token.
    kept: usize,
    /// Token ids of the largest logits, for each token of all windows.
    indices: Vec<u32>,
    logits: Vec<f32>,
    logsumexp: Vec<f32>,
    /// For each token the logit of the one that follows; NaN for the last of a window.
    next: Vec<f32>,
}

/// How good a conversion is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Tokens that were compared.
    pub tokens: u64,
    /// Mean Kullback-Leibler divergence from the original's distributions, in nats; NaN where logits
    /// are no numbers.
    #[serde(deserialize_with = "number")]
    pub kl: f64,
    /// Share of tokens for which both have the same winner, ties counted as the same.
    pub top1: f64,
    /// Perplexity of the conversion.
    #[serde(deserialize_with = "number")]
    pub perplexity: f64,
    /// Perplexity of the original.
    #[serde(deserialize_with = "number")]
    pub original_perplexity: f64,
}

/// What JSON has no number for is written as null.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Option::<f64>::deserialize(deserializer).map(|number| number.unwrap_or(f64::NAN))
}

impl fmt::Display for Quality {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "KL {:.3}, same word {:.0} %, perplexity {:.1} (16 bits: {:.1})",
            self.kl,
            100.0 * self.top1,
            self.perplexity,
            self.original_perplexity
        )
    }
}

impl Judge {
    /// Runs a text through the original model. `progress` hears how many tokens are done, and may
    /// stop.
    ///
    /// # Errors
    /// The runtime's.
    pub fn new(engine: &mut Engine, corpus: &Corpus, progress: &dyn Fn(u64)) -> Result<Self> {
        let mut judge = Self {
            windows: corpus.windows().to_vec(),
            kept: 0,
            indices: Vec::new(),
            logits: Vec::new(),
            logsumexp: Vec::new(),
            next: Vec::new(),
        };
        run(engine, corpus.windows(), progress, |logits, next| {
            judge.kept = KEPT.min(logits.len());
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            let larger = |a: &u32, b: &u32| {
                logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
            };
            if judge.kept < order.len() {
                order.select_nth_unstable_by(judge.kept, larger);
            }
            order.truncate(judge.kept);
            order.sort_unstable_by(larger);
            judge.logits.extend(order.iter().map(|token| logits[*token as usize]));
            judge.indices.extend(order);
            judge.logsumexp.push(logsumexp(logits) as f32);
            let next = next.and_then(|next| logits.get(next as usize));
            judge.next.push(next.copied().unwrap_or(f32::NAN));
            Ok(())
        })?;
        Ok(judge)
    }

    /// How good a conversion is.
    ///
    /// # Errors
    /// The runtime's, or the conversion has another vocabulary.
    pub fn judge(&self, engine: &mut Engine, progress: &dyn Fn(u64)) -> Result<Quality> {
        Ok(self.judge_tokens(engine, progress)?.0)
    }

    /// How good a conversion is, and its divergence at each token.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn judge_tokens(
        &self,
        engine: &mut Engine,
        progress: &dyn Fn(u64),
    ) -> Result<(Quality, Vec<f64>)> {
        let (mut kl, mut same, mut count) = (Vec::new(), 0_u64, 0_usize);
        let (mut ours, mut original, mut scored) = (0.0, 0.0, 0_u64);
        run(engine, &self.windows, progress, |logits, next| {
            let row = count * self.kept..(count + 1) * self.kept;
            let (Some(indices), Some(reference)) =
                (self.indices.get(row.clone()), self.logits.get(row))
            else {
                return Err(damaged("the text to judge by has more tokens than logits"));
            };
            if let Some(token) = indices.iter().find(|token| **token as usize >= logits.len()) {
                return Err(damaged(&format!(
                    "the original model has the token {token}, the conversion logits for {} tokens",
                    logits.len()
                )));
            }
            let total = f64::from(self.logsumexp[count]);
            let position = measure(count, logits, indices.iter().copied(), reference, total);
            kl.push(position.kl);
            same += u64::from(position.top1 || position.tie);
            if let Some(mine) = next.and_then(|next| logits.get(next as usize)) {
                ours += logsumexp(logits) - f64::from(*mine);
                original += total - f64::from(self.next[count]);
                scored += 1;
            }
            count += 1;
            Ok(())
        })?;
        let (tokens, scored) = (count.max(1) as f64, scored.max(1) as f64);
        let quality = Quality {
            tokens: count as u64,
            kl: kl.iter().sum::<f64>() / tokens,
            top1: same as f64 / tokens,
            perplexity: (ours / scored).exp(),
            original_perplexity: (original / scored).exp(),
        };
        Ok((quality, kl))
    }

    /// The first part of the text, by which bits are chosen. The rest says how good they are.
    #[must_use]
    pub fn choosing(&self) -> Self {
        self.part(0..self.windows.len().div_ceil(3))
    }

    /// What is left for the last word.
    #[must_use]
    pub fn last_word(&self) -> Self {
        self.part(self.windows.len().div_ceil(3)..self.windows.len())
    }

    /// Some of the windows; all where there would be none.
    fn part(&self, windows: std::ops::Range<usize>) -> Self {
        if windows.is_empty() {
            return self.clone();
        }
        let count = |windows: &[Vec<u32>]| windows.iter().map(Vec::len).sum::<usize>();
        let first = count(&self.windows[..windows.start]);
        let tokens = first..first + count(&self.windows[windows.clone()]);
        let rows = tokens.start * self.kept..tokens.end * self.kept;
        Self {
            windows: self.windows[windows].to_vec(),
            kept: self.kept,
            indices: self.indices[rows.clone()].to_vec(),
            logits: self.logits[rows].to_vec(),
            logsumexp: self.logsumexp[tokens.clone()].to_vec(),
            next: self.next[tokens].to_vec(),
        }
    }

    /// Tokens of the longest window.
    pub fn longest(&self) -> usize {
        self.windows.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Tokens of all windows.
    pub fn tokens(&self) -> u64 {
        self.logsumexp.len() as u64
    }

    /// The tensors by which it is kept.
    pub(crate) fn tensors(&self) -> Vec<(String, Lazy<'_>)> {
        let count = self.logsumexp.len();
        let windows: Vec<u32> = self.windows.iter().map(|window| window.len() as u32).collect();
        let tokens: Vec<u32> = self.windows.concat();
        let owned = |values: Vec<u32>| Lazy {
            dtype: safetensors::Dtype::U32,
            shape: vec![values.len()],
            bytes: Box::new(move || Ok(bytemuck::cast_slice::<u32, u8>(&values).to_vec().into())),
        };
        let named = |name: &str, tensor| (format!("{JUDGE}{name}"), tensor);
        vec![
            named("windows", owned(windows)),
            named("tokens", owned(tokens)),
            named("indices", Lazy::integers(&[count, self.kept], &self.indices)),
            named("logits", Lazy::floats(&[count, self.kept], &self.logits)),
            named("logsumexp", Lazy::floats(&[count], &self.logsumexp)),
            named("next", Lazy::floats(&[count], &self.next)),
        ]
    }

    /// The judge of a file of statistics, if it has one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(statistics: &Statistics) -> Result<Option<Self>> {
        let name = |name: &str| format!("{JUDGE}{name}");
        let floats = |of: &str| statistics.floats(&name(of));
        let integers = |of: &str| statistics.integers(&name(of));
        if statistics.shape(&name("logsumexp")).is_none() {
            return Ok(None);
        }
        let (lengths, tokens) = (integers("windows")?, integers("tokens")?);
        let mut rest = tokens.as_slice();
        let mut windows = Vec::new();
        for length in lengths {
            let Some((window, behind)) = rest.split_at_checked(length as usize) else {
                return Err(damaged("its windows have more tokens than there are"));
            };
            windows.push(window.to_vec());
            rest = behind;
        }
        let judge = Self {
            windows,
            kept: statistics
                .shape(&name("indices"))
                .and_then(|shape| shape.last())
                .copied()
                .unwrap_or(0) as usize,
            indices: integers("indices")?,
            logits: floats("logits")?,
            logsumexp: floats("logsumexp")?,
            next: floats("next")?,
        };
        let count = judge.logsumexp.len();
        let sound = tokens.len() == count
            && rest.is_empty()
            && judge.next.len() == count
            && judge.kept > 0
            && judge.indices.len() == count * judge.kept
            && judge.logits.len() == judge.indices.len();
        if sound { Ok(Some(judge)) } else { Err(damaged("its tensors do not suit each other")) }
    }
}

fn damaged(reason: &str) -> Error {
    Error::new(codes::STATISTICS_INVALID, format!("the text to judge by cannot be used: {reason}"))
        .with_hint("calibrate again")
}

/// Runs windows through the evaluation functions; each token's logits go to `each`, with the token
/// that follows in the window.
fn run(
    engine: &mut Engine,
    windows: &[Vec<u32>],
    progress: &dyn Fn(u64),
    mut each: impl FnMut(&[f32], Option<u32>) -> Result<()>,
) -> Result<()> {
    let (context, batch) = (engine.context() as usize, engine.batch().max(1) as usize);
    let mut done = 0;
    for window in windows {
        if window.len() > context {
            return Err(damaged(&format!(
                "a window has {} tokens, the conversion a context of {context}",
                window.len()
            )));
        }
        engine.reset()?;
        for (number, tokens) in window.chunks(batch).enumerate() {
            check_cancelled()?;
            let first = number * batch;
            for (row, head) in engine.evaluate(tokens, first as u64)?.into_iter().enumerate() {
                each(&head.into_logits()?, window.get(first + row + 1).copied())?;
            }
            done += tokens.len() as u64;
            progress(done);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quality_that_is_no_number_is_read_again() {
        let bad = Quality {
            tokens: 3,
            kl: f64::NAN,
            top1: 0.5,
            perplexity: f64::INFINITY,
            original_perplexity: 9.5,
        };
        let json = serde_json::to_string(&bad).unwrap();
        let read: Quality = serde_json::from_str(&json).unwrap();
        assert!(read.kl.is_nan() && read.perplexity.is_nan());
        assert_eq!((read.tokens, read.top1, read.original_perplexity), (3, 0.5, 9.5));
    }
}
