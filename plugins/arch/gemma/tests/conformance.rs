//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_gemma::GemmaPlugin,
    "../../../tests/models/variants/gemma3"
);
