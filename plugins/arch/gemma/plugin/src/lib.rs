//! The loadable library of the plugin `gemma`.

anemll_plugin_api::export_plugin!(anemll_arch_gemma::GemmaPlugin);
