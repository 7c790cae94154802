//! Pages as files.

use anemll_plugin_api::{Error, Result, codes};
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn failed(path: &Path, reason: &str) -> Error {
    Error::new(codes::OUTPUT_UNWRITABLE, format!("the page cannot be written: {reason}"))
        .with_at(path.display().to_string())
        .with_hint(
            "name a file, such as report.html, in a folder that is there and can be written to",
        )
}

/// The folder that a file is in.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Refuses a place where no page can be written, before work is spent on what would be on it.
///
/// # Errors
/// [`codes::OUTPUT_UNWRITABLE`].
pub fn refuse_unwritable(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(failed(path, "a folder has this name"));
    }
    tempfile::tempfile_in(folder(path))
        .map(drop)
        .map_err(|source| failed(path, &source.to_string()))
}

/// Writes a page, which appears under its name only when it is whole.
///
/// # Errors
/// [`codes::OUTPUT_UNWRITABLE`].
pub fn write_page(path: &Path, page: &str) -> Result<()> {
    if path.is_dir() {
        return Err(failed(path, "a folder has this name"));
    }
    let fail = |source: std::io::Error| failed(path, &source.to_string());
    let mut file = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // As a plain new file has it; the umask takes its part.
        file.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = file.tempfile_in(folder(path)).map_err(fail)?;
    file.write_all(page.as_bytes()).map_err(fail)?;
    file.persist(path).map_err(|source| fail(source.error))?;
    Ok(())
}
