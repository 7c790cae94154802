//! The loadable library of the plugin `coremlcompiler`.

anemll_plugin_api::export_plugin!(anemll_compiler_coremlcompiler::CoremlCompilerPlugin);
