//! Choosing the next token from logits.
//!
//! The filters work in place, in this order: repetition penalty, frequency and presence penalty,
//! repeated sequences, temperature, top-k, top-p, min-p. A token that a filter takes away gets minus
//! infinity. What is left is drawn from with a generator that gives the same numbers for the same
//! seed on every system.

use crate::engine::Head;
use crate::penalties::{
    History, ban_repeated_sequences, penalize_presence_and_frequency, penalize_repetition,
};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use std::hash::{BuildHasher as _, Hasher as _};

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The logits are divided by it; 0 takes the largest logit (greedy).
    pub temperature: f32,
    /// Keeps the K largest logits; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens whose probabilities reach P together; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least P times as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Divides logits above 0 of tokens that occurred, and multiplies those below 0; 1 changes
    /// nothing.
    pub repetition_penalty: f32,
    /// Taken from the logits of tokens that were generated; 0 changes nothing.
    pub presence_penalty: f32,
    /// Taken from the logits of tokens as many times as they were generated; 0 changes nothing.
    pub frequency_penalty: f32,
    /// No sequence of this many tokens occurs twice; 0 allows all.
    pub no_repeat_ngram: usize,
}

impl Sampling {
    /// The largest logit each time.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        no_repeat_ngram: 0,
    };

    /// Whether the largest logit is always taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether tokens that occurred change what is chosen.
    pub fn looks_back(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
            || self.no_repeat_ngram > 0
    }

    /// Makes tokens of `history` less likely.
    pub fn penalize(&self, logits: &mut [f32], history: History<'_>) {
        let (presence, frequency) = (self.presence_penalty, self.frequency_penalty);
        penalize_repetition(logits, history.tokens, self.repetition_penalty);
        penalize_presence_and_frequency(logits, history.generated(), presence, frequency);
        ban_repeated_sequences(logits, history.tokens, self.no_repeat_ngram);
    }

    /// Leaves the logits of those tokens that may be drawn, each divided by the temperature, which
    /// is above 0.
    pub fn filter(&self, logits: &mut [f32]) {
        apply_temperature(logits, self.temperature);
        keep_top_k(logits, self.top_k);
        keep_top_p(logits, self.top_p);
        keep_min_p(logits, self.min_p);
    }
}

/// Divides the logits by `temperature`, above 0. The largest becomes 0, so that a small
/// temperature cannot overflow; probabilities do not change by that.
pub fn apply_temperature(logits: &mut [f32], temperature: f32) {
    let largest = largest(logits);
    if !largest.is_finite() {
        return;
    }
    for logit in logits {
        *logit = (*logit - largest) / temperature;
    }
}

/// Keeps the `count` largest logits; of equal ones at the border, those with the lower ids.
pub fn keep_top_k(logits: &mut [f32], count: usize) {
    if count == 0 || count >= logits.len() {
        return;
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // Equal logits are told apart by id, so that the choice does not depend on the algorithm.
    order.select_nth_unstable_by(count, |left, right| {
        logits[*right].total_cmp(&logits[*left]).then(left.cmp(right))
    });
    for index in &order[count..] {
        logits[*index] = f32::NEG_INFINITY;
    }
}

/// Keeps the fewest tokens, most likely first, whose probabilities add up to `share` or more; at
/// least one (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration").
pub fn keep_top_p(logits: &mut [f32], share: f32) {
    if share >= 1.0 {
        return;
    }
    let probabilities = probabilities(logits);
    let mut sum = 0.0;
    let mut kept = 0;
    for index in descending(logits) {
        if kept > 0 && sum >= f64::from(share) {
            logits[index] = f32::NEG_INFINITY;
        } else {
            sum += probabilities[index];
            kept += 1;
        }
    }
}

/// Keeps tokens whose probability is at least `share` of the largest one (Nguyen et al. 2024,
/// "Turning Up the Heat: Min-p Sampling").
pub fn keep_min_p(logits: &mut [f32], share: f32) {
    if share <= 0.0 {
        return;
    }
    // A quotient of probabilities is a difference of logits.
    let least = largest(logits) + share.min(1.0).ln();
    for logit in logits {
        if *logit < least {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Draws an index by its probability. `uniform` is in [0, 1).
pub fn draw(logits: &[f32], uniform: f64) -> usize {
    let probabilities = probabilities(logits);
    let target = uniform * probabilities.iter().sum::<f64>();
    let mut sum = 0.0;
    let mut last = 0;
    for (index, probability) in probabilities.iter().enumerate() {
        if *probability > 0.0 {
            sum += probability;
            last = index;
            if sum > target {
                break;
            }
        }
    }
    last
}

fn largest(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Softmax.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(largest(logits));
    let exponentials: Vec<f64> =
        logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

/// Indices from the largest logit to the smallest; equal ones by id.
fn descending(logits: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|left, right| logits[*right].total_cmp(&logits[*left]));
    order
}

/// Is told of each token that is chosen, with the logits as the model gave them.
pub type Observer = Box<dyn FnMut(&[f32], u32) + Send>;

/// Logits that differ by less than this share of the largest magnitude are close: several times what the
/// rounding of 16-bit floats makes of them on their way through the layers.
const CLOSE: f32 = 1.0 / 100.0;

/// A way of choosing, with its generator.
pub struct Sampler {
    sampling: Sampling,
    generator: ChaCha8Rng,
    seed: u64,
    observer: Option<Observer>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_struct("Sampler");
        fields.field("sampling", &self.sampling).field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Sampler {
    /// Without a seed, one is taken from the system's randomness.
    pub fn new(sampling: Sampling, seed: Option<u64>) -> Self {
        // The standard library seeds each of these states from the system.
        let seed = seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        Self { sampling, generator: ChaCha8Rng::seed_from_u64(seed), seed, observer: None }
    }

    /// The seed in use.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether the largest logit is always taken.
    pub fn is_greedy(&self) -> bool {
        self.sampling.is_greedy()
    }

    /// Has `observer` told of each token that is chosen from logits from now on.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Whether someone is told of each token that is chosen.
    pub(crate) fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// Whether the two best of greedily chosen tokens are so near each other that the rounding of
    /// another way to compute the same logits might choose the other one.
    pub(crate) fn is_close(&self, head: &Head, history: History<'_>) -> bool {
        let Head::Logits(logits) = head else { return false };
        if !self.is_greedy() {
            return false;
        }
        let magnitude = logits.iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
        let mut logits = logits.clone();
        self.sampling.penalize(&mut logits, history);
        let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for logit in logits {
            if logit > best {
                (best, second) = (logit, best);
            } else if logit > second {
                second = logit;
            }
        }
        best - second < CLOSE * magnitude
    }

    /// The next token after those of `history`.
    ///
    /// # Errors
    /// A logit is NaN, no logit is finite, or only the largest logit is known and something else
    /// than that is asked for.
    pub fn next(&mut self, head: Head, history: History<'_>) -> Result<u32> {
        let given = match &head {
            Head::Logits(logits) if self.observer.is_some() => Some(logits.clone()),
            _ => None,
        };
        let token = self.choose(head, history)?;
        if let (Some(observer), Some(logits)) = (&mut self.observer, given) {
            observer(&logits, token);
        }
        Ok(token)
    }

    fn choose(&mut self, head: Head, history: History<'_>) -> Result<u32> {
        if head.has_not_a_number() {
            return Err(unusable("the model gave a logit that is not a number"));
        }
        let mut logits = match head {
            Head::Largest(token, _) if self.is_greedy() && !self.sampling.looks_back() => {
                return Ok(token);
            }
            Head::Largest(..) => {
                return Err(Error::new(
                    codes::USAGE,
                    "this conversion gives only the token with the largest logit",
                ));
            }
            Head::Logits(logits) => logits,
        };
        self.sampling.penalize(&mut logits, history);
        if self.is_greedy() {
            return Ok(Head::Logits(logits).best());
        }
        self.sampling.filter(&mut logits);
        if !largest(&logits).is_finite() {
            return Err(unusable("the model gave no finite logit to choose from"));
        }
        // 53 bits: every double in [0, 1) that is a multiple of 2^-53.
        let uniform = (self.generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        Ok(draw(&logits, uniform) as u32)
    }
}

fn unusable(message: &str) -> Error {
    Error::new(codes::RUN_FAILED, message)
        .with_hint("`anemll eval` compares the conversion with the original model")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn kept(logits: &[f32]) -> Vec<usize> {
        (0..logits.len()).filter(|index| logits[*index] > f32::NEG_INFINITY).collect()
    }

    #[test]
    fn temperature_divides_and_cannot_overflow() {
        let mut logits = [1.0, 3.0, 2.0];
        apply_temperature(&mut logits, 0.5);
        assert_eq!(logits, [-4.0, 0.0, -2.0]);
        let mut logits = [1000.0, 0.0, f32::NEG_INFINITY];
        apply_temperature(&mut logits, 1e-40);
        assert_eq!(logits, [0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn top_k_keeps_k_and_the_first_of_equals() {
        let mut logits = [1.0, 2.0, 2.0, 2.0, 0.0];
        keep_top_k(&mut logits, 2);
        assert_eq!(kept(&logits), [1, 2]);
        let mut logits = [1.0, 2.0];
        keep_top_k(&mut logits, 0);
        keep_top_k(&mut logits, 5);
        assert_eq!(kept(&logits), [0, 1]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_the_share() {
        let logits = [0.5_f32.ln(), 0.25_f32.ln(), 0.125_f32.ln(), 0.125_f32.ln()];
        for (share, expected) in [
            (0.0, vec![0]),
            (0.4, vec![0]),
            (0.6, vec![0, 1]),
            (0.8, vec![0, 1, 2]),
            (1.0, vec![0, 1, 2, 3]),
        ] {
            let mut logits = logits;
            keep_top_p(&mut logits, share);
            assert_eq!(kept(&logits), expected, "{share}");
        }
    }

    #[test]
    fn min_p_is_relative_to_the_most_likely_and_keeps_ties() {
        let logits = [0.5_f32.ln(), 0.25_f32.ln(), 0.2_f32.ln(), 0.25_f32.ln()];
        for (share, expected) in
            [(0.0, vec![0, 1, 2, 3]), (0.45, vec![0, 1, 3]), (0.6, vec![0]), (1.0, vec![0])]
        {
            let mut logits = logits;
            keep_min_p(&mut logits, share);
            assert_eq!(kept(&logits), expected, "{share}");
        }
        let mut equal = [3.0, 3.0];
        keep_min_p(&mut equal, 1.0);
        assert_eq!(kept(&equal), [0, 1]);
    }

    #[test]
    fn drawing_follows_the_probabilities() {
        let logits = [0.25_f32.ln(), f32::NEG_INFINITY, 0.75_f32.ln()];
        assert_eq!(draw(&logits, 0.0), 0);
        assert_eq!(draw(&logits, 0.2), 0);
        assert_eq!(draw(&logits, 0.3), 2);
        assert_eq!(draw(&logits, 1.0 - f64::EPSILON), 2);
        let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        let mut sampler = Sampler::new(sampling, Some(1));
        let count = (0..4000)
            .filter(|_| {
                sampler.next(Head::Logits(logits.to_vec()), History::default()).unwrap() == 0
            })
            .count();
        assert!((900..1100).contains(&count), "{count}");
    }

    #[test]
    fn what_occurred_decides_also_where_the_largest_is_taken() {
        let occurred = History { tokens: &[1], prompt: 1 };
        let generated = History { tokens: &[1], prompt: 0 };
        let head = || Head::Logits(vec![1.0, 3.0, 2.0]);
        let next = |sampling, history| Sampler::new(sampling, Some(0)).next(head(), history);
        let repetition = Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY };
        assert_eq!(next(repetition, History::default()).unwrap(), 1);
        assert_eq!(next(repetition, occurred).unwrap(), 2);
        for sampling in [
            Sampling { presence_penalty: 1.5, ..Sampling::GREEDY },
            Sampling { frequency_penalty: 1.5, ..Sampling::GREEDY },
        ] {
            // Of the prompt, these know nothing.
            assert_eq!(next(sampling, occurred).unwrap(), 1);
            assert_eq!(next(sampling, generated).unwrap(), 2);
            let mut sampler = Sampler::new(sampling, Some(0));
            let error = sampler.next(Head::Largest(1, 3.0), generated).unwrap_err();
            assert_eq!(error.code, codes::USAGE);
        }
    }

    #[test]
    fn a_seed_gives_the_same_tokens_again() {
        let sampling =
            Sampling { temperature: 1.0, top_k: 50, top_p: 0.95, min_p: 0.01, ..Sampling::GREEDY };
        let tokens = |seed| {
            let mut sampler = Sampler::new(sampling, seed);
            (0..20)
                .map(|step| {
                    let logits = (0..100).map(|index| ((index * 7 + step) % 13) as f32 / 4.0);
                    sampler.next(Head::Logits(logits.collect()), History::default()).unwrap()
                })
                .collect::<Vec<u32>>()
        };
        assert_eq!(tokens(Some(7)), tokens(Some(7)));
        assert_ne!(tokens(Some(7)), tokens(Some(8)));
        assert_ne!(tokens(None), tokens(None));
    }

    #[test]
    fn probabilities_are_those_behind_the_processors_of_transformers() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/reference/generation/processors.json"
        );
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let numbers = |value: &Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
        };
        let tokens: Vec<u32> =
            numbers(&golden["tokens"]).iter().map(|token| *token as u32).collect();
        let prompt = golden["prompt_tokens"].as_u64().unwrap() as usize;
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 10);
        for case in cases {
            let settings = &case["settings"];
            let value = |key: &str, usual: f32| {
                settings[key].as_f64().map_or(usual, |number| number as f32)
            };
            let sampling = Sampling {
                temperature: value("temperature", 1.0),
                top_k: value("top_k", 0.0) as usize,
                top_p: value("top_p", 1.0),
                min_p: value("min_p", 0.0),
                repetition_penalty: value("repetition_penalty", 1.0),
                presence_penalty: value("presence_penalty", 0.0),
                frequency_penalty: value("frequency_penalty", 0.0),
                no_repeat_ngram: value("no_repeat_ngram_size", 0.0) as usize,
            };
            let mut logits: Vec<f32> =
                numbers(&golden["logits"]).iter().map(|logit| *logit as f32).collect();
            sampling.penalize(&mut logits, History { tokens: &tokens, prompt });
            sampling.filter(&mut logits);
            let expected = numbers(&case["probabilities"]);
            for (found, expected) in probabilities(&logits).iter().zip(&expected) {
                assert!((found - expected).abs() < 2e-6, "{settings}: {found}, not {expected}");
                assert_eq!(*found > 0.0, *expected > 0.0, "{settings}");
            }
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut sampler = Sampler::new(Sampling::GREEDY, Some(0));
        assert_eq!(sampler.next(Head::Logits(vec![1.0, 4.0, 4.0]), History::default()).unwrap(), 1);
        assert_eq!(sampler.next(Head::Largest(9, 1.0), History::default()).unwrap(), 9);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for temperature in [0.0, 1.0] {
            let sampling = Sampling { temperature, ..Sampling::GREEDY };
            let mut sampler = Sampler::new(sampling, Some(0));
            let error =
                sampler.next(Head::Logits(vec![1.0, f32::NAN]), History::default()).unwrap_err();
            assert_eq!(error.code, codes::RUN_FAILED);
        }
        let mut sampler = Sampler::new(Sampling { temperature: 1.0, ..Sampling::GREEDY }, Some(0));
        assert!(
            sampler.next(Head::Logits(vec![f32::NEG_INFINITY; 3]), History::default()).is_err()
        );
        assert_eq!(
            sampler.next(Head::Largest(1, 0.0), History::default()).unwrap_err().code,
            codes::USAGE
        );
    }
}
