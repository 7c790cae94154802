use anemll_layout::Parts;
use anemll_plugin_api::codes;
use anemll_plugin_api::data::{Manifest, RunStep};
use anemll_plugin_api::{ComponentOptions, Plugin as _, Value};
use serde_json::json;

use super::*;
use crate::MonolithicPlugin;

fn model(layers: u32) -> ModelDescription {
    ModelDescription::default()
        .with_architecture("LlamaForCausalLM")
        .with_model_type("llama")
        .with_default_prefix("llama")
        .with_layers(layers)
        .with_vocabulary_size(301)
        .with_head_splits([40, 40, 40, 40, 40, 40, 40, 21])
        .with_context(256)
        .with_batch(32)
}

fn options() -> LayoutOptions {
    LayoutOptions::default()
}

fn step(package: &str, function: &str) -> RunStep {
    RunStep::new(package, function)
}

#[test]
fn packages_have_the_names_of_the_documentation() {
    for layers in [1, 4, 30, 126] {
        let layout = layout(&model(layers), &options()).unwrap();
        let packages: Vec<String> = layout
            .packages
            .iter()
            .map(|package| {
                let functions: Vec<String> = package
                    .functions
                    .iter()
                    .map(|function| format!("{}={}", function.name, function.id))
                    .collect();
                format!("{} {} {}", package.step, package.path(), functions.join(" "))
            })
            .collect();
        assert_eq!(
            packages,
            [
                "1 llama_monolithic main=infer",
                "2 llama_monolithic_prefill main=prefill",
                "3 llama_monolithic_combined infer=infer prefill=prefill",
                "0 .anemll/evaluate/llama_evaluate_monolithic main=evaluate",
            ]
        );
        assert!(layout.packages.iter().all(|package| package.weight_file == "monolithic"));
        assert_eq!(layout.packages[2].default_function.as_deref(), Some("infer"));
        assert_eq!(layout.weight_files.len(), 1);
        assert_eq!(layout.weight_files[0].functions, ["infer", "prefill", "evaluate"]);
        for function in &layout.functions {
            assert!(function.embedding);
            assert_eq!(function.layers, Some(LayerRange::new(0, layers)));
            assert_eq!(function.head, function.id != "prefill");
        }
        assert_eq!(layout.run.infer, [step("llama_monolithic_combined", "infer")]);
        assert_eq!(layout.run.prefill, [step("llama_monolithic_combined", "prefill")]);
        let evaluate = step(".anemll/evaluate/llama_evaluate_monolithic", "main");
        assert_eq!(layout.run.evaluate, [evaluate]);
    }
}

#[test]
fn steps_are_those_of_the_script() {
    let layout = layout(&model(2), &options()).unwrap();
    let titles: Vec<(u32, &str)> =
        layout.steps.iter().map(|step| (step.number, step.title.as_str())).collect();
    assert_eq!(titles, [(1, "infer"), (2, "prefill"), (3, "combine"),]);
}

#[test]
fn names_carry_no_bits_but_metadata_does() {
    let bits = Parts { embeddings: Some(6), layers: Some(4), head: None };
    let layout = layout(&model(2), &LayoutOptions { bits, ..options() }).unwrap();
    for package in &layout.packages {
        assert!(!package.stem.contains("lut"), "{}", package.stem);
        assert_eq!(package.metadata["com.anemll.lut_bits"], "4");
    }
    assert_eq!(layout.meta["lut_bits"], 4);
    assert_eq!(layout.meta["lut_embeddings"], 6);
    assert_eq!(layout.meta["lut_lmhead"], "none");
}

#[test]
fn meta_keys_are_those_of_the_apps() {
    let layout = layout(&model(2), &LayoutOptions { argmax: true, ..options() }).unwrap();
    assert_eq!(
        Value::Object(layout.meta),
        json!({
            "model_type": "monolithic",
            "context_length": 256,
            "batch_size": 32,
            "num_chunks": 1,
            "model_prefix": "llama",
            "lut_bits": "none",
            "lut_embeddings": "none",
            "lut_ffn": "none",
            "lut_lmhead": "none",
            "monolithic_model": "llama_monolithic_combined.mlmodelc",
            "split_lm_head": 8,
            "vocab_size": 301,
            "lm_head_chunk_sizes": [40, 40, 40, 40, 40, 40, 40, 21],
            "argmax_in_model": true,
            "functions": ["infer", "prefill"],
        })
    );
}

#[test]
fn argmax_is_for_the_shipped_head_alone() {
    let layout = layout(&model(2), &LayoutOptions { argmax: true, ..options() }).unwrap();
    let argmax: Vec<bool> = layout.functions.iter().map(|function| function.argmax).collect();
    assert_eq!(argmax, [true, false, false]);
    let says: Vec<bool> = layout
        .packages
        .iter()
        .map(|package| package.metadata.contains_key("com.anemll.argmax_in_model"))
        .collect();
    assert_eq!(says, [true, false, true, false]);
}

#[test]
fn impossible_layouts_are_refused() {
    let prefix = Some("a/b".to_owned());
    let error = layout(&model(4), &LayoutOptions { prefix, ..options() }).unwrap_err();
    assert_eq!(error.at.as_deref(), Some("--prefix"));
    assert_eq!(layout(&model(0), &options()).unwrap_err().code, codes::PLUGIN_BAD_ANSWER);
}

#[test]
fn the_plugin_is_what_its_manifest_says() {
    let manifest: Manifest = serde_json::from_str(MonolithicPlugin::MANIFEST).unwrap();
    assert_eq!(manifest.name, crate::ID);
    for component in &manifest.components {
        assert!(MonolithicPlugin::combiner(&component.id, &ComponentOptions::new()).is_ok());
    }
    assert!(MonolithicPlugin::combiner("other", &ComponentOptions::new()).is_err());
}

#[test]
fn guesses_are_verified_by_a_third_function() {
    let layout = layout(&model(2), &LayoutOptions { verify: Some(4), ..options() }).unwrap();
    let names: Vec<&str> =
        layout.packages[3].functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["infer", "prefill", "verify_4"]);
    assert_eq!(layout.run.verify[0].function, "verify_4");
    assert_eq!(layout.meta["verify_length"], 4);
}
