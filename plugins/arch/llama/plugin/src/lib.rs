//! The loadable library of the plugin `llama`.

anemll_plugin_api::export_plugin!(anemll_arch_llama::LlamaPlugin);
