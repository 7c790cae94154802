//! The loadable library of the plugin `qwen2_5`.

anemll_plugin_api::export_plugin!(anemll_arch_qwen2_5::Qwen25Plugin);
