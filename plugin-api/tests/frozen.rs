//! Today's ABI is that of epoch 1 as it was frozen: plugins that were built then load now, and
//! plugins that are built now load in programs of then. `cargo xtask frozen` builds such a plugin.

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;

#[allow(
    dead_code,
    unsafe_code,
    missing_docs,
    non_camel_case_types,
    non_local_definitions,
    unreachable_pub,
    clippy::all
)]
#[path = "../../tests/abi/v1/src/v1.rs"]
mod v1;

#[test]
fn the_epoch_is_as_it_was_frozen() {
    let today = anemll_plugin_api::__host::layout();
    let frozen = <v1::PluginModule_Ref as StableAbi>::LAYOUT;
    for (host, plugin, who) in [
        (today, frozen, "an old plugin in a new host"),
        (frozen, today, "a new plugin in an old host"),
    ] {
        if let Err(report) = check_layout_compatibility(host, plugin) {
            let report = report.to_string();
            let end = report.lines().take(40).collect::<Vec<_>>().join("\n");
            panic!("{who}: the types of the frozen epoch have changed\n{end}");
        }
    }
    assert_eq!(anemll_plugin_api::ABI_EPOCH, v1::EPOCH);
}
