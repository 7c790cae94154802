//! The loadable library of the plugin `mpt`.

anemll_plugin_api::export_plugin!(anemll_arch_mpt::MptPlugin);
