//! Arch frontend for Phi-3, Phi-3.5 and Phi-4 models.
//!
//! The graph is the shared decoder's; projections that read the same are rows of one tensor, and heads may be rotated in
//! part.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `phi3`.
pub struct Phi3Plugin;

impl Plugin for Phi3Plugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::PHI3.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::PHI3)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(Phi3Plugin);
