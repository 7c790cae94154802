//! The loadable library of the plugin `cpu`.
