//! The loadable library of the plugin `cohere`.

anemll_plugin_api::export_plugin!(anemll_arch_cohere::CoherePlugin);
