//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_granite::GranitePlugin,
    "../../../tests/models/variants/granite"
);
