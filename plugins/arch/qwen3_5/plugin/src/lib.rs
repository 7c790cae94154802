//! The loadable library of the plugin `qwen3_5`.

anemll_plugin_api::export_plugin!(anemll_arch_qwen3_5::Qwen35Plugin);
