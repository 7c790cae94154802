//! The loadable library of the plugin `monolithic`.

anemll_plugin_api::export_plugin!(anemll_combiner_monolithic::MonolithicPlugin);
