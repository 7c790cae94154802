//! Building blocks of a layout.

use std::collections::BTreeMap;

use anemll_plugin_api::data::{Layout, PackageKind, PackageSpec, RunStep};

/// The only function of a package that is not combined.
pub const MAIN: &str = "main";
/// The function of combined packages that takes one token; it is the default.
pub const INFER: &str = "infer";
/// The function of combined packages that takes a batch of tokens.
pub const PREFILL: &str = "prefill";
/// Where packages for evaluation lie, below the output directory: hidden, for they are not shipped.
pub const EVALUATE_DIRECTORY: &str = ".anemll/evaluate";

/// A package with one function, `main`.
pub fn part(
    step: u32,
    stem: String,
    weight_file: &str,
    function: &str,
    short_description: String,
    metadata: BTreeMap<String, String>,
) -> PackageSpec {
    PackageSpec::new(stem, PackageKind::Part, step, weight_file)
        .with_function(function, MAIN)
        .with_short_description(short_description)
        .with_metadata(metadata)
}

/// A package for evaluation, with one function, `main`.
pub fn evaluation(
    stem: String,
    weight_file: &str,
    function: &str,
    short_description: String,
    metadata: BTreeMap<String, String>,
) -> PackageSpec {
    PackageSpec::new(stem, PackageKind::Evaluate, 0, weight_file)
        .with_directory(EVALUATE_DIRECTORY)
        .with_function(function, MAIN)
        .with_short_description(short_description)
        .with_metadata(metadata)
}

/// A package with several functions, given by their ids and names; the first is its default.
pub fn combined<'a>(
    step: u32,
    stem: String,
    weight_file: &str,
    functions: impl IntoIterator<Item = (&'a str, &'a str)>,
    short_description: String,
    metadata: BTreeMap<String, String>,
) -> PackageSpec {
    let mut package = PackageSpec::new(stem, PackageKind::Combined, step, weight_file)
        .with_short_description(short_description)
        .with_metadata(metadata);
    for (id, name) in functions {
        package = package.with_function(id, name);
    }
    package.default_function = package.functions.first().map(|first| first.name.clone());
    package
}

/// The id of the function that a call is of.
pub fn called<'a>(layout: &'a Layout, call: &RunStep) -> Option<&'a str> {
    let package = layout.packages.iter().find(|package| package.path() == call.package)?;
    let function = package.functions.iter().find(|function| function.name == call.function)?;
    Some(&function.id)
}
