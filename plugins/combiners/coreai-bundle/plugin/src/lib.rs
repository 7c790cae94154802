//! The loadable library of the plugin `coreai-bundle`.

anemll_plugin_api::export_plugin!(anemll_combiner_coreai_bundle::CoreAiBundlePlugin);
