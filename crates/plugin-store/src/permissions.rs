//! Who may write to files and folders.

use std::path::Path;

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};

/// Whether every user of the machine may write there, as far as the system says it in the file's own
/// permissions. What is not there, or cannot be asked, is not.
#[cfg(unix)]
pub(crate) fn anyone_may_write(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
}

/// On other systems such permissions are lists, which folders of users do not give to others.
#[cfg(not(unix))]
pub(crate) fn anyone_may_write(_: &Path) -> bool {
    false
}

/// Refuses a file or folder of plugins that anyone may write to.
///
/// # Errors
/// [`codes::PLUGIN_WRITABLE`].
pub(crate) fn refuse_writable(path: &Path) -> Result<()> {
    if !anyone_may_write(path) {
        return Ok(());
    }
    let at = path.display().to_string();
    let hint = format!("take that right away: chmod o-w {at}");
    let what = match path.is_dir() {
        true => "no plugin is loaded from this folder, as anyone may write to it",
        false => "the plugin is not loaded, as anyone may write to its file",
    };
    Err(Error::new(codes::PLUGIN_WRITABLE, what).with_at(at).with_hint(hint))
}
