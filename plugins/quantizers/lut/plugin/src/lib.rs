//! The loadable library of the plugin `lut`.

anemll_plugin_api::export_plugin!(anemll_quantizer_lut::LutPlugin);
