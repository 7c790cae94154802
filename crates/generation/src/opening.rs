//! A conversion opened for texts: its packages, its tokenizer, and how its tokens are chosen.

use crate::drafting::Draft;
use crate::engine::Engine;
use crate::generation::Generator;
use crate::sampling::{Sampler, Sampling};
use crate::settings::{Suggestion, Wanted};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Host, Result, Runtime};
use anemll_tokenizer::Tokenizer;
use std::path::Path;

/// What a conversion is opened from.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The meta.yaml.
    pub meta: &'a Path,
    /// Where the tokenizer is, when not beside meta.yaml.
    pub tokenizer: Option<&'a Path>,
}

/// How tokens are to be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// What was asked for.
    pub wanted: &'a Wanted,
    /// Decides what is drawn; without one it is new each time.
    pub seed: Option<u64>,
    /// What the model suggests for the rest, by its generation_config.json:
    /// [`Suggestion::for_chat`] or [`Suggestion::for_continuation`].
    pub suggest: fn(&serde_json::Value) -> Suggestion,
    /// Who guesses tokens.
    pub draft: &'a Draft,
}

/// A conversion that is ready.
pub struct Opened {
    /// Text and tokens.
    pub tokenizer: Tokenizer,
    /// Tokens and more tokens.
    pub generator: Generator,
    /// Texts that end an answer by the model's suggestion.
    pub stop: Vec<String>,
    /// What of the model's suggestions has no effect: sentences for the user.
    pub notes: Vec<String>,
}

/// Opens a conversion with its tokenizer.
///
/// # Errors
/// The conversion or the tokenizer cannot be opened, or something was asked for that needs all logits
/// where the conversion gives only the largest.
pub fn open(
    files: Files<'_>,
    runtime: &dyn Runtime,
    host: &Host,
    choice: Choice<'_>,
) -> Result<Opened> {
    let meta = files.meta;
    let engine = Engine::open(meta, runtime, host)?;
    let beside = meta.parent().unwrap_or(Path::new(""));
    let tokenizer = Tokenizer::open(files.tokenizer.unwrap_or(beside))?;
    let Suggestion { sampling, stop, mut notes } = (choice.suggest)(tokenizer.generation());
    let mut sampling = choice.wanted.over(sampling);
    if engine.gives_largest() && (!sampling.is_greedy() || sampling.looks_back()) {
        if choice.wanted.needs_logits() {
            return Err(Error::new(
                codes::USAGE,
                "this conversion gives only the token with the largest logit: there is nothing to choose from",
            )
            .with_at(meta.display().to_string())
            .with_hint("leave the sampling options out, or convert without --argmax"));
        }
        if sampling.looks_back() {
            notes.push(
                "this conversion gives only the token with the largest logit, so the model's settings against repetition have no effect".to_owned(),
            );
        }
        sampling = Sampling::GREEDY;
    }
    let mut generator =
        Generator::new(engine, Sampler::new(sampling, choice.seed), tokenizer.stop_tokens());
    choice.draft.apply(&mut generator, runtime, host)?;
    Ok(Opened { tokenizer, generator, stop, notes })
}
