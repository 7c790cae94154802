//! Combiner: the whole model as one package.
//!
//! The layout is that of ANEMLL's `convert_monolith.sh`: embeddings, all layers and the head in one
//! package with the functions `infer` and `prefill`.

mod layout;

use anemll_layout::LayoutCombiner;
use anemll_plugin_api::{Combiner, ComponentOptions, Plugin, Result};

/// The combiner's id.
pub const ID: &str = "monolithic";

/// The plugin with this combiner.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonolithicPlugin;

impl Plugin for MonolithicPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn combiner(id: &str, options: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        LayoutCombiner::boxed(id, ID, options, layout::layout)
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(MonolithicPlugin);
