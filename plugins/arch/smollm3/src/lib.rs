//! Arch frontend for SmolLM3 models.
//!
//! The graph is the shared decoder's in the form that ANEMLL gives Qwen; layers without a rotation, and those with a
//! window, differ from the others.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `smollm3`.
pub struct SmolLm3Plugin;

impl Plugin for SmolLm3Plugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::SMOLLM3.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::SMOLLM3)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(SmolLm3Plugin);
