//! The loadable library of the plugin `chunked`.
