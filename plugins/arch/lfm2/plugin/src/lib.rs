//! The loadable library of the plugin `lfm2`.

anemll_plugin_api::export_plugin!(anemll_arch_lfm2::Lfm2Plugin);
