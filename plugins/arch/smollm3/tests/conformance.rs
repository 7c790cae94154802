//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_smollm3::SmolLm3Plugin,
    "../../../tests/models/variants/smollm3"
);
