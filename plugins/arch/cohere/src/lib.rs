//! Arch frontend for Cohere models.
//!
//! The graph is the shared decoder's: one norm for attention and MLP, which stand side by side, pairs that turn side by
//! side, and, in models with windows, no positions in the layers that see all.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `cohere`.
pub struct CoherePlugin;

impl Plugin for CoherePlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::COHERE.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::COHERE)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(CoherePlugin);
