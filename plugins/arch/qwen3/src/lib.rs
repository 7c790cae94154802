//! Arch frontend for Qwen3 models.
//!
//! The graph is the shared decoder's in the form that ANEMLL gives Qwen: every projection as a 1x1
//! `conv`, the `softmax` operation, head in 16 pieces.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `qwen3`.
pub struct Qwen3Plugin;

impl Plugin for Qwen3Plugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::QWEN3.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::QWEN3)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(Qwen3Plugin);
