//! Arch frontend for Gemma 2 and Gemma 3 models.
//!
//! The graph is the shared decoder's with four norms a layer, windows, a scaled embedding, and bounds of scores and
//! logits where the configuration has them.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `gemma`.
pub struct GemmaPlugin;

impl Plugin for GemmaPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::GEMMA.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::GEMMA)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(GemmaPlugin);
