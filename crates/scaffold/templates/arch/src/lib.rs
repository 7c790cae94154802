//! Arch frontend for MyPlugin models: what their `config.json` means, for the decoder that all share.

mod config;

use anemll_plugin_api::{ArchFrontend, ComponentOptions, Plugin, Result};

/// The plugin `my-plugin`.
pub struct MyPluginPlugin;

impl Plugin for MyPluginPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        config::COMPONENT.frontend(id, options)
    }
}
