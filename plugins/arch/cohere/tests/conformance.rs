//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_arch_cohere::CoherePlugin,
    "../../../tests/models/variants/cohere2"
);
