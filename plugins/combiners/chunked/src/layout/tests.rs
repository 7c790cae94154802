use std::collections::{BTreeMap, BTreeSet};

use anemll_layout::Parts as PerPart;
use anemll_plugin_api::codes;
use anemll_plugin_api::data::{Manifest, PackageKind, RunStep};
use anemll_plugin_api::{ComponentOptions, Plugin as _, Value};
use serde_json::json;

use super::*;
use crate::ChunkedPlugin;

fn model(layers: u32) -> ModelDescription {
    ModelDescription::default()
        .with_architecture("LlamaForCausalLM")
        .with_model_type("llama")
        .with_default_prefix("llama")
        .with_layers(layers)
        .with_vocabulary_size(1024)
        .with_head_splits(vec![128; 8])
        .with_context(512)
        .with_batch(64)
}

fn options(chunks: u32) -> LayoutOptions {
    LayoutOptions { chunks: Some(chunks), ..Default::default() }
}

fn made(layers: u32, options: &LayoutOptions) -> Layout {
    layout(&model(layers), options).unwrap()
}

fn paths(steps: &[RunStep]) -> Vec<String> {
    steps.iter().map(|step| format!("{}:{}", step.package, step.function)).collect()
}

#[test]
fn two_chunks_have_the_names_of_the_apps() {
    let layout = made(5, &options(2));
    let packages: Vec<String> = layout
        .packages
        .iter()
        .map(|package| {
            let functions: Vec<String> = package
                .functions
                .iter()
                .map(|function| format!("{}={}", function.name, function.id))
                .collect();
            let path = package.path();
            format!("{} {path} [{}] {}", package.step, package.weight_file, functions.join(" "))
        })
        .collect();
    assert_eq!(
        packages,
        [
            "1 llama_embeddings [embeddings] main=embeddings",
            "2 llama_lm_head [lm_head] main=lm_head",
            "3 llama_FFN_chunk_01of02 [chunk_01] main=infer.01",
            "3 llama_FFN_chunk_02of02 [chunk_02] main=infer.02",
            "4 llama_prefill_chunk_01of02 [chunk_01] main=prefill.01",
            "4 llama_prefill_chunk_02of02 [chunk_02] main=prefill.02",
            "5 llama_FFN_PF_chunk_01of02 [chunk_01] infer=infer.01 prefill=prefill.01",
            "5 llama_FFN_PF_chunk_02of02 [chunk_02] infer=infer.02 prefill=prefill.02",
            "0 .anemll/evaluate/llama_evaluate_chunk_01of02 [chunk_01] main=evaluate.01",
            "0 .anemll/evaluate/llama_evaluate_chunk_02of02 [chunk_02] main=evaluate.02",
            "0 .anemll/evaluate/llama_evaluate_lm_head [lm_head] main=evaluate.lm_head",
        ]
    );
    assert_eq!(layout.combiner, "chunked");
    assert_eq!(layout.prefix, "llama");
    let layers: Vec<(&str, u32, u32)> = layout
        .functions
        .iter()
        .filter_map(|function| {
            function.layers.map(|layers| (function.id.as_str(), layers.first, layers.end))
        })
        .collect();
    assert_eq!(
        layers,
        [
            ("infer.01", 0, 3),
            ("infer.02", 3, 5),
            ("prefill.01", 0, 3),
            ("prefill.02", 3, 5),
            ("evaluate.01", 0, 3),
            ("evaluate.02", 3, 5),
        ]
    );
    let files: Vec<(&str, String)> = layout
        .weight_files
        .iter()
        .map(|file| (file.id.as_str(), file.functions.join(" ")))
        .collect();
    assert_eq!(
        files,
        [
            ("embeddings", "embeddings".to_owned()),
            ("chunk_01", "infer.01 prefill.01 evaluate.01".to_owned()),
            ("chunk_02", "infer.02 prefill.02 evaluate.02".to_owned()),
            ("lm_head", "lm_head evaluate.lm_head".to_owned()),
        ]
    );
    assert_eq!(
        paths(&layout.run.infer),
        [
            "llama_embeddings:main",
            "llama_FFN_PF_chunk_01of02:infer",
            "llama_FFN_PF_chunk_02of02:infer",
            "llama_lm_head:main",
        ]
    );
    assert_eq!(
        paths(&layout.run.prefill),
        [
            "llama_embeddings:main",
            "llama_FFN_PF_chunk_01of02:prefill",
            "llama_FFN_PF_chunk_02of02:prefill",
        ]
    );
    assert_eq!(
        paths(&layout.run.evaluate),
        [
            "llama_embeddings:main",
            ".anemll/evaluate/llama_evaluate_chunk_01of02:main",
            ".anemll/evaluate/llama_evaluate_chunk_02of02:main",
            ".anemll/evaluate/llama_evaluate_lm_head:main",
        ]
    );
}

#[test]
fn steps_are_those_of_the_script() {
    let layout = made(2, &options(1));
    let titles: Vec<(u32, &str)> =
        layout.steps.iter().map(|step| (step.number, step.title.as_str())).collect();
    assert_eq!(
        titles,
        [(1, "embeddings"), (2, "lm_head"), (3, "FFN"), (4, "prefill"), (5, "combine"),]
    );
}

/// What must hold of every layout, whatever the numbers.
#[test]
fn every_layout_hangs_together() {
    for layers in [1, 2, 3, 16, 30, 33, 126] {
        for chunks in (1..=layers).filter(|chunks| *chunks <= 12 || *chunks == layers) {
            let layout = made(layers, &options(chunks));
            let ids: BTreeSet<&str> =
                layout.functions.iter().map(|function| function.id.as_str()).collect();
            assert_eq!(ids.len(), layout.functions.len(), "ids are unique");
            let owner: BTreeMap<&str, &str> = layout
                .weight_files
                .iter()
                .flat_map(|file| file.functions.iter().map(|id| (id.as_str(), file.id.as_str())))
                .collect();
            assert_eq!(owner.keys().copied().collect::<BTreeSet<_>>(), ids, "each has one file");
            let mut packages = BTreeMap::new();
            for package in &layout.packages {
                for function in &package.functions {
                    assert_eq!(owner[function.id.as_str()], package.weight_file);
                }
                assert!(package.step <= 5);
                let path = package.path();
                assert!(packages.insert(path, package).is_none(), "paths are unique");
            }
            let used: BTreeSet<&str> = layout
                .packages
                .iter()
                .flat_map(|package| package.functions.iter().map(|function| function.id.as_str()))
                .collect();
            assert_eq!(used, ids, "each function is in a package");
            for (path, length) in [
                (&layout.run.infer, chunks + 2),
                (&layout.run.prefill, chunks + 1),
                (&layout.run.evaluate, chunks + 2),
            ] {
                assert_eq!(path.len(), length as usize);
                for step in path {
                    let functions = &packages[&step.package].functions;
                    assert!(functions.iter().any(|function| function.name == step.function));
                }
            }
            let last = layout.functions.iter().filter_map(|function| function.layers);
            assert_eq!(last.map(|layers| layers.end).max(), Some(layers));
        }
    }
}

#[test]
fn bits_stand_in_names_and_metadata() {
    let bits = PerPart { embeddings: Some(8), layers: Some(4), head: Some(6) };
    let layout = made(2, &LayoutOptions { bits, prefix: Some("mine".into()), ..options(2) });
    let stems: Vec<&str> = layout.packages.iter().map(|package| package.stem.as_str()).collect();
    assert_eq!(
        stems,
        [
            "mine_embeddings_lut8",
            "mine_lm_head_lut6",
            "mine_FFN_lut4_chunk_01of02",
            "mine_FFN_lut4_chunk_02of02",
            "mine_prefill_lut4_chunk_01of02",
            "mine_prefill_lut4_chunk_02of02",
            "mine_FFN_PF_lut4_chunk_01of02",
            "mine_FFN_PF_lut4_chunk_02of02",
            "mine_evaluate_lut4_chunk_01of02",
            "mine_evaluate_lut4_chunk_02of02",
            "mine_evaluate_lm_head_lut6",
        ]
    );
    let bits: Vec<&str> = layout
        .packages
        .iter()
        .map(|package| package.metadata["com.anemll.lut_bits"].as_str())
        .collect();
    assert_eq!(bits, ["8", "6", "4", "4", "4", "4", "4", "4", "4", "4", "6"]);
    assert_eq!(layout.meta["lut_embeddings"], 8);
    assert_eq!(layout.meta["ffn"], "mine_FFN_PF_lut4_chunk_01of02.mlmodelc");
}

#[test]
fn meta_keys_are_those_of_the_apps() {
    let layout = made(3, &LayoutOptions { argmax: true, ..options(3) });
    assert_eq!(
        Value::Object(layout.meta),
        json!({
            "model_type": "chunked",
            "context_length": 512,
            "batch_size": 64,
            "num_chunks": 3,
            "model_prefix": "llama",
            "lut_embeddings": "none",
            "lut_ffn": "none",
            "lut_lmhead": "none",
            "embeddings": "llama_embeddings.mlmodelc",
            "lm_head": "llama_lm_head.mlmodelc",
            "ffn": "llama_FFN_PF_chunk_01of03.mlmodelc",
            "split_lm_head": 8,
            "vocab_size": 1024,
            "lm_head_chunk_sizes": [128, 128, 128, 128, 128, 128, 128, 128],
            "argmax_in_model": true,
            "functions": ["infer", "prefill"],
        })
    );
    assert!(!made(3, &options(3)).meta.contains_key("argmax_in_model"));
}

#[test]
fn argmax_is_for_the_shipped_head_alone() {
    let layout = made(2, &LayoutOptions { argmax: true, ..options(1) });
    for function in &layout.functions {
        assert_eq!(function.argmax, function.id == "lm_head", "{}", function.id);
    }
    for package in &layout.packages {
        let says = package.metadata.contains_key("com.anemll.argmax_in_model");
        assert_eq!(says, package.stem == "llama_lm_head", "{}", package.stem);
    }
}

#[test]
fn packages_say_what_they_are() {
    let metadata = [("com.anemll.source_sha256".to_owned(), "abc".to_owned())].into();
    let layout = made(4, &LayoutOptions { metadata, ..options(2) });
    let package = |stem: &str| {
        layout.packages.iter().find(|package| package.stem == stem).expect("the package is there")
    };
    let combined = package("llama_FFN_PF_chunk_02of02");
    assert_eq!(combined.default_function.as_deref(), Some("infer"));
    assert_eq!(
        combined.short_description,
        "LlamaForCausalLM layers 2 to 3 of 4, functions infer and prefill"
    );
    for (key, value) in [
        ("chunk_no", "2"),
        ("num_chunks", "2"),
        ("batch_size", "64"),
        ("context_length", "512"),
        ("functions", "infer,prefill"),
        ("source_sha256", "abc"),
    ] {
        assert_eq!(combined.metadata[&format!("com.anemll.{key}")], value, "{key}");
    }
    let infer = &package("llama_FFN_chunk_01of02").metadata;
    assert!(!infer.contains_key("com.anemll.batch_size"), "it takes one token");
    let head = &package("llama_lm_head").metadata;
    assert_eq!(head["com.anemll.vocab_size"], "1024");
    assert!(!head.contains_key("com.anemll.chunk_no"));
}

#[test]
fn impossible_layouts_are_refused() {
    for (layers, chunks) in [(2, 0), (2, 3), (1, u32::MAX)] {
        let error = layout(&model(layers), &options(chunks)).unwrap_err();
        assert_eq!(error.code, codes::LAYOUT_OPTION_INVALID);
    }
    let prefix = Some("../x".to_owned());
    let error = layout(&model(2), &LayoutOptions { prefix, ..options(1) }).unwrap_err();
    assert_eq!(error.at.as_deref(), Some("--prefix"));
    let error = layout(&model(0), &options(1)).unwrap_err();
    assert_eq!(error.code, codes::PLUGIN_BAD_ANSWER);
}

#[test]
fn the_plugin_is_what_its_manifest_says() {
    let manifest: Manifest = serde_json::from_str(ChunkedPlugin::MANIFEST).unwrap();
    assert_eq!(manifest.name, crate::ID);
    for component in &manifest.components {
        assert!(ChunkedPlugin::combiner(&component.id, &ComponentOptions::new()).is_ok());
    }
    assert!(ChunkedPlugin::combiner("other", &ComponentOptions::new()).is_err());
}

#[test]
fn guesses_are_verified_by_a_function_of_every_package() {
    let layout = made(4, &LayoutOptions { verify: Some(8), ..options(2) });
    let verify = [
        "llama_embeddings:verify_8",
        "llama_FFN_PF_chunk_01of02:verify_8",
        "llama_FFN_PF_chunk_02of02:verify_8",
        "llama_lm_head:verify_8",
    ];
    assert_eq!(paths(&layout.run.verify), verify);
    assert_eq!(paths(&layout.run.infer)[0], "llama_embeddings:main");
    let combined: BTreeSet<&str> = layout
        .packages
        .iter()
        .filter(|package| package.kind == PackageKind::Combined)
        .map(|package| package.stem.as_str())
        .collect();
    assert!(verify.iter().all(|call| combined.contains(call.split(':').next().unwrap())));
    let tokens = |id: &str| layout.functions.iter().find(|one| one.id == id).unwrap().tokens;
    assert!(
        ["verify.01", "verify.02", "verify.embeddings", "verify.lm_head"].map(tokens)
            == [Some(8); 4]
    );
    assert_eq!(layout.meta["verify_function"], "verify_8");
}
