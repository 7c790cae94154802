//! Arch frontend for EXAONE 4 models.
//!
//! The graph is the shared decoder's: norms behind attention and MLP, norms of queries and keys, and, in models with
//! windows, no positions in the layers that see all.

mod config;

use anemll_decoder::frontend::DecoderFrontend;
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `exaone4`.
pub struct Exaone4Plugin;

impl Plugin for Exaone4Plugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::EXAONE4.frontend(id, options)
    }
}

/// The frontend without options.
pub fn frontend() -> DecoderFrontend {
    DecoderFrontend::new(&config::EXAONE4)
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(Exaone4Plugin);
