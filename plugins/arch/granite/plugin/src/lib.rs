//! The loadable library of the plugin `granite`.

anemll_plugin_api::export_plugin!(anemll_arch_granite::GranitePlugin);
