//! What a host needs beside `anemll-plugin-api`: plugins from library files, and those that are linked
//! in.
//!
//! [`manifest_of_file`] reads a manifest without running the library, [`open`] loads it,
//! [`Identity`] is a library's manifest and sum, [`Snapshot`] loads exactly the bytes that it is of, and [`builtin_plugins`] finds the crates that call `register_builtin!`. Either way ends in a
//! [`LoadedPlugin`], behind the same boundary.

mod blocks;
mod identity;
mod library_file;
mod loader;
mod snapshot;

use anemll_plugin_api::Builtin;

pub use anemll_plugin_api::LoadedPlugin;
pub use identity::Identity;
pub use loader::{Candidate, LoadOptions, manifest_of_file, open, open_with};
pub use snapshot::Snapshot;

/// The plugins that are linked into the program, in no particular order.
pub fn builtin_plugins() -> impl Iterator<Item = &'static Builtin> {
    inventory::iter::<Builtin>()
}
