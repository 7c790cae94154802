//! Arch frontend for Granite models.
//!
//! The graph is the shared decoder's: Llama with factors of embedding, scores, what layers add, and logits, all but
//! that of the scores within the weights. Granite 4's models without experts and Mamba have the MLP's gate and inner
//! space in one tensor.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `granite`.
pub struct GranitePlugin;

impl Plugin for GranitePlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::GRANITE.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::GRANITE)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(GranitePlugin);
