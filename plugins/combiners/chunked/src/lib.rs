//! Combiner: embeddings, transformer chunks and head as packages of their own.
//!
//! The layout is that of ANEMLL's `convert_model.sh`: an app loads the embeddings, one combined
//! package per chunk, and the head, so that each stays below the size that a device can load.

mod layout;

use anemll_layout::LayoutCombiner;
use anemll_plugin_api::{Combiner, ComponentOptions, Plugin, Result};

/// The combiner's id.
pub const ID: &str = "chunked";

/// The plugin with this combiner.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChunkedPlugin;

impl Plugin for ChunkedPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn combiner(id: &str, options: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        LayoutCombiner::boxed(id, ID, options, layout::layout)
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(ChunkedPlugin);
