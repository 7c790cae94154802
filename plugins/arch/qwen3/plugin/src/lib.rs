//! The loadable library of the plugin `qwen3`.

anemll_plugin_api::export_plugin!(anemll_arch_qwen3::Qwen3Plugin);
