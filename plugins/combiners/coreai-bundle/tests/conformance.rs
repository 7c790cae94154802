//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_combiner_coreai_bundle::CoreAiBundlePlugin,
    "../../../crates/scaffold/templates/combiner/functions"
);
