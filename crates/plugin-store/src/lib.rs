//! Which plugins there are on this machine, which of them may be loaded, and how the user says so.
//!
//! [`Search`] says where to look, in this order: libraries that the user named for this run
//! (`--plugin`), the folders of `ANEMLL_PLUGIN_PATH`, the folders of the program itself, and the
//! user's own folder; last come plugins that are linked in. [`Search::run`] gives the [`Found`]:
//! every plugin, whether it can be used or not, with its reason.
//!
//! A plugin is native code with all rights of the user. What the user did not name and what did not
//! come with the program is loaded only when its SHA-256 stands in the [`LockFile`], and what is
//! loaded is then exactly what was summed up ([`anemll_plugin_host::Snapshot`]). [`Store`] changes
//! the file.

mod entry;
mod folder;
mod found;
mod lock;
mod permissions;
mod place;
mod search;
mod store;

pub use entry::{Entry, Status};
pub use folder::{Folder, FolderState};
pub use found::Found;
pub use lock::{LOCK_FILE, LockFile, Locked};
pub use place::{Origin, data_folder};
pub use search::Search;
pub use store::{Removed, Store};
