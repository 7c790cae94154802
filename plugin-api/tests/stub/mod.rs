//! A plugin whose components do what their options say; shared by several tests.

use std::sync::Arc;

use anemll_plugin_api::{HostServices, Level, LoadedPlugin, Result};

/// Every service of this host panics.
pub(crate) struct PanickingHost;

impl HostServices for PanickingHost {
    fn log(&self, _: Level, _: &str, _: &str) {
        panic!("boom in log")
    }

    fn progress(&self, _: &str, _: u64, _: u64) -> bool {
        panic!("boom in progress")
    }

    fn cancelled(&self) -> bool {
        panic!("boom in cancelled")
    }

    fn threads(&self) -> usize {
        panic!("boom in threads")
    }

    fn parallel(&self, _: usize, _: &(dyn Fn(usize) + Sync)) {
        panic!("boom in parallel")
    }

    fn scratch_directory(&self) -> Result<std::path::PathBuf> {
        panic!("boom in scratch_directory")
    }
}

/// A handle to [`PanickingHost`].
pub(crate) fn panicking_host() -> anemll_plugin_api::Host {
    anemll_plugin_api::Host::new(Arc::new(PanickingHost))
}

/// The plugin through the whole boundary.
pub(crate) fn load<P: anemll_plugin_api::Plugin>() -> LoadedPlugin {
    LoadedPlugin::of::<P>().unwrap()
}

/// A manifest with one component per stage, all with the same id.
#[macro_export]
macro_rules! stub_manifest {
    ($name:literal) => {
        concat!(
            r#"{"name": ""#,
            $name,
            r#"", "version": "0.1.0", "abi": 1, "homepage": "https://example.org/stub",
            "components": [
                {"stage": "arch", "id": "stub", "model_types": ["stub"],
                 "options": {"mode": {"type": "string", "default": "plain"}}},
                {"stage": "quantizer", "id": "stub"},
                {"stage": "combiner", "id": "stub"},
                {"stage": "compiler", "id": "stub"},
                {"stage": "runtime", "id": "stub"}]}"#
        )
    };
}
