//! Arch frontend for Qwen3.5 models.
//!
//! The graph is the shared decoder's in the form that ANEMLL gives Qwen; most layers have linear attention,
//! the others full attention with a gate.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `qwen3_5`.
pub struct Qwen35Plugin;

impl Plugin for Qwen35Plugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::QWEN3_5.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::QWEN3_5)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(Qwen35Plugin);
