//! Choosing a combiner, and into how many chunks it cuts, by what devices can load.
//!
//! No combiner is known here: which there are, what they can do and in which order they are tried
//! stands in their manifests, and what they make of a model in their layouts.

use crate::component_options::{self, TypedOption};
use crate::plugins::Plugins;
use crate::sizes::{Limits, PartSizes};
use anemll_codes as codes;
use anemll_layout::{CheckedLayout, in_words};
use anemll_plugin_api::data::{
    ComponentManifest, FunctionSpec, Layout, LayoutRequest, ModelDescription, Stage,
};
use anemll_plugin_api::{ComponentOptions, Error, Result};
use anemll_terminal::size;
use serde_json::{Value, json};

/// The option of combiners that cut the layers into so many pieces.
const CHUNKS: &str = "chunks";
/// The option of combiners whose head can choose.
const ARGMAX: &str = "argmax";
/// The option of combiners that make functions to verify guessed tokens.
const VERIFY: &str = "verify";

/// A combiner that may be taken.
pub struct Candidate<'a> {
    plugins: &'a Plugins,
    component: &'a ComponentManifest,
}

/// What flags say to a combiner.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `--argmax`.
    pub argmax: bool,
    /// `--verify`.
    pub verify: Option<u64>,
    /// `--contexts`.
    pub contexts: Vec<u64>,
    /// `--queries`.
    pub queries: Vec<u64>,
    /// What was typed with `-O`, for any component.
    pub options: Vec<TypedOption>,
}

impl Wishes {
    /// Whether a combiner has what is wished for.
    fn can(&self, candidate: &Candidate<'_>) -> bool {
        let wanted = [(self.argmax, ARGMAX), (self.verify.is_some(), VERIFY)];
        wanted.iter().all(|(wanted, option)| !wanted || candidate.has(option))
    }
}

impl<'a> Candidate<'a> {
    /// The combiner with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn named(plugins: &'a Plugins, id: &str) -> Result<Self> {
        let all = plugins.components(Stage::Combiner);
        match all.into_iter().find(|(_, component)| component.id == id) {
            Some((_, component)) => Ok(Self { plugins, component }),
            None => {
                Err(plugins
                    .not_found(Stage::Combiner, &format!("the combiner `{id}` was not found")))
            }
        }
    }

    /// Those that can be taken without being named, in the order in which they are tried.
    ///
    /// # Errors
    /// There is none that has what is wished for.
    pub fn by_preference(plugins: &'a Plugins, wishes: &Wishes, cuts: bool) -> Result<Vec<Self>> {
        let all = plugins.components(Stage::Combiner).into_iter();
        let mut found: Vec<Self> = all
            .filter(|(_, component)| component.preference.is_some())
            .map(|(_, component)| Self { plugins, component })
            .filter(|candidate| wishes.can(candidate) && (!cuts || candidate.cuts()))
            .collect();
        found.sort_by_key(|candidate| (candidate.component.preference, candidate.id().to_owned()));
        if found.is_empty() {
            let flags = [(wishes.argmax, "--argmax"), (wishes.verify.is_some(), "--verify")];
            let flags: Vec<&str> =
                flags.iter().filter(|(given, _)| *given).map(|(_, flag)| *flag).collect();
            let flags = in_words(&flags);
            let what = match (cuts, flags.is_empty()) {
                (true, true) => "no combiner cuts the layers into chunks".to_owned(),
                (true, false) => {
                    format!("no combiner cuts the layers into chunks and takes {flags}")
                }
                (false, false) => {
                    format!("no combiner that can be chosen by itself takes {flags}")
                }
                (false, true) => "no combiner can be chosen by itself".to_owned(),
            };
            return Err(plugins.not_found(Stage::Combiner, &what));
        }
        Ok(found)
    }

    /// Its id.
    pub fn id(&self) -> &'a str {
        &self.component.id
    }

    /// Whether it can cut the layers into chunks.
    pub fn cuts(&self) -> bool {
        self.has(CHUNKS)
    }

    fn has(&self, option: &str) -> bool {
        self.component.options.contains_key(option)
    }

    /// The options that it is made with.
    ///
    /// # Errors
    /// [`codes::USAGE`]: a flag is for an option that it does not have.
    pub fn options(&self, chunks: Option<u32>, wishes: &Wishes) -> Result<ComponentOptions> {
        let mut options = ComponentOptions::new();
        let this = (Stage::Combiner, self.id());
        component_options::add(&mut options, &wishes.options, self.plugins, this);
        let argmax = wishes.argmax.then(|| json!(true));
        let list = |numbers: &[u64]| {
            let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
            (!numbers.is_empty()).then(|| json!(numbers.join(",")))
        };
        let flags = [
            ("--chunk", CHUNKS, chunks.map(Value::from)),
            ("--argmax", ARGMAX, argmax),
            ("--verify", VERIFY, wishes.verify.map(Value::from)),
            ("--contexts", "contexts", list(&wishes.contexts)),
            ("--queries", "queries", list(&wishes.queries)),
        ];
        for (flag, name, value) in flags {
            let Some(value) = value else { continue };
            if !self.has(name) {
                return Err(self.lacks(flag, name));
            }
            options.insert(name, value);
        }
        Ok(options)
    }

    /// The error of a flag for an option that it does not have.
    pub fn lacks(&self, flag: &str, option: &str) -> Error {
        let id = self.id();
        Error::new(
            codes::USAGE,
            format!("{flag} is for combiners with the option `{option}`, and `{id}` has none"),
        )
        .with_at(flag)
        .with_hint(format!("leave {flag} out, or take another --combiner"))
    }

    /// How it lays a model out; of names and metadata as much as the request says.
    ///
    /// # Errors
    /// The combiner's.
    pub fn layout(
        &self,
        model: &ModelDescription,
        options: &ComponentOptions,
        request: &LayoutRequest,
    ) -> Result<CheckedLayout> {
        let combiner = self.plugins.combiner(self.id(), options).map_err(in_words_of_flags)?;
        CheckedLayout::new(combiner.layout(model, request).map_err(in_words_of_flags)?)
    }
}

/// An error about the option of `--chunk` is an error about the flag.
fn in_words_of_flags(error: Error) -> Error {
    let about = error.code == codes::PLUGIN_OPTION_INVALID && error.at.as_deref() == Some(CHUNKS);
    if !about {
        return error;
    }
    let reason = error.message.split_once(" must be ").map_or("", |(_, reason)| reason);
    let message = if reason.is_empty() {
        error.message.clone()
    } else {
        format!("the number of chunks must be {reason}")
    };
    Error::new(codes::LAYOUT_OPTION_INVALID, message)
        .with_at("--chunk")
        .with_hint("give a number of chunks from 1 to the number of layers, or auto")
}

/// Whether the embedding is in a function with layers.
pub fn is_whole(layout: &Layout) -> bool {
    layout.functions.iter().any(|function| function.embedding && function.layers.is_some())
}

/// A model, and what a device can load of it.
#[derive(Debug, Clone, Copy)]
pub struct Fitting<'a> {
    /// The model.
    pub model: &'a ModelDescription,
    /// Largest file, most layers.
    pub limits: &'a Limits,
}

/// Beyond this a model is not to be in one function, even if the file would be small enough:
/// ANEMLL's advice for such models is 1 to 3 B parameters.
const WHOLE_PARAMETERS: u64 = 3_000_000_000;

impl Fitting<'_> {
    /// Why devices cannot load a layout; none where they can. Files without layers are what they
    /// are: no combiner can cut an embedding or a head that the model has in one piece.
    pub fn why_not(&self, layout: &Layout, sizes: &PartSizes) -> Option<String> {
        let layers = |function: &FunctionSpec| {
            function.layers.map_or(0, |layers| layers.end.saturating_sub(layers.first))
        };
        let whole = |function: &FunctionSpec| {
            function.embedding && function.head && layers(function) == self.model.layers
        };
        let most = layout.functions.iter().map(layers).max().unwrap_or(0);
        let bytes = largest_file(layout, sizes);
        let (parameters, limits) = (self.model.parameters, self.limits);
        if parameters > WHOLE_PARAMETERS && layout.functions.iter().any(whole) {
            Some(format!("{:.1} B parameters are more than 3 B", parameters as f64 / 1e9))
        } else if most > limits.layers {
            Some(format!("{most} layers are more than {} in one function", limits.layers))
        } else if bytes > limits.file_bytes() {
            let megabytes = limits.chunk_bytes / 1_000_000;
            let bytes = size(bytes);
            Some(format!("{bytes} of weights in one file would pass --max-chunk-mb {megabytes}"))
        } else {
            None
        }
    }

    /// The smallest number of chunks that devices can load, and the bytes of the largest file; none
    /// when not even a layer of its own can be loaded.
    ///
    /// # Errors
    /// `layout`'s, which lays the model out in so many chunks.
    pub fn chunks(
        &self,
        sizes: &PartSizes,
        mut layout: impl FnMut(u32) -> Result<CheckedLayout>,
    ) -> Result<Option<(u32, u64)>> {
        for chunks in 1..=self.model.layers {
            let layout = layout(chunks)?;
            if self.why_not(&layout, sizes).is_none() {
                return Ok(Some((chunks, largest_file(&layout, sizes))));
            }
        }
        Ok(None)
    }
}

/// Bytes of the largest weight file with layers.
pub fn largest_file(layout: &Layout, sizes: &PartSizes) -> u64 {
    layout
        .weight_files
        .iter()
        .map(|file| members(layout, &file.functions))
        .filter(|functions| functions.iter().any(|function| function.layers.is_some()))
        .map(|functions| sizes.file(&functions))
        .max()
        .unwrap_or(0)
}

fn members<'a>(layout: &'a Layout, ids: &[String]) -> Vec<&'a FunctionSpec> {
    layout.functions.iter().filter(|function| ids.contains(&function.id)).collect()
}

#[cfg(test)]
mod tests;
