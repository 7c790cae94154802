//! The loadable library of the plugin `coremlcompiler`.
