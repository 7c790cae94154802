//! Sizes that are told before a conversion against those of the conversion.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, convert_command, model, succeed};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of the weight files of a conversion by id.
fn converted(model: &Path, arguments: &[&str]) -> BTreeMap<String, u64> {
    let output = tempfile::tempdir().unwrap();
    convert(model, output.path(), arguments);
    let report: Value =
        serde_json::from_slice(&std::fs::read(output.path().join("anemll-report.json")).unwrap())
            .unwrap();
    let mut files = BTreeMap::new();
    for file in report["weight_files"].as_array().unwrap() {
        files.insert(file["id"].as_str().unwrap().to_owned(), file["bytes"].as_u64().unwrap());
    }
    files
}

/// The same, as `--dry-run` tells it from config.json alone.
fn told(model: &Path, arguments: &[&str]) -> BTreeMap<String, u64> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(model.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut command = convert_command(folder.path(), &folder.path().join("out"), arguments);
    let plan: Value =
        serde_json::from_slice(&succeed(command.args(["--dry-run", "--json"])).stdout).unwrap();
    serde_json::from_value(plan["weight_files"].clone()).unwrap()
}

/// What `plan` says of what is taken with these flags, from config.json alone.
fn planned(model: &Path, flags: &[&str]) -> Value {
    let mut command = anemll();
    command.arg("plan").arg(model.join("config.json").parent().unwrap()).arg("--json").args(flags);
    let plan: Value = serde_json::from_slice(&succeed(&mut command).stdout).unwrap();
    plan["options"].as_array().unwrap().last().unwrap().clone()
}

const NONE: &[&str] = &["--lut", "none"];
const PARTS: &[&str] = &["--lut1", "8,tensor", "--lut2", "4", "--lut3", "6,16"];

/// Padding after a file's last record, and records that are equal, are all that may differ.
#[track_caller]
fn same(told: u64, real: u64) {
    assert!(told.abs_diff(real) < 64, "{told} bytes were told of, there are {real}");
}

#[test]
fn weight_files_have_the_size_that_was_told() {
    for (name, luts) in [("tiny-llama", PARTS), ("variants/tied", NONE), ("tiny-qwen3", &[])] {
        for combiner in ["chunked", "monolithic"] {
            let arguments = [&["--combiner", combiner, "--runtime", "none"][..], luts].concat();
            let (told, files) =
                (told(&model(name), &arguments), converted(&model(name), &arguments));
            assert!(told.keys().eq(files.keys()), "{told:?} {files:?}");
            for (id, bytes) in &files {
                same(told[id], *bytes);
            }
        }
    }
}

#[test]
fn parts_have_the_sizes_that_were_planned() {
    for (name, luts) in [("tiny-llama", PARTS), ("variants/all-biases", NONE)] {
        let model = model(name);
        let plan = planned(&model, luts);
        let number = |value: &Value| value.as_u64().unwrap();
        let layout = ["--combiner", "chunked", "--chunk", "2", "--runtime", "none"];
        let files = converted(&model, &[&layout, luts].concat());
        same(number(&plan["embeddings"]) + 64, files["embeddings"]);
        same(number(&plan["head"]) + 64, files["lm_head"]);
        let layers: Vec<u64> = plan["layers"].as_array().unwrap().iter().map(number).collect();
        let (first, second) = layers.split_at(layers.len().div_ceil(2));
        let every = 64 + number(&plan["every_chunk"]);
        same(every + first.iter().sum::<u64>(), files["chunk_01"]);
        let last = number(&plan["last_chunk"]);
        same(every + last + second.iter().sum::<u64>(), files["chunk_02"]);

        let whole =
            converted(&model, &[&["--combiner", "monolithic", "--runtime", "none"], luts].concat());
        let mut combiners = plan["combiners"].as_array().unwrap().iter();
        let told = combiners.find(|combiner| combiner["id"] == "monolithic").unwrap();
        same(number(&told["largest_files"][0]), whole.into_values().sum());
    }
}
