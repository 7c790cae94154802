//! The loadable library of the plugin `coreai`.

anemll_plugin_api::export_plugin!(anemll_compiler_coreai::CoreAiPlugin);
