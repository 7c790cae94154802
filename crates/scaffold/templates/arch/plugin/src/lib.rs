//! The loadable library of the plugin `my-plugin`.

anemll_plugin_api::export_plugin!(anemll_arch_my_plugin::MyPluginPlugin);
