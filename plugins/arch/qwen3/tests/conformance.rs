//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_qwen3::Qwen3Plugin,
    "../../../tests/models/variants/qwen3-tied"
);
