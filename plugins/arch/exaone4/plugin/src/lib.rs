//! The loadable library of the plugin `exaone4`.

anemll_plugin_api::export_plugin!(anemll_arch_exaone4::Exaone4Plugin);
