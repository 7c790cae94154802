//! Combiner: the whole model as one package.
//!
//! The layout is that of ANEMLL's `convert_monolith.sh`: embeddings, all layers and the head in one
//! package with the functions `infer` and `prefill`.

mod layout;

use anemll_plugin_api::data::{
    CombineOptions, Layout, LayoutOptions, ModelDescription, NamedFunction, Stage,
};
use anemll_plugin_api::{Combiner, Host, Plugin, Result, Value, no_such_component};

/// The combiner's id.
pub const ID: &str = "monolithic";

/// The combiner.
#[derive(Debug, Clone, Copy, Default)]
pub struct Monolithic;

impl Combiner for Monolithic {
    fn layout(&self, model: &ModelDescription, options: &LayoutOptions) -> Result<Layout> {
        layout::layout(model, options)
    }

    fn combine(
        &self,
        functions: &[NamedFunction<'_>],
        options: &CombineOptions,
        host: &Host,
    ) -> Result<Vec<u8>> {
        anemll_layout::combine(functions, options, host)
    }
}

/// The plugin with this combiner.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonolithicPlugin;

impl Plugin for MonolithicPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn combiner(id: &str, _options: &Value) -> Result<Box<dyn Combiner>> {
        match id {
            ID => Ok(Box::new(Monolithic)),
            _ => Err(no_such_component(Stage::Combiner, id)),
        }
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(MonolithicPlugin);
