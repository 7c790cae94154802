//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_compiler_coremlcompiler::CoremlCompilerPlugin,
    "../../../crates/scaffold/templates/compiler/reference.mlpackage"
);
