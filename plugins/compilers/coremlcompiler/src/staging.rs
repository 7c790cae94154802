//! A hidden directory for what is being made, so that nothing half-done has a final name.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anemll_plugin_api::{Error, Result, codes};

/// A directory beside the final place. It goes away with this value, and so does all that was not
/// published.
pub(crate) struct Staging {
    directory: anemll_files::Staging,
    name: OsString,
    destination: PathBuf,
}

impl Staging {
    /// For something that will be `output_directory/name`.
    pub(crate) fn new(output_directory: &Path, name: &OsStr) -> Result<Self> {
        // Absolute, for programs that take a leading `-` for a flag.
        let output = std::path::absolute(output_directory)
            .and_then(|output| std::fs::create_dir_all(&output).map(|()| output))
            .map_err(|error| unwritable(output_directory, &error))?;
        let destination = output.join(name);
        let directory = anemll_files::Staging::create(&destination, true)
            .map_err(|error| unwritable(output_directory, &error))?;
        Ok(Self { directory, name: name.to_owned(), destination })
    }

    /// Where to make it.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Gives what was made its final name, in place of what may be there, and returns that.
    pub(crate) fn publish(self) -> Result<PathBuf> {
        // The one file that every compiled model has.
        if !self.path().join(&self.name).join("coremldata.bin").is_file() {
            return Err(Error::new(
                codes::COMPILE_FAILED,
                format!("coremlcompiler succeeded, but made no {}", self.name.display()),
            )
            .with_at(self.destination.display().to_string()));
        }
        self.directory
            .publish_inner(&self.name, true)
            .map_err(|error| unwritable(&self.destination, &error))?;
        Ok(self.destination)
    }
}

fn unwritable(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::new(codes::OUTPUT_UNWRITABLE, "the compiled model cannot be written")
        .with_at(path.display().to_string())
        .with_source(error)
}
