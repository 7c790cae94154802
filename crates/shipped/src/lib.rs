//! All plugins that are shipped: a program that names this crate (`use anemll_shipped as _;`) finds
//! them with `anemll_plugin_api::builtin_plugins`.
//!
//! A plugin is added by a line in this crate's Cargo.toml.

include!(concat!(env!("OUT_DIR"), "/plugins.rs"));
