//! The loadable library of the plugin `chunked`.

anemll_plugin_api::export_plugin!(anemll_combiner_chunked::ChunkedPlugin);
