//! Perplexity: how well a conversion predicts a text, and how far it is from another conversion.
//!
//! The text is cut into windows that do not overlap. Each has as many tokens as the context, the
//! last one those that are left, and each begins anew: with an empty state, at position 0, and with
//! the tokens that the tokenizer puts before a text. Every token of a window but its first is scored
//! by what the model gave for it after all tokens before it in the window.

use crate::distance::{Summary, TokenDistance};
use crate::engine::{Engine, Head};
use crate::evaluation::logsumexp;
use crate::sources::Source;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use serde::Serialize;
use std::collections::VecDeque;

/// The functions by which a model is run for numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluationPath {
    /// Every token through `infer`, one at a time.
    Infer,
    /// The first tokens through `prefill`, the others through `infer`; the latter are compared.
    Prefill,
    /// Every token through the evaluation functions, a batch at a time.
    Evaluate,
}

/// What came of a text.
#[derive(Debug, Serialize)]
pub struct TextEvaluation {
    /// Tokens of the text.
    pub tokens: u64,
    /// Windows that they were cut into.
    pub windows: u64,
    /// Largest number of tokens of a window.
    pub window_tokens: u64,
    /// Tokens that were scored.
    pub scored: u64,
    /// How well this conversion predicts the text.
    #[serde(flatten)]
    pub model: Score,
    /// How far it is from another conversion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Distance>,
}

/// That a text has no token behind another.
pub fn too_few(tokens: u64) -> String {
    let tokens = if tokens == 1 { "1 token".to_owned() } else { format!("{tokens} tokens") };
    format!("the text has {tokens}; at least 2 are needed")
}

/// How well a conversion predicts a text.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Score {
    /// Mean negative log-likelihood of a scored token, in nats; NaN if any logits are not finite.
    pub nll_mean: f64,
    /// The exponential of that.
    pub perplexity: f64,
    /// Scored tokens whose logits are not all finite.
    pub not_finite: u64,
}

/// How far a conversion is from another one, which serves as the reference.
#[derive(Debug, Clone, Serialize)]
pub struct Distance {
    /// meta.yaml of the reference.
    pub meta: String,
    /// How well the reference predicts the text.
    #[serde(flatten)]
    pub reference: Score,
    /// How far the distributions are apart, over the scored tokens.
    #[serde(flatten)]
    pub distributions: Summary,
    /// Each scored token.
    #[serde(skip)]
    pub tokens: Vec<TokenDistance>,
}

/// How many tokens of the text a window of `context` tokens has beside the lead.
fn room(lead: usize, context: u64) -> Result<usize> {
    let room = usize::try_from(context).unwrap_or(usize::MAX).saturating_sub(lead);
    if room == 0 || room + lead < 2 {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("a window of {context} tokens leaves none to score"),
        )
        .with_hint("convert with a larger --context"));
    }
    Ok(room)
}

/// Checks that every token is one of the model's.
///
/// # Errors
/// One is beyond the logits.
pub fn check_vocabulary(engine: &Engine, tokens: &[u32]) -> Result<()> {
    let Some(vocabulary) = engine.vocabulary() else { return Ok(()) };
    match tokens.iter().find(|token| u64::from(**token) >= vocabulary) {
        Some(token) => Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("token id {token} is beyond the model's vocabulary of {vocabulary}"),
        )
        .with_hint("the tokens are of another model")),
        None => Ok(()),
    }
}

/// Adds up the scores of one conversion.
#[derive(Debug, Default)]
struct Sum {
    nll: f64,
    not_finite: u64,
}

impl Sum {
    fn add(&mut self, logits: &[f32], next: u32) {
        let value = logits.get(next as usize).copied().unwrap_or(f32::NAN);
        if logits.iter().all(|value| value.is_finite()) {
            self.nll += logsumexp(logits) - f64::from(value);
        } else {
            self.nll = f64::NAN;
            self.not_finite += 1;
        }
    }

    fn score(&self, count: u64) -> Score {
        let nll_mean = self.nll / count as f64;
        Score { nll_mean, perplexity: nll_mean.exp(), not_finite: self.not_finite }
    }
}

/// Runs all windows of a text; `reference` is another conversion and its name. `progress` is told
/// how many tokens are done.
///
/// # Errors
/// The conversions do not suit each other or the tokens; those of the runtime; Ctrl-C.
pub fn evaluate_text(
    engine: &mut Engine,
    reference: Option<(&mut Engine, String)>,
    text: &mut dyn Source,
    path: EvaluationPath,
    progress: &mut dyn FnMut(u64),
) -> Result<TextEvaluation> {
    let mut reference = reference;
    let mut context = engine.context();
    if let Some((other, name)) = &reference {
        context = context.min(other.context());
        if let (Some(ours), Some(theirs)) = (engine.vocabulary(), other.vocabulary())
            && ours != theirs
        {
            return Err(vocabularies_differ(ours, theirs).with_at(name.clone()));
        }
    }
    let room = room(text.lead().len(), context)?;
    let (mut tokens, mut windows) = (0, 0);
    let (mut ours, mut theirs) = (Sum::default(), Sum::default());
    let (mut scored, mut compared) = (0, Vec::new());
    loop {
        let part = text.take(room)?;
        let ended = part.len() < room;
        let before = tokens;
        tokens += part.len() as u64;
        let window: Vec<u32> = text.lead().iter().copied().chain(part).collect();
        if window.len() < 2 {
            break;
        }
        check_vocabulary(engine, &window)?;
        windows += 1;
        let mut rows = Rows::new(engine, &window, path)?;
        let mut reference_rows = match &mut reference {
            Some((other, _)) => Some(Rows::new(other, &window, path)?),
            None => None,
        };
        for (index, next) in window[1..].iter().enumerate() {
            check_cancelled()?;
            progress(before + index as u64);
            let logits = rows.next()?;
            ours.add(&logits, *next);
            scored += 1;
            let Some(reference_rows) = &mut reference_rows else { continue };
            let reference = reference_rows.next()?;
            if reference.len() != logits.len() {
                return Err(vocabularies_differ(logits.len() as u64, reference.len() as u64));
            }
            theirs.add(&reference, *next);
            compared.push(TokenDistance::of(index as u64, &logits, &reference));
        }
        if ended {
            break;
        }
    }
    if windows == 0 {
        return Err(
            Error::new(codes::EVALUATION_INPUT, too_few(tokens)).with_hint("give a longer text")
        );
    }
    Ok(TextEvaluation {
        tokens,
        windows,
        window_tokens: context,
        scored,
        model: ours.score(scored),
        against: reference.map(|(_, meta)| Distance {
            meta,
            reference: theirs.score(scored),
            distributions: Summary::of(&compared),
            tokens: compared,
        }),
    })
}

/// The logits after each token of a window but the last, whose successor is in no window.
struct Rows<'a> {
    engine: &'a mut Engine,
    window: &'a [u32],
    path: EvaluationPath,
    position: usize,
    ready: VecDeque<Head>,
}

impl<'a> Rows<'a> {
    fn new(engine: &'a mut Engine, window: &'a [u32], path: EvaluationPath) -> Result<Self> {
        engine.reset()?;
        let window = &window[..window.len() - 1];
        Ok(Self { engine, window, path, position: 0, ready: VecDeque::new() })
    }

    fn next(&mut self) -> Result<Vec<f32>> {
        if self.ready.is_empty() {
            let rest = &self.window[self.position..];
            let position = self.position as u64;
            if self.path == EvaluationPath::Evaluate {
                let batch = &rest[..rest.len().min(self.engine.batch().max(1) as usize)];
                self.ready = self.engine.evaluate(batch, position)?.into();
                self.position += batch.len();
            } else if let Some(token) = rest.first() {
                self.ready.push_back(self.engine.infer(*token, position)?);
                self.position += 1;
            }
        }
        match self.ready.pop_front() {
            Some(head) => head.into_logits(),
            None => Err(Error::new(codes::RUN_FAILED, "the runtime gave fewer logits than tokens")),
        }
    }
}

fn vocabularies_differ(ours: u64, theirs: u64) -> Error {
    Error::new(
        codes::EVALUATION_INPUT,
        format!("the conversion has {ours} logits, the one that it is compared with {theirs}"),
    )
    .with_hint("--against takes another conversion of the same model")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_without_room_is_an_error() {
        assert_eq!(room(0, 8).unwrap(), 8);
        assert_eq!(room(1, 2).unwrap(), 1);
        for (lead, context) in [(0, 1), (2, 2), (3, 2), (0, 0)] {
            let error = room(lead, context).unwrap_err();
            assert_eq!(error.code, codes::EVALUATION_INPUT, "{lead} {context}");
        }
    }

    #[test]
    fn the_score_is_that_of_the_distribution() {
        // Probabilities 1/2, 1/4, 1/4.
        let logits = [2.0_f32.ln(), 0.0, 0.0];
        let mut sum = Sum::default();
        sum.add(&logits, 0);
        sum.add(&logits, 2);
        let score = sum.score(2);
        assert!((score.nll_mean - 1.5 * 2.0_f64.ln()).abs() < 1e-7, "{score:?}");
        assert!((score.perplexity - 8.0_f64.sqrt()).abs() < 1e-6, "{score:?}");
        sum.add(&[0.0, f32::INFINITY, 0.0], 0);
        let score = sum.score(3);
        assert!(score.nll_mean.is_nan() && score.not_finite == 1, "{score:?}");
    }
}
