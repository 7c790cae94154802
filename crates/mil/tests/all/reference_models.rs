//! The validator accepts every model that coremltools and others wrote and Apple compiled.

use anemll_mil::{
    blob_references, interface, lint, op_histogram, validate_referenced, validate_resolved,
};
use coreml_proto::read_model;
use std::collections::BTreeSet;

#[test]
fn every_reference_model_is_valid() {
    let mut operations = BTreeSet::new();
    for path in crate::common::reference_models() {
        let model = read_model(&std::fs::read(&path).unwrap()).unwrap();
        let catalog = crate::common::Folder(path.parent().unwrap().to_owned());
        for counts in op_histogram(&model).values() {
            operations.extend(counts.keys().cloned());
        }
        let described = interface(&model).unwrap();
        assert!(described.iter().all(|function| !function.outputs.is_empty()));
        let has_weights = blob_references(&model).next().is_some();
        let checked = validate_resolved(model.clone(), &catalog)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(checked.model() == &model);
        // A frontend may not refer to files.
        assert_eq!(validate_referenced(model).is_err(), has_weights, "{}", path.display());
    }
    println!("operations: {operations:?}");
}

#[test]
fn interfaces_of_combined_packages_are_read() {
    let Some(shared) = crate::common::shared() else {
        println!("skipped: no shared folder beside the workspace");
        return;
    };
    let packages = shared.join("reference/anemll-packages/tiny-llama-v2048/c1_lut4_lmh6_emb6");
    let read = |name: &str| {
        let path = packages.join(name).join("Data/com.apple.CoreML/model.mlmodel");
        interface(&read_model(&std::fs::read(path).unwrap()).unwrap()).unwrap()
    };
    let combined = read("llama_FFN_PF_lut4_chunk_01of01.mlpackage");
    let names: Vec<_> = combined.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["infer", "prefill"]);
    assert_eq!(combined[0].inputs[0].name, "hidden_states");
    assert_eq!(combined[1].inputs[0].shapes, [[1, 64, 256]]);
    assert_eq!(combined[0].states, combined[1].states);
    let embeddings = read("llama_embeddings_lut6.mlpackage");
    assert_eq!(embeddings[0].inputs[0].shapes, [[1, 1], [1, 64]]);
    assert!(embeddings[0].outputs[0].shapes.is_empty());
}

#[test]
fn lint_of_reference_models() {
    for path in crate::common::reference_models() {
        let model = read_model(&std::fs::read(&path).unwrap()).unwrap();
        let findings = lint(&model, 0);
        let rules: BTreeSet<&str> = findings.iter().map(|finding| finding.rule).collect();
        let name = path.to_string_lossy();
        println!("{name}: {rules:?}");
        // Graphs that are known to run on the engine break none of the rules about loading.
        for rule in [
            "ANE-001", "ANE-041", "ANE-042", "ANE-043", "ANE-045", "ANE-060", "ANE-062", "ANE-066",
            "ANE-085",
        ] {
            let found = findings.iter().find(|finding| finding.rule == rule);
            // One package has its rotary tables palettized, which is a mistake that lint finds.
            let expected = rule == "ANE-060" && name.contains("c1_lut4tensor/llama_FFN");
            assert_eq!(found.is_some(), expected, "{name}: {found:?}");
        }
        if name.contains("_FFN_") {
            for rule in ["ANE-017", "ANE-028", "ANE-036", "ANE-096"] {
                assert!(rules.contains(rule), "{name}: {rule} is not found");
            }
        }
    }
}
