//! The loadable library of the plugin `starcoder2`.

anemll_plugin_api::export_plugin!(anemll_arch_starcoder2::Starcoder2Plugin);
