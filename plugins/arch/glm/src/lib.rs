//! Arch frontend for GLM models.
//!
//! The graph is the shared decoder's: Llama with the MLP's gate and inner space in one tensor, of whose heads a half is
//! rotated, by neighbours. GLM-4 of 2025 (`glm4`) has norms before and after attention and MLP.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `glm`.
pub struct GlmPlugin;

impl Plugin for GlmPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::GLM.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::GLM)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(GlmPlugin);
