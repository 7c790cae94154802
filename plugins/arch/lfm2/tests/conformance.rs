//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_lfm2::Lfm2Plugin,
    "../../../tests/models/variants/lfm2"
);
