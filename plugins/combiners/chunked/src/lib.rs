//! Combiner: embeddings, transformer chunks and head as packages of their own.
//!
//! The layout is that of ANEMLL's `convert_model.sh`: an app loads the embeddings, one combined
//! package per chunk, and the head, so that each stays below the size that a device can load.

mod layout;

use anemll_plugin_api::data::{
    CombineOptions, Layout, LayoutOptions, ModelDescription, NamedFunction, Stage,
};
use anemll_plugin_api::{Combiner, Host, Plugin, Result, Value, no_such_component};

/// The combiner's id.
pub const ID: &str = "chunked";

/// The combiner.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chunked;

impl Combiner for Chunked {
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
pub struct ChunkedPlugin;

impl Plugin for ChunkedPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn combiner(id: &str, _options: &Value) -> Result<Box<dyn Combiner>> {
        match id {
            ID => Ok(Box::new(Chunked)),
            _ => Err(no_such_component(Stage::Combiner, id)),
        }
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(ChunkedPlugin);
