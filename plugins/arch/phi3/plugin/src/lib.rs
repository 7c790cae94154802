//! The loadable library of the plugin `phi3`.

anemll_plugin_api::export_plugin!(anemll_arch_phi3::Phi3Plugin);
