//! Arch frontend for StarCoder2 models.
//!
//! The graph is the shared decoder's: LayerNorms, biases, an MLP without a gate, and a window.

mod config;

use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `starcoder2`.
pub struct Starcoder2Plugin;

impl Plugin for Starcoder2Plugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::COMPONENT.frontend(id, options)
    }
}
