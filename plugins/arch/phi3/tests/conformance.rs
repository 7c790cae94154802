//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_phi3::Phi3Plugin,
    "../../../tests/models/variants/phi3-window"
);
