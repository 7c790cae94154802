//! The reader of packages, and that of manifests.

use crate::{archive, blob, compiled, say, scratch};
use anemll_mil::{LintOptions, blob_references, interface, lint_with, validate_resolved};
use anemll_mlpackage::{Manifest, Package};
use anemll_multifunction::{Error, JoinPlan, Options, Output, Source};
use anemll_weights::{Decoder, Statistics, TableUse};
use std::collections::BTreeMap;
use std::path::Path;

/// Lays the bytes out as a package ([`archive`]) and opens it, and its model alone; what opens is
/// validated with its own weight files.
pub fn package(data: &[u8]) -> String {
    let folder = scratch();
    let root = folder.path().join("model.mlpackage");
    let mut answers = String::new();
    if std::fs::create_dir(&root).is_ok() {
        archive::lay_out(&archive::unpack(data), &root);
        for path in [root.clone(), root.join("Data/com.apple.CoreML/model.mlmodel")] {
            if let Some(package) = say(&mut answers, "open", Package::open(&path)) {
                examine(&package, &mut answers);
            }
            compiled::compiles(&path, folder.path(), &mut answers);
        }
        rewrite(&root, folder.path(), &mut answers);
    }
    answers.replace(&*folder.path().to_string_lossy(), "")
}

fn examine(package: &Package, answers: &mut String) {
    say(answers, "records", package.check_records());
    for reference in blob_references(package.model()) {
        // Every reference was resolved when the package was opened.
        let file = package.weight_file(reference.file_name).map(drop);
        assert!(file.is_ok(), "{file:?}");
    }
    for file in package.weight_files().values() {
        blob::walk(file, answers);
    }
    let size = package.weight_files().values().map(|file| file.size_in_bytes()).sum();
    let options = LintOptions { weight_file_bytes: size, ..LintOptions::default() };
    for finding in lint_with(package.model(), &options) {
        answers.push_str(finding.rule);
        answers.push('\n');
    }
    weights(package, answers);
    say(answers, "interface", interface(package.model()));
    say(answers, "resolved", validate_resolved(package.model().clone(), package));
}

/// Reads the values of every weight.
fn weights(package: &Package, answers: &mut String) {
    let functions =
        anemll_mil::model::program(package.model()).into_iter().flat_map(|p| &p.functions);
    let decoders: BTreeMap<&str, Decoder<'_>> = functions
        .filter_map(|(name, function)| {
            let block = anemll_mil::model::block(function).ok()?;
            Some((name.as_str(), Decoder::new(block, package.weight_files())))
        })
        .collect();
    for weight in anemll_weights::list(package.model()) {
        for (function, name) in &weight.places {
            let Some(decoder) = decoders.get(*function) else { continue };
            if let Some(values) = say(answers, "values", decoder.values(name)) {
                if let Some(found) = say(answers, "statistics", Statistics::of(&values, 16)) {
                    let known = found.finite + found.not_a_number + found.infinite;
                    assert_eq!(known, values.count() as u64, "values that are not counted");
                }
                say(answers, "tables", TableUse::of(&values));
            }
        }
    }
}

/// Joins a package with itself, and takes its functions out. What is written must be valid.
fn rewrite(path: &Path, folder: &Path, answers: &mut String) {
    let source =
        |name: &str| Source { name: name.to_owned(), path: path.to_owned(), function: None };
    let sources = [source("infer"), source("prefill")];
    let plan = JoinPlan::combine(&sources, &Options::default(), &|| false);
    write(plan, &folder.join("both.mlpackage"), answers);
    let Ok(package) = Package::open(path) else { return };
    let program = anemll_mil::model::program(package.model());
    for name in program.iter().flat_map(|program| program.functions.keys()).take(3) {
        let plan = JoinPlan::split(path, name, &|| false);
        write(plan, &folder.join("one.mlpackage"), answers);
    }
}

fn write(plan: Result<JoinPlan, Error>, path: &Path, answers: &mut String) {
    let Some(plan) = say(answers, "plan", plan) else { return };
    let done = plan.write(Output { path, replace: true, copy: false }, &|| false);
    if say(answers, "write", done).is_some() {
        let package = Package::open(path);
        let valid =
            package.as_ref().map(|package| validate_resolved(package.model().clone(), package));
        assert!(matches!(valid, Ok(Ok(_))), "{valid:?}");
    }
}

/// Reads the bytes as the `Manifest.json` of a package that has the usual files.
pub fn manifest(data: &[u8]) -> String {
    let folder = scratch();
    let path = folder.path().join("Manifest.json");
    let files: [(&str, &[u8]); 3] = [
        ("Manifest.json", data),
        ("Data/com.apple.CoreML/model.mlmodel", b""),
        ("Data/com.apple.CoreML/weights/weight.bin", b""),
    ];
    let entries = files.map(|(name, data)| (name.as_bytes().to_vec(), data.to_vec()));
    archive::lay_out(&entries, folder.path());
    let mut answers = String::new();
    if let Some(manifest) = say(&mut answers, "read", Manifest::read(folder.path())) {
        assert!(manifest.items().contains_key(manifest.root()), "the root is not an item");
        let inside = folder.path().canonicalize().map(|root| root.join("Data"));
        let model = manifest.model_path(folder.path());
        assert!(
            matches!((&model, &inside), (Ok(model), Ok(inside)) if model.starts_with(inside)),
            "{model:?} is not in {inside:?}"
        );
        // What we write of it is what we read.
        let text = manifest.to_text();
        assert!(std::fs::write(&path, &text).is_ok(), "cannot write a temporary file");
        let again = Manifest::read(folder.path());
        assert_eq!(again.ok().as_ref(), Some(&manifest), "{text}");
    }
    answers.replace(&*folder.path().to_string_lossy(), "")
}
