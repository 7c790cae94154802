//! Arch frontend for Llama models, and for Mistral and Arcee models, which differ in a window or a gate.
//!
//! The graph is the shared decoder's in the form that ANEMLL gives Llama: output projection as
//! `linear`, softmax spelled out, head in 8 pieces.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `llama`.
pub struct LlamaPlugin;

impl Plugin for LlamaPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::LLAMA.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::LLAMA)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(LlamaPlugin);
