//! Arch frontend for StableLM models.
//!
//! The graph is the shared decoder's with LayerNorms, heads that are rotated in part, and, where the configuration says
//! so, attention and MLP side by side.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `stablelm`.
pub struct StableLmPlugin;

impl Plugin for StableLmPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::STABLELM.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::STABLELM)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(StableLmPlugin);
