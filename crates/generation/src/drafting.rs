//! Guessing tokens, which the model then verifies several at a time.
//!
//! Every token is still the model's own choice: a guess only has it computed beforehand what comes after
//! the guess, and a wrong one is thrown away (Leviathan et al. 2023, "Fast Inference from Transformers via
//! Speculative Decoding", section 2, with guesses that are certain of themselves). So greedy answers are
//! the same tokens, and drawn ones have the same distribution.

use crate::engine::Engine;
use crate::generation::Generator;
use crate::sampling::{Sampler, Sampling};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Host, Result, Runtime};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Tokens at the end of a text that have to occur earlier in it, for the guess that what followed there
/// follows again; longer ones are looked for first.
const SEEN: RangeInclusive<usize> = 2..=4;
/// Most tokens that go by without a guess after several that were wrong.
const LONGEST_PAUSE: u32 = 32;

/// Who guesses.
pub trait Drafter: Send {
    /// Up to `most` tokens that may follow these; none where there is nothing to go by.
    ///
    /// # Errors
    /// Those of a model that is asked.
    fn guess(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>>;
}

/// Who is to guess tokens for a conversion that can verify them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Draft {
    /// The text itself: [`Repetition`].
    #[default]
    Repetition,
    /// [`SmallerModel`], by its meta.yaml.
    SmallerModel(PathBuf),
    /// Nobody.
    None,
}

impl Draft {
    /// Has `generator` guess in this way. Only a smaller model needs functions that verify its guesses.
    ///
    /// # Errors
    /// [`codes::USAGE`]: there are none; those of [`SmallerModel::open`].
    pub fn apply(
        &self,
        generator: &mut Generator,
        runtime: &dyn Runtime,
        host: &Host,
    ) -> Result<()> {
        match self {
            Self::Repetition => Ok(()),
            Self::None => {
                generator.set_drafter(None);
                Ok(())
            }
            Self::SmallerModel(meta) => {
                let engine = generator.engine();
                if engine.verifies(0) == 0 {
                    let conversion = engine.conversion();
                    return Err(Error::new(
                        codes::USAGE,
                        "this conversion has no function that verifies guessed tokens",
                    )
                    .with_at(conversion.directory.display().to_string())
                    .with_hint(
                        "convert the model again with --verify 8, or leave --draft-meta out",
                    ));
                }
                let drafter = SmallerModel::open(meta, engine, runtime, host)?;
                generator.set_drafter(Some(Box::new(drafter)));
                Ok(())
            }
        }
    }
}

/// Guesses that a text goes on as it did where its last tokens occurred before (Saxena 2023, "Prompt
/// Lookup Decoding").
#[derive(Debug, Clone, Copy, Default)]
pub struct Repetition;

impl Drafter for Repetition {
    fn guess(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>> {
        for length in SEEN.rev() {
            let Some(start) = tokens.len().checked_sub(length) else { continue };
            let (before, last) = (&tokens[..tokens.len() - 1], &tokens[start..]);
            // The latest occurrence is the likeliest to go on.
            let Some(place) = before.windows(length).rposition(|seen| seen == last) else {
                continue;
            };
            let mut all = tokens.to_vec();
            // What is guessed may itself be what goes on: a period shorter than the guess.
            for next in (place + length)..(place + length + most) {
                all.push(all[next]);
            }
            return Ok(all.split_off(tokens.len()));
        }
        Ok(Vec::new())
    }
}

/// A smaller model with the same tokens, which answers by its most probable ones.
pub struct SmallerModel {
    generator: Generator,
}

impl SmallerModel {
    /// Opens the conversion of a meta.yaml to guess for a model.
    ///
    /// # Errors
    /// [`codes::USAGE`]: it has another number of tokens than `engine`'s; those of opening it.
    pub fn open(meta: &Path, engine: &Engine, runtime: &dyn Runtime, host: &Host) -> Result<Self> {
        let smaller = Engine::open(meta, runtime, host)?;
        let known = |engine: &Engine| engine.vocabulary().unwrap_or_default();
        if known(&smaller) != known(engine) {
            return Err(Error::new(
                codes::USAGE,
                format!(
                    "the model that is to guess knows {} tokens, the model that answers {}",
                    known(&smaller),
                    known(engine)
                ),
            )
            .with_at(meta.display().to_string())
            .with_hint("take a smaller model of the same family, whose tokenizer is the same"));
        }
        let sampler = Sampler::new(Sampling::GREEDY, Some(0));
        let mut generator = Generator::new(smaller, sampler, BTreeSet::new());
        generator.set_drafter(None);
        Ok(Self { generator })
    }
}

impl Drafter for SmallerModel {
    fn guess(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>> {
        let room = self.generator.context().saturating_sub(tokens.len());
        let mut guessed = Vec::new();
        if room == 0 {
            return Ok(guessed);
        }
        self.generator.answer(tokens, most.min(room) as u64, &mut |token| {
            guessed.push(token);
            Ok(())
        })?;
        Ok(guessed)
    }
}

/// When guessing is worth its while: after wrong guesses it pauses, longer each time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Patience {
    wrong: u32,
    pause: u32,
}

impl Patience {
    /// Whether to guess for the next token.
    pub(crate) fn is_ready(&mut self) -> bool {
        let ready = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        ready
    }

    /// So many guessed tokens were right.
    pub(crate) fn learn(&mut self, right: usize) {
        if right > 0 {
            *self = Self::default();
            return;
        }
        self.wrong = (self.wrong + 1).min(16);
        self.pause = (1_u32 << self.wrong).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(tokens: &[u32], most: usize) -> Vec<u32> {
        Repetition.guess(tokens, most).unwrap()
    }

    #[test]
    fn what_followed_before_is_guessed_to_follow_again() {
        assert_eq!(guess(&[1, 2, 3, 4, 1, 2], 2), [3, 4]);
        assert_eq!(guess(&[1, 2, 3, 4, 1, 2], 9), [3, 4, 1, 2, 3, 4, 1, 2, 3]);
        // The longest match counts, and of equals the latest.
        assert_eq!(guess(&[5, 1, 2, 9, 6, 1, 2, 8, 5, 1, 2], 1), [9]);
        assert_eq!(guess(&[1, 2, 9, 1, 2, 8, 1, 2], 1), [8]);
        assert_eq!(guess(&[7, 7, 7], 3), [7, 7, 7]);
    }

    #[test]
    fn without_a_repetition_there_is_no_guess() {
        assert!(guess(&[], 4).is_empty());
        assert!(guess(&[1], 4).is_empty());
        assert!(guess(&[1, 2], 4).is_empty());
        assert!(guess(&[1, 2, 3, 1, 4], 4).is_empty());
        assert!(guess(&[1, 2, 3, 1, 2], 0).is_empty());
    }

    #[test]
    fn wrong_guesses_make_it_wait_and_a_right_one_does_not() {
        let mut patience = Patience::default();
        let mut waits = Vec::new();
        for right in [0, 0, 0, 3, 0] {
            assert!(patience.is_ready());
            patience.learn(right);
            let mut waited = 0;
            while !patience.is_ready() {
                waited += 1;
            }
            waits.push(waited);
            // The question that was answered with yes was not followed by a guess.
            patience.pause = 0;
        }
        assert_eq!(waits, [2, 4, 8, 0, 2]);
        patience.wrong = 100;
        patience.learn(0);
        assert_eq!(patience.pause, LONGEST_PAUSE);
    }
}
