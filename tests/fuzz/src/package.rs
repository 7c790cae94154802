//! The reader of packages, and that of manifests.

use crate::{archive, blob, say, scratch};
use anemll_mil::{LintOptions, blob_references, interface, lint_with, validate_resolved};
use anemll_mlpackage::{Manifest, Package};

/// Lays the bytes out as a package ([`archive`]) and opens it, and its model alone; what opens is
/// validated with its own weight files.
pub fn package(data: &[u8]) -> String {
    let folder = scratch();
    let root = folder.path().join("model.mlpackage");
    let mut answers = String::new();
    if std::fs::create_dir(&root).is_ok() {
        archive::lay_out(&archive::unpack(data), &root);
        for path in [root.clone(), root.join("Data/com.apple.CoreML/model.mlmodel")] {
            if let Some(package) = say(&mut answers, "open", Package::open(path)) {
                examine(&package, &mut answers);
            }
        }
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
    say(answers, "interface", interface(package.model()));
    say(answers, "resolved", validate_resolved(package.model().clone(), package));
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
        assert!(manifest.items().contains_key(manifest.root()), "the root is no item");
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
