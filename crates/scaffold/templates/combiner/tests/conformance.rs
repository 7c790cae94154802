//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(anemll_combiner_my_plugin::MyPluginPlugin, "functions");
