//! Arch frontend for LFM2 models.
//!
//! The graph is the shared decoder's in the form that ANEMLL gives Qwen; most layers mix tokens by a short convolution,
//! the others by attention.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `lfm2`.
pub struct Lfm2Plugin;

impl Plugin for Lfm2Plugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::LFM2.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::LFM2)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(Lfm2Plugin);
