//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_runtime_my_plugin::MyPluginPlugin,
    "reference.mlpackage"
);
