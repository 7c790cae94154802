//! Who guesses tokens for a conversion that can verify them: the text itself, a smaller model, or nobody.

use crate::drafting::Drafter;
use crate::engine::Engine;
use crate::generation::Generator;
use crate::sampling::{Sampler, Sampling};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Host, Result, Runtime};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Who is to guess.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Draft {
    /// The text itself: [`Repetition`](crate::drafting::Repetition).
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
        let mut smaller = Engine::open(meta, runtime, host)?;
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
        smaller.warm_up()?;
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
