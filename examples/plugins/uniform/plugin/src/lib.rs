//! The loadable library of the plugin `uniform`.

anemll_plugin_api::export_plugin!(anemll_quantizer_uniform::UniformPlugin);
