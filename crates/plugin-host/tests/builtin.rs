//! Plugins that are linked into a program are found in it.
#![allow(clippy::unwrap_used)]

use anemll_plugin_api::{LoadedPlugin, Plugin, register_builtin};
use anemll_plugin_host::builtin_plugins;

struct StubPlugin;

impl Plugin for StubPlugin {
    const MANIFEST: &'static str = r#"{"name": "stub", "version": "0.1.0", "abi": 1,
        "components": [{"stage": "arch", "id": "stub"}]}"#;
}

register_builtin!(StubPlugin);

#[test]
fn registered_plugins_are_found() {
    let found: Vec<_> = builtin_plugins().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].manifest(), StubPlugin::MANIFEST);
    assert_eq!(LoadedPlugin::builtin(found[0]).unwrap().manifest().name, "stub");
}
