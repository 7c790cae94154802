//! Arch frontend for OLMo 2 and OLMo 3 models.
//!
//! The graph is the shared decoder's with norms behind attention and MLP, and norms of queries and keys over all
//! heads; OLMo 3 has windows.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `olmo`.
pub struct OlmoPlugin;

impl Plugin for OlmoPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::OLMO.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::OLMO)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(OlmoPlugin);
