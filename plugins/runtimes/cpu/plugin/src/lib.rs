//! The loadable library of the plugin `cpu`.

anemll_plugin_api::export_plugin!(anemll_runtime_cpu::CpuPlugin);
