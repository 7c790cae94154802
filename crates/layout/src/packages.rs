//! Building blocks of a layout.

use std::collections::BTreeMap;

use anemll_plugin_api::data::{
    Layout, PackageFunction, PackageKind, PackageSpec, RunStep, Step, WeightFile,
};

/// The only function of a package that is not combined.
pub const MAIN: &str = "main";
/// The function of combined packages that takes one token; it is the default.
pub const INFER: &str = "infer";
/// The function of combined packages that takes a batch of tokens.
pub const PREFILL: &str = "prefill";
/// Where packages for evaluation lie, below the output directory: hidden, for they are not shipped.
pub const EVALUATE_DIRECTORY: &str = ".anemll/evaluate";

/// The steps that make packages, numbered from 1.
pub fn steps(titles: &[&str]) -> Vec<Step> {
    (1u32..)
        .zip(titles)
        .map(|(number, title)| Step { number, title: (*title).to_owned() })
        .collect()
}

/// A weight file which the functions share; it is laid out in their order.
pub fn weight_file(id: &str, functions: &[&str]) -> WeightFile {
    let functions = functions.iter().map(|function| (*function).to_owned()).collect();
    WeightFile { id: id.to_owned(), functions }
}

/// A package with one function, `main`.
pub fn part(
    step: u32,
    stem: String,
    weight_file: &str,
    function: &str,
    short_description: String,
    metadata: BTreeMap<String, String>,
) -> PackageSpec {
    PackageSpec {
        stem,
        directory: String::new(),
        kind: PackageKind::Part,
        step,
        weight_file: weight_file.to_owned(),
        functions: vec![PackageFunction { id: function.to_owned(), name: MAIN.to_owned() }],
        default_function: None,
        short_description,
        metadata,
    }
}

/// A package for evaluation, with one function, `main`.
pub fn evaluation(
    stem: String,
    weight_file: &str,
    function: &str,
    short_description: String,
    metadata: BTreeMap<String, String>,
) -> PackageSpec {
    PackageSpec {
        directory: EVALUATE_DIRECTORY.to_owned(),
        kind: PackageKind::Evaluate,
        ..part(0, stem, weight_file, function, short_description, metadata)
    }
}

/// A package with the functions `infer`, its default, and `prefill`, given by their ids.
pub fn combined(
    step: u32,
    stem: String,
    weight_file: &str,
    infer: &str,
    prefill: &str,
    short_description: String,
    metadata: BTreeMap<String, String>,
) -> PackageSpec {
    let function =
        |id: &str, name: &str| PackageFunction { id: id.to_owned(), name: name.to_owned() };
    PackageSpec {
        stem,
        directory: String::new(),
        kind: PackageKind::Combined,
        step,
        weight_file: weight_file.to_owned(),
        functions: vec![function(infer, INFER), function(prefill, PREFILL)],
        default_function: Some(INFER.to_owned()),
        short_description,
        metadata,
    }
}

/// The id of the function that a call is of.
pub fn called<'a>(layout: &'a Layout, call: &RunStep) -> Option<&'a str> {
    let package =
        layout.packages.iter().find(|package| run_step(package, "").package == call.package)?;
    let function = package.functions.iter().find(|function| function.name == call.function)?;
    Some(&function.id)
}

/// A call of a package's function when the model is run.
pub fn run_step(package: &PackageSpec, function: &str) -> RunStep {
    let path = if package.directory.is_empty() {
        package.stem.clone()
    } else {
        format!("{}/{}", package.directory, package.stem)
    };
    RunStep { package: path, function: function.to_owned() }
}
