//! Combiner: the static language-model bundle that Apple's apps load with Core AI.
//!
//! One package has a function for each context and each number of tokens, all over the same weights:
//! `gather_embeddings_<tokens>`, `extend_<context>_<tokens>`, `prompt_opt_<context>_<tokens>`. Its
//! metadata asks the compiler for the inputs and outputs that the apps know, and `metadata.json` and
//! the tokenizer's folder make a bundle of the output directory.

mod ladder;
mod layout;

use anemll_layout::LayoutOptions;
use anemll_layout::apple::{self, Role};
use anemll_plugin_api::data::{
    CombineOptions, KEY_CACHE, Layout, LayoutRequest, ModelDescription, NamedFunction, Stage,
    VALUE_CACHE,
};
use anemll_plugin_api::{
    Combiner, ComponentOptions, Error, Host, Plugin, Result, codes, no_such_component,
};
use ladder::Ladder;

/// The combiner's id.
pub const ID: &str = "coreai-bundle";

/// The combiner, with the options that it was given.
#[derive(Debug, Clone)]
struct CoreAiBundle {
    options: ComponentOptions,
}

impl Combiner for CoreAiBundle {
    fn layout(&self, model: &ModelDescription, request: &LayoutRequest) -> Result<Layout> {
        let ladder = Ladder::new(&self.options, model)?;
        layout::layout(model, &LayoutOptions::new(&self.options, request)?, &ladder)
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
        let Some(role) = Role::parse(&function.name) else { continue };
        let takes = |name: &str, axis: usize, size: u64| {
            let input = function.inputs.iter().find(|input| input.name == name);
            input.is_some_and(|input| {
                input.shapes.len() == 1 && input.shapes[0].get(axis) == Some(&size)
            })
        };
        let keeps = |name: &str, positions: u64| {
            let state =
                function.states.iter().find(|state| apple::is_cache(&state.name, name, positions));
            state.is_some_and(|state| {
                state.shapes.iter().all(|shape| shape.last() == Some(&positions))
            })
        };
        let suits = match role {
            Role::Gather { tokens } => takes("input_ids", 1, tokens),
            Role::Extend { context, tokens } | Role::Prompt { context, tokens } => {
                takes("hidden_states", 1, tokens)
                    && [KEY_CACHE, VALUE_CACHE].iter().all(|name| keeps(name, context))
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
