//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_qwen3_5::Qwen35Plugin,
    "../../../tests/models/variants/qwen3_5"
);
