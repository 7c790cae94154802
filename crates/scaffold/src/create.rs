//! Writing a new plugin.

use std::path::Path;
use std::{env, fs};

use anemll_codes as codes;
use anemll_files::{Staging, StagingError};
use anemll_plugin_api::data::Stage;
use anemll_plugin_api::{Error, Result};

use crate::name::Name;
use crate::sdk::Sdk;
use crate::templates;

/// A plugin that is to be made.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its stage.
    pub stage: Stage,
    /// What it is built against; the crates that it needs are copied.
    pub sdk: &'a Sdk,
    /// Its folder, which must not be there.
    pub folder: &'a Path,
}

/// A plugin that was made.
#[derive(Debug)]
pub struct Created {
    /// How many files are its own.
    pub files: usize,
    /// How many files of the SDK are beside them.
    pub sdk_files: usize,
    /// The commands to type next, in the plugin's folder.
    pub next: [String; 3],
}

/// Makes the folder of a new plugin. It is there whole, or not at all.
///
/// # Errors
/// [`codes::NEW_PLUGIN_NAME`], [`codes::OUTPUT_EXISTS`], [`codes::OUTPUT_UNWRITABLE`],
/// [`codes::SDK_UNFIT`], and [`codes::NOT_YET_SUPPORTED`] for a stage without a template.
pub fn create(request: &Request<'_>) -> Result<Created> {
    let name = Name::new(request.name)?;
    let Some(template) = templates::of(request.stage) else {
        let text = format!("there is no template for the stage {}", request.stage);
        return Err(Error::new(codes::NOT_YET_SUPPORTED, text));
    };
    let folder = request.folder;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| {
            let text = "the folder for the new plugin cannot be made";
            let at = parent.display().to_string();
            Error::new(codes::OUTPUT_UNWRITABLE, text).with_at(at).with_source(&error)
        })?;
    }
    let staging = Staging::create(folder, false).map_err(|error| unwritten(folder, error))?;
    let files = template.files(&name);
    for (path, bytes) in &files {
        write(&staging.path().join(path), bytes)?;
    }
    write(&staging.path().join("Cargo.lock"), &request.sdk.lock_file()?)?;
    let crates = templates::crates(&files);
    let sdk_files = request.sdk.copy(&crates, &staging.path().join("sdk"))?;
    staging.publish(false).map_err(|error| unwritten(folder, error))?;
    let library = format!("{}{}{}", env::consts::DLL_PREFIX, name.snake, env::consts::DLL_SUFFIX);
    let library = ["target", "release", &library].join(std::path::MAIN_SEPARATOR_STR);
    let next = [
        "cargo test".to_owned(),
        "cargo build --release".to_owned(),
        format!("anemll --plugin {library} {}", template.trial(&name)),
    ];
    Ok(Created { files: files.len() + 1, sdk_files, next })
}

/// Writes a file into a folder, which is made where it is missing.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes)).map_err(|error| {
        Error::new(codes::OUTPUT_UNWRITABLE, "a file of the new plugin cannot be written")
            .with_at(path.display().to_string())
            .with_source(&error)
    })
}

fn unwritten(folder: &Path, error: StagingError) -> Error {
    let at = folder.display().to_string();
    match error {
        StagingError::Exists => Error::new(
            codes::OUTPUT_EXISTS,
            "something stands where the new plugin's folder would be",
        )
        .with_at(at)
        .with_hint("choose another name, or name another folder with --output DIR"),
        error => Error::new(codes::OUTPUT_UNWRITABLE, "the new plugin's folder cannot be made")
            .with_at(at)
            .with_source(&error),
    }
}
