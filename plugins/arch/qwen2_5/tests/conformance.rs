//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_qwen2_5::Qwen25Plugin,
    "../../../tests/models/variants/qwen2-tied"
);
