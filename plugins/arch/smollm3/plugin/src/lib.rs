//! The loadable library of the plugin `smollm3`.

anemll_plugin_api::export_plugin!(anemll_arch_smollm3::SmolLm3Plugin);
