//! MIL text against what Apple's compiler wrote, for every pair of package and compiled model.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use anemll_mil::Literal;
use anemll_mil::text::{self, Document, TextOptions};
use coreml_proto::mil::value::{Value as Storage, immediate_value::Value as Immediate};
use coreml_proto::{Model, mil, read_model};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Keys of `buildInfo` that are the compiler's own.
const OWN: [&str; 2] = ["coremlc-component-MIL", "coremlc-version"];

fn find(folder: &Path, is_wanted: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if is_wanted(&path) {
            found.push(path);
        } else if path.is_dir() {
            find(&path, is_wanted, found);
        }
    }
    found.sort();
}

/// Folders with a source model and a compiled one: `expected*.mlmodelc` beside a `.mlmodel` file or
/// a package.
fn pairs(shared: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut compiled = Vec::new();
    let is_text = |path: &Path| path.file_name().is_some_and(|name| name == "model.mil");
    find(&shared.join("mlmodelc-pairs"), &is_text, &mut compiled);
    let mut pairs = Vec::new();
    for text in compiled {
        let folder = text.ancestors().nth(2).unwrap();
        let mut sources = Vec::new();
        let is_source =
            |path: &Path| path.extension().is_some_and(|extension| extension == "mlmodel");
        find(folder, &is_source, &mut sources);
        assert_eq!(sources.len(), 1, "{}", folder.display());
        pairs.push((sources.remove(0), text));
    }
    pairs
}

fn options_of(document: &Document) -> TextOptions {
    let own = document.build_info().into_iter().filter(|(key, _)| OWN.contains(&key.as_str()));
    TextOptions { build_info: own.collect() }
}

/// The text with every id of enumerated shapes replaced by the place of its shapes in their order.
fn with_places_for_shape_ids(text: &str) -> String {
    let mut document = text::parse(text).unwrap();
    for function in document.program.functions.values_mut() {
        let Some(value) = function.attributes.get_mut("FlexibleShapeInformation") else { continue };
        let (_, shapes) = two(value);
        let (name, entries) = two(shapes);
        if format!("{name:?}").contains("EnumeratedShapes") {
            let entries = pairs_of(entries);
            entries.sort_by_key(|entry| format!("{:?}", entry.value));
            for (place, entry) in entries.iter_mut().enumerate() {
                entry.key = Some(Literal::string(&place.to_string()).to_value().unwrap());
            }
        }
    }
    document.to_text().unwrap()
}

fn two(value: &mut mil::Value) -> (&mut mil::Value, &mut mil::Value) {
    let Some(Storage::ImmediateValue(immediate)) = &mut value.value else { panic!("no data") };
    let Some(Immediate::Tuple(tuple)) = &mut immediate.value else { panic!("no tuple") };
    let [first, second] = tuple.values.as_mut_slice() else { panic!("not two values") };
    (first, second)
}

fn pairs_of(value: &mut mil::Value) -> &mut [mil::dictionary_value::KeyValuePair] {
    let Some(Storage::ImmediateValue(immediate)) = &mut value.value else { panic!("no data") };
    let Some(Immediate::Dictionary(entries)) = &mut immediate.value else {
        panic!("no dictionary")
    };
    &mut entries.values
}

#[test]
fn every_pair_gives_the_text_of_the_compiler() {
    let Some(shared) = crate::common::shared() else {
        println!("skipped: no shared folder beside the workspace");
        return;
    };
    let pairs = pairs(&shared);
    assert!(pairs.len() >= 12, "only {} pairs", pairs.len());
    let mut exact = 0;
    for (source, expected) in &pairs {
        let model: Model = read_model(&std::fs::read(source).unwrap()).unwrap();
        let expected_text = std::fs::read_to_string(expected).unwrap();
        let document = text::parse(&expected_text).unwrap();
        let ours = text::to_text(&model, &options_of(&document)).unwrap();
        let place = expected.display();
        if ours == expected_text {
            exact += 1;
        } else {
            // Only ids of enumerated shapes may differ.
            assert!(expected_text.contains("EnumeratedShapes"), "{place}");
            let normal = with_places_for_shape_ids;
            assert_eq!(normal(&ours), normal(&expected_text), "{place}");
        }
    }
    println!("{} pairs, {exact} equal byte for byte", pairs.len());
    assert!(exact + 1 >= pairs.len(), "{exact} of {}", pairs.len());
}

#[test]
fn every_text_comes_back_byte_for_byte() {
    let Some(shared) = crate::common::shared() else {
        println!("skipped: no shared folder beside the workspace");
        return;
    };
    let mut texts = Vec::new();
    let is_text = |path: &Path| path.extension().is_some_and(|extension| extension == "mil");
    find(&shared, &is_text, &mut texts);
    assert!(texts.len() >= 12, "only {} texts", texts.len());
    for path in texts {
        let text = std::fs::read_to_string(&path).unwrap();
        let document = text::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(document.to_text().unwrap() == text, "{}", path.display());
    }
}

/// What we write of any model is read again, and holds the same program but for doc strings.
#[test]
fn every_model_is_written_and_read_again() {
    for path in crate::common::reference_models() {
        let model = read_model(&std::fs::read(&path).unwrap()).unwrap();
        let options = TextOptions { build_info: BTreeMap::new() };
        let place = path.display();
        let written = text::to_text(&model, &options).unwrap_or_else(|e| panic!("{place}: {e}"));
        let document = text::parse(&written).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert!(document.to_text().unwrap() == written, "{place}");
        let program = anemll_mil::model::program(&model).unwrap();
        for (name, function) in &program.functions {
            let read = &document.program.functions[name];
            let (ours, theirs) = (
                anemll_mil::model::block(read).unwrap(),
                anemll_mil::model::block(function).unwrap(),
            );
            assert_eq!(ours.outputs, theirs.outputs, "{place}");
            assert_eq!(ours.operations.len(), theirs.operations.len(), "{place}");
            for (ours, theirs) in ours.operations.iter().zip(&theirs.operations) {
                assert_eq!(ours, theirs, "{place}");
            }
        }
    }
}
