//! Core AI assets: what is in one, what is wrong with it, how two differ.

mod difference;
mod difference_text;
mod faults;
mod inspection;
mod text;
mod weights;

pub use difference::{AssetDifference, compare};
pub use faults::{Fault, faults, faults_text};
pub use inspection::{AssetInspection, Ports, SharedInspection};
pub use text::inspection as inspection_text;
pub use weights::AssetWeight;

use anemll_aicode::asset::{Asset, EXTENSION, PROGRAM};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use serde::Serialize;
use std::path::Path;

/// What is to be shown of an asset.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Only this function.
    pub function: Option<&'a str>,
    /// Every weight, not the largest alone.
    pub all_weights: bool,
    /// One JSON object.
    pub json: bool,
    /// Only what loaders would not like.
    pub lint: bool,
    /// Whether that is an error.
    pub strict: bool,
    /// The program's text.
    pub program: bool,
    /// A page, of which there is none for assets.
    pub page: bool,
}

/// What is shown of an asset.
#[derive(Debug)]
pub struct Shown {
    /// What goes to standard output.
    pub text: String,
    /// [`codes::LINT_FOUND`] where something is wrong and that is an error.
    pub verdict: Result<()>,
}

/// Looks at an asset.
///
/// # Errors
/// Those of [`open`]; [`codes::USAGE`] for a page.
pub fn show(path: &Path, wanted: Wanted<'_>, width: Option<usize>) -> Result<Shown> {
    if wanted.page {
        return Err(Error::new(codes::USAGE, "--html cannot show Core AI assets")
            .with_at(path.display().to_string())
            .with_hint("--json has everything that a page would show"));
    }
    let asset = open(path, wanted.function)?;
    let faults = faults(&asset);
    #[derive(Serialize)]
    struct Faults<'a> {
        schema: u32,
        faults: &'a [Fault],
    }
    let text = match wanted {
        Wanted { program: true, .. } => anemll_aicode::text(&asset.program, wanted.function),
        Wanted { lint: true, json: true, .. } => json(&Faults { schema: 1, faults: &faults })?,
        Wanted { lint: true, .. } => faults_text(&faults, width),
        Wanted { json: true, .. } => json(&AssetInspection::of(&asset, wanted.function))?,
        _ => {
            let found = AssetInspection::of(&asset, wanted.function);
            inspection_text(&found, wanted.all_weights, width)
        }
    };
    let verdict = match faults.first().filter(|_| wanted.strict) {
        None => Ok(()),
        Some(fault) => Err(Error::new(
            codes::LINT_FOUND,
            format!("loaders would not like the asset: {}: {}", fault.file, fault.message),
        )
        .with_at(path.display().to_string())),
    };
    Ok(Shown { text, verdict })
}

/// In what two assets differ, as it is shown.
#[derive(Debug)]
pub struct Differences {
    /// What goes to standard output.
    pub text: String,
    /// Whether there is none.
    pub equal: bool,
}

/// Compares two assets.
///
/// # Errors
/// Those of [`open`]; [`codes::USAGE`] where one of the two is something else.
pub fn differences(
    first: &Path,
    second: &Path,
    as_json: bool,
    width: Option<usize>,
) -> Result<Differences> {
    if let Some(other) = [first, second].into_iter().find(|path| path.exists() && !is_at(path)) {
        return Err(Error::new(codes::USAGE, "a Core AI asset is compared with another one only")
            .with_at(other.display().to_string())
            .with_hint("compare the packages, or compile this one with --compiler coreai"));
    }
    let found = compare(&open(first, None)?, &open(second, None)?);
    let text = if as_json { json(&found)? } else { found.to_text(width) };
    Ok(Differences { text, equal: found.is_equal() })
}

pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|error| {
        Error::new(codes::INTERNAL, "what was found cannot be written as JSON").with_source(&error)
    })?;
    Ok(text + "\n")
}

/// Whether a path is meant to be an asset: by its ending, or by what is in the folder.
pub fn is_at(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION) || path.join(PROGRAM).is_file()
}

/// Opens an asset, of which a function may be asked for by name.
///
/// # Errors
/// Those of [`Asset::open`]; [`codes::FUNCTION_UNKNOWN`].
pub fn open(path: &Path, function: Option<&str>) -> Result<Asset> {
    let asset = Asset::open(path)?;
    let Some(name) = function else { return Ok(asset) };
    if asset.program.function(name).is_some() {
        return Ok(asset);
    }
    let names: Vec<&str> =
        asset.program.functions.iter().map(|function| function.name.as_str()).collect();
    Err(Error::new(codes::FUNCTION_UNKNOWN, format!("the asset has no function `{name}`"))
        .with_at(path.display().to_string())
        .with_hint(format!("its functions are {}", names.join(", "))))
}
