//! New plugins: a workspace of their own, made from a template, with the crates of the SDK in it.
//!
//! A template is a folder below `templates` with a line in the list of `templates.rs`. Its files are those of a
//! plugin `my-plugin` that works; that name is replaced.

mod create;
mod name;
mod sdk;
mod templates;

use std::path::Path;

use anemll_plugin_api::Result;
use anemll_plugin_api::data::Stage;

pub use create::{Created, Request, create};
pub use sdk::{Sdk, find_sdk};

/// The names of the stages that have a template.
pub fn stages() -> impl Iterator<Item = &'static str> {
    templates::TEMPLATES.iter().map(|template| template.stage.name())
}

/// Makes a plugin in a folder, or else in one of its own name here, and gives lines that say so and
/// what to type next. Where no SDK is named, it is the one beside this program.
///
/// # Errors
/// Those of [`find_sdk`] and [`create`].
pub fn start(name: &str, stage: &str, sdk: Option<&Path>, folder: Option<&Path>) -> Result<String> {
    let stage = Stage::ALL.into_iter().find(|known| known.name() == stage);
    let stage = stage.unwrap_or(Stage::Unknown);
    let sdk = find_sdk(sdk, std::env::current_exe().ok().as_deref())?;
    let folder = folder.unwrap_or(Path::new(name));
    let Created { files, sdk_files, next } = create(&Request { name, stage, sdk: &sdk, folder })?;
    let shown = folder.display();
    let next = next.join("\n  ");
    Ok(format!(
        "made {shown}: {files} files of its own, {sdk_files} of the SDK\n\nnext, in {shown}:\n\n  {next}\n"
    ))
}
