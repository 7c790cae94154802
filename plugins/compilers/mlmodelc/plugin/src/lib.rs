//! The loadable library of the plugin `mlmodelc`.

anemll_plugin_api::export_plugin!(anemll_compiler_mlmodelc::MlmodelcPlugin);
