//! The loadable library of the plugin `llama`.
