//! For which contexts and numbers of tokens the package of a dynamic model has functions.

use crate::ladder::{STEP, check_states, refused};
use anemll_layout::apple::Sample;
use anemll_plugin_api::data::ModelDescription;
use anemll_plugin_api::{ComponentOptions, Result};

/// Two contexts and two numbers of tokens, the model's own first: what is the same for all of them, and how the rest
/// grows, tells the compiler what the function for any is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Samples {
    pub(crate) contexts: [u64; 2],
    pub(crate) tokens: [u64; 2],
}

impl Samples {
    /// Those of a model.
    ///
    /// # Errors
    /// [`anemll_plugin_api::codes::LAYOUT_OPTION_INVALID`] for options of the other form, models that keep more than
    /// keys and values, and contexts and batches too small for a second one.
    pub(crate) fn new(options: &ComponentOptions, model: &ModelDescription) -> Result<Self> {
        for name in ["contexts", "queries"] {
            if options.string(name)?.is_some() {
                let text = format!("`{name}` is of the static form: the dynamic one takes any");
                return Err(refused(text, name, "leave it out; --context is the longest text"));
            }
        }
        check_states(model)?;
        if model.batch < 3 {
            let text = "the dynamic form needs a --batch of 3 tokens or more".to_owned();
            return Err(refused(text, "--batch", "leave --batch out"));
        }
        // What caches of a function may hold: a multiple of both.
        let step = (1..=STEP).map(|times| times * model.batch).find(|step| step % STEP == 0);
        let step = step.unwrap_or(model.batch);
        if !model.context.is_multiple_of(step) || model.context < 2 * step {
            let text = format!(
                "the context of {} tokens is not twice {step} or more of that",
                model.context
            );
            return Err(refused(text, "--context", "take a larger multiple of 32 and of --batch"));
        }
        Ok(Self {
            contexts: [model.context, model.context - step],
            tokens: [model.batch, model.batch - 1],
        })
    }

    /// All four.
    pub(crate) fn all(self) -> impl Iterator<Item = Sample> {
        let [context, smaller] = self.contexts;
        [context, smaller].into_iter().flat_map(move |context| {
            self.tokens.into_iter().map(move |tokens| Sample { context, tokens })
        })
    }

    /// That of the model's own context and batch.
    pub(crate) fn first(self) -> Sample {
        Sample { context: self.contexts[0], tokens: self.tokens[0] }
    }
}
