//! Which contexts and numbers of tokens there are functions for.

use anemll_plugin_api::data::{ModelDescription, StateKind};
use anemll_plugin_api::{ComponentOptions, Error, Result, codes};
use std::collections::BTreeSet;

/// Positions of a cache are a multiple of this, which the Neural Engine wants.
pub(crate) const STEP: u64 = 32;
/// Tokens that functions take where nothing is said, beside the batch: one, and a few at the end of a text.
const USUAL: [u64; 2] = [1, 8];
/// Most functions: each is a program of its own.
const MOST: usize = 512;

/// The contexts and the numbers of tokens, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ladder {
    pub(crate) contexts: Vec<u64>,
    pub(crate) queries: Vec<u64>,
}

impl Ladder {
    /// What the options say of a model, or what is usual.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] for what is no list of numbers, [`codes::LAYOUT_OPTION_INVALID`]
    /// for numbers that do not go together or do not suit the model.
    pub(crate) fn new(options: &ComponentOptions, model: &ModelDescription) -> Result<Self> {
        let usual: BTreeSet<u64> =
            USUAL.into_iter().filter(|tokens| *tokens < model.batch).chain([model.batch]).collect();
        let contexts = list(options, "contexts")?.unwrap_or_else(|| [model.context].into());
        let queries = list(options, "queries")?.unwrap_or(usual);
        let ladder = Self {
            contexts: contexts.into_iter().collect(),
            queries: queries.into_iter().collect(),
        };
        ladder.check(model)?;
        Ok(ladder)
    }

    fn check(&self, model: &ModelDescription) -> Result<()> {
        let (largest, longest) = (self.contexts.last(), self.queries.last());
        if largest != Some(&model.context) {
            let text = format!("the largest context is not --context {}", model.context);
            return Err(refused(text, "contexts", "give the largest one as --context, too"));
        }
        if longest != Some(&model.batch) {
            let text = format!("the largest number of tokens is not --batch {}", model.batch);
            return Err(refused(text, "queries", "give the largest one as --batch, too"));
        }
        for context in &self.contexts {
            let divisors = self.queries.iter().chain([&STEP]);
            if let Some(other) =
                divisors.into_iter().find(|tokens| !context.is_multiple_of(**tokens))
            {
                let text = format!("the context of {context} tokens must be a multiple of {other}");
                let hint =
                    "take contexts that all numbers of tokens and 32 divide, such as 512 and 2048";
                return Err(refused(text, "contexts", hint));
            }
        }
        let functions = self.queries.len().saturating_mul(1 + 2 * self.contexts.len());
        if functions > MOST {
            let text = format!("that would be {functions} functions, more than {MOST}");
            return Err(refused(text, "contexts, queries", "take fewer of them"));
        }
        self.check_caches(model)
    }

    /// Apps take the largest size of a cache for its context.
    fn check_caches(&self, model: &ModelDescription) -> Result<()> {
        check_states(model)?;
        let channels = model.key_value_heads.saturating_mul(model.head_dimension);
        let least = channels.max(model.layers.into());
        match self.contexts.iter().find(|context| **context < least) {
            Some(context) => Err(refused(
                format!(
                    "a context of {context} tokens is less than the {} layers or the {channels} channels of the \
                     model's cache: the apps take its largest size for the context",
                    model.layers
                ),
                "contexts",
                &format!("take contexts from {} on", least.div_ceil(STEP).saturating_mul(STEP)),
            )),
            None => Ok(()),
        }
    }
}

/// Apps keep keys and values, and nothing else.
pub(crate) fn check_states(model: &ModelDescription) -> Result<()> {
    if model.states.len() == 1 && model.states[0].kind == StateKind::Cache {
        return Ok(());
    }
    let text = "the model keeps more than keys and values, and the apps have no state for that";
    let hint = "take --combiner monolithic with --compiler coreai";
    Err(refused(text.to_owned(), "--combiner", hint))
}

/// Numbers from 1 with commas between; nothing where the option is not given.
fn list(options: &ComponentOptions, name: &str) -> Result<Option<BTreeSet<u64>>> {
    let Some(text) = options.string(name)? else { return Ok(None) };
    let number = |part: &str| part.trim().parse().ok().filter(|number| *number > 0);
    let numbers: Option<BTreeSet<u64>> = text.split(',').map(number).collect();
    match numbers {
        Some(numbers) => Ok(Some(numbers)),
        None => Err(options.refuse(name, "numbers from 1 with commas between, such as 512,2048")),
    }
}

pub(crate) fn refused(text: String, at: &str, hint: &str) -> Error {
    Error::new(codes::LAYOUT_OPTION_INVALID, text).with_at(at).with_hint(hint)
}
