//! The loadable library of the plugin `olmo`.

anemll_plugin_api::export_plugin!(anemll_arch_olmo::OlmoPlugin);
