//! Combiner: the language-model bundles that Apple's apps load with Core AI.
//!
//! Of the static form, one package has a function for each context and each number of tokens, all over the same weights:
//! `gather_embeddings_<tokens>`, `extend_<context>_<tokens>`, `prompt_opt_<context>_<tokens>`. Its
//! metadata asks the compiler for the inputs and outputs that the apps know, and `metadata.json` and
//! the tokenizer's folder make a bundle of the output directory. Of the dynamic form, the package has a few cases of the
//! one function that apps call, from which the compiler makes that one.

mod dynamic;
mod ladder;
mod layout;
mod samples;

use anemll_layout::LayoutOptions;
use anemll_layout::apple::{self, Role, Sample};
use anemll_plugin_api::data::{
    CombineOptions, KEY_CACHE, Layout, LayoutRequest, ModelDescription, NamedFunction, Stage,
    VALUE_CACHE,
};
use anemll_plugin_api::{
    Combiner, ComponentOptions, Error, Host, Plugin, Result, codes, no_such_component,
};
use ladder::Ladder;
use samples::Samples;

/// The combiner's id.
pub const ID: &str = "coreai-bundle";

/// The combiner, with the options that it was given.
#[derive(Debug, Clone)]
struct CoreAiBundle {
    options: ComponentOptions,
}

impl Combiner for CoreAiBundle {
    fn layout(&self, model: &ModelDescription, request: &LayoutRequest) -> Result<Layout> {
        let options = LayoutOptions::new(&self.options, request)?;
        match self.options.string("form")? {
            Some("dynamic") => {
                let samples = Samples::new(&self.options, model)?;
                dynamic::layout(model, &options, samples)
            }
            _ => layout::layout(model, &options, &Ladder::new(&self.options, model)?),
        }
    }

    fn combine(
        &self,
        functions: &[NamedFunction<'_>],
        options: &CombineOptions,
        host: &Host,
    ) -> Result<Vec<u8>> {
        let bytes = anemll_layout::combine(functions, options, host)?;
        check(&bytes)?;
        Ok(bytes)
    }
}

/// Refuses functions that are not what their names say: of a frontend that does not know of contexts
/// and tokens of their own.
fn check(model: &[u8]) -> Result<()> {
    let failed = |error: String| Error::new(codes::GRAPH_COMBINE, error);
    let model = coreml_proto::read_model(model).map_err(|error| failed(error.to_string()))?;
    let functions = anemll_mil::interface(&model).map_err(|error| failed(error.to_string()))?;
    for function in functions {
        let (role, sample) = (Role::parse(&function.name), Sample::parse(&function.name));
        let takes = |name: &str, axis: usize, size: u64| {
            let input = function.inputs.iter().find(|input| input.name == name);
            input.is_some_and(|input| {
                input.shapes.len() == 1 && input.shapes[0].get(axis) == Some(&size)
            })
        };
        let keeps = |name: &str, axis: usize, positions: u64| {
            let state =
                function.states.iter().find(|state| apple::is_cache(&state.name, name, positions));
            state.is_some_and(|state| {
                state.shapes.iter().all(|shape| shape.len() == 5 && shape[axis] == positions)
            })
        };
        let caches = [KEY_CACHE, VALUE_CACHE];
        let suits = match (role, sample) {
            (None, None) => continue,
            (Some(Role::Gather { tokens }), _) => takes("input_ids", 1, tokens),
            (Some(Role::Extend { context, tokens } | Role::Prompt { context, tokens }), _) => {
                takes("hidden_states", 1, tokens)
                    && caches.iter().all(|name| keeps(name, 4, context))
            }
            (None, Some(Sample { context, tokens })) => {
                takes("input_ids", 1, tokens) && caches.iter().all(|name| keeps(name, 3, context))
            }
        };
        if !suits {
            let text = format!("`{}` has other inputs or states than its name says", function.name);
            return Err(failed(text).with_hint(
                "the arch frontend makes no functions for several contexts; take another --combiner",
            ));
        }
    }
    Ok(())
}

/// The plugin with this combiner.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoreAiBundlePlugin;

impl Plugin for CoreAiBundlePlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn combiner(id: &str, options: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        match id {
            ID => Ok(Box::new(CoreAiBundle { options: options.clone() })),
            _ => Err(no_such_component(Stage::Combiner, id)),
        }
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(CoreAiBundlePlugin);
