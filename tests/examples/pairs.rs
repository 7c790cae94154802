//! The library of `examples/plugins/pairs`, a combiner as strangers write it. The host knows nothing of
//! it.

#[allow(unreachable_pub, reason = "it is public where it is a crate")]
#[path = "../../examples/plugins/pairs/src/lib.rs"]
mod pairs;

anemll_plugin_api::export_plugin!(pairs::PairsPlugin);
