//! The rules that hold for every plugin.

anemll_plugin_api::testing::conformance!(
    anemll_runtime_cpu::CpuPlugin,
    "../../../crates/scaffold/templates/compiler/reference.mlpackage"
);
