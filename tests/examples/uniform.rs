//! The library of `examples/plugins/uniform`, a quantizer as strangers write it. The host knows nothing
//! of it.

#[allow(unreachable_pub, reason = "it is public where it is a crate")]
#[path = "../../examples/plugins/uniform/src/lib.rs"]
mod uniform;

anemll_plugin_api::export_plugin!(uniform::UniformPlugin);
