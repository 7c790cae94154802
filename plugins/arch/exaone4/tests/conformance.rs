//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_exaone4::Exaone4Plugin,
    "../../../tests/models/variants/exaone4"
);
