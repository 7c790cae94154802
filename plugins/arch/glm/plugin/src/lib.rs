//! The loadable library of the plugin `glm`.

anemll_plugin_api::export_plugin!(anemll_arch_glm::GlmPlugin);
