//! Where models that are only measured are written.

use crate::request::ConvertRequest;
use anemll_codes as codes;
use anemll_plugin_api::Result;
use anemll_plugin_api::data::ModelDescription;
use anemll_services::machine;
use std::path::{Path, PathBuf};

/// The system's place for temporary files where it has room for a model in 16-bit floats and a
/// compiled one, else the folder of the output directory, which has to have room for a model anyway.
pub(crate) fn place(arguments: &ConvertRequest, model: &ModelDescription) -> PathBuf {
    let temporary = std::env::temp_dir();
    let needed = model.parameters.saturating_mul(5);
    let has_room = machine::free_space(&temporary).is_none_or(|free| free > needed);
    let beside = std::path::absolute(&arguments.output).ok();
    let beside = beside.as_deref().and_then(Path::parent).filter(|parent| parent.is_dir());
    match beside {
        Some(parent) if !has_room => parent.to_owned(),
        _ => temporary,
    }
}

/// The place that was named, or else the system's own.
pub fn or_usual(place: Option<&Path>) -> PathBuf {
    place.map_or_else(std::env::temp_dir, Path::to_owned)
}

/// A folder in `place` that goes when it is dropped.
///
/// # Errors
/// None can be made there.
pub fn folder(place: &Path, prefix: &str) -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(prefix).tempdir_in(place).map_err(|source| {
        let what = "cannot make a temporary folder";
        anemll_store::io_error(codes::OUTPUT_UNWRITABLE, what, place, &source).with_hint(
            "name another place with --scratch, where the command has that flag, or with the environment \
             variable TMPDIR",
        )
    })
}
