//! The loadable library of the plugin `stablelm`.

anemll_plugin_api::export_plugin!(anemll_arch_stablelm::StableLmPlugin);
