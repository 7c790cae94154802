//! The loadable library of the plugin `pairs`.

anemll_plugin_api::export_plugin!(anemll_combiner_pairs::PairsPlugin);
