//! The loadable library of the plugin `monolithic`.
