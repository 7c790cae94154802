//! Who may write to files and folders.

use std::path::Path;

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
