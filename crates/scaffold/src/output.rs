//! Writing the files of a new plugin.

use std::fs;
use std::path::Path;

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};

/// Writes a file into a folder, which is made where it is missing.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes)).map_err(|error| {
        Error::new(codes::OUTPUT_UNWRITABLE, "a file of the new plugin cannot be written")
            .with_at(path.display().to_string())
            .with_source(&error)
    })
}
