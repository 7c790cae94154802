//! `preflight` against the peaks of `transformers`, and weights that 16-bit floats cannot hold.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, golden, model, run, succeed, workspace};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn preflight(model: &Path) -> Command {
    let mut command = anemll();
    command.arg("preflight").arg("--model").arg(model);
    command
}

fn json(command: &mut Command) -> Value {
    anemll_tests::json(command.arg("--json"))
}

#[test]
fn peaks_are_those_of_transformers() {
    let folder = workspace().join("tests/reference/preflight");
    let wanted: Value =
        serde_json::from_slice(&std::fs::read(folder.join("peaks.json")).unwrap()).unwrap();
    // Several batches, the last of them padded.
    let mut command = preflight(&folder.join("model"));
    command.arg("--tokens").arg(folder.join("ids.npy")).args(["--context", "160"]);
    let found = json(&mut command);
    let layers = found["layers"].as_array().unwrap();
    for (layer, wanted) in wanted["layers"].as_array().unwrap().iter().enumerate() {
        let found = layers.iter().find(|found| found["layer"] == layer).unwrap();
        let range = ["within", "beyond", "near"][layer];
        assert_eq!(found["range"], range, "{found}");
        if range == "within" {
            // Products of queries and keys are larger than any module's output here.
            assert!(found["peak"].as_f64().unwrap().abs() < 32752.0);
            continue;
        }
        let ratio = found["peak"].as_f64().unwrap() / wanted["peak"].as_f64().unwrap();
        assert!((ratio - 1.0).abs() < 2e-3, "layer {layer}: {found} and {wanted}");
        assert_eq!(found["position"], wanted["position"], "layer {layer}");
        let operation = if layer == 1 { "mul" } else { "add" };
        assert_eq!(found["operation"], operation, "layer {layer}");
    }
    let values = found["values"].as_array().unwrap();
    assert!(values.iter().all(|value| value["range"] != "within"));
    let residual = |value: &&Value| value["layer"] == 1 && value["operation"] == "add";
    let residual = values.iter().find(residual).unwrap();
    let wanted = &wanted["layers"][1]["residual"];
    let ratio = residual["peak"].as_f64().unwrap() / wanted["peak"].as_f64().unwrap();
    assert!((ratio - 1.0).abs() < 2e-3, "{residual} and {wanted}");
    assert!(found["broken_positions"].as_u64().unwrap() > 0);
    assert!(found["weights"].as_array().unwrap().is_empty());

    let mut command = preflight(&folder.join("model"));
    command.arg("--tokens").arg(folder.join("ids.npy"));
    let text = String::from_utf8(succeed(&mut command).stdout).unwrap();
    let row = |layer: &str| {
        let row = text.lines().find(|line| line.trim_start().starts_with(layer)).unwrap();
        row.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(row("1 ").starts_with("1 -12000") && row("1 ").contains("beyond 65504"), "{text}");
    assert!(row("2 ").starts_with("2 -449") && row("2 ").contains("near 65504"), "{text}");
    assert!(text.contains("the logits are not all numbers"), "{text}");

    // The same with an exit code that a script can use.
    let output = run(command.arg("--strict"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("error[A0822]: --strict"));
}

#[test]
fn a_model_in_range_has_no_findings() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = folder.path().join("prompt.txt");
    std::fs::write(&prompt, "Alice was beginning to get very tired of sitting by her sister")
        .unwrap();
    let mut command = preflight(&model("tiny-llama"));
    let found = json(command.arg("--prompt-file").arg(&prompt).arg("--strict"));
    assert!(found["values"].as_array().unwrap().is_empty(), "{found}");
    assert_eq!(found["layers"].as_array().unwrap().len(), 5);
    assert_eq!(found["broken_positions"], 0);
    assert!(found["rounding"]["cosine_min"].as_f64().unwrap() > 0.9999);
    assert!(found["rounding"]["kl_mean"].as_f64().unwrap() < 1e-3);

    // The same tokens as the golden file's, cut to a short context.
    let mut command = preflight(&model("tiny-qwen3"));
    command.arg("--tokens").arg(golden("tiny-qwen3").join("ids.npy")).args(["--context", "40"]);
    let output = succeed(&mut command);
    assert!(String::from_utf8_lossy(&output.stderr).contains("the first 40 of 300 tokens"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("no value is beyond the range of float16, or near it"), "{text}");
}

/// `variants/float32-weights` with one tensor times `factor`.
fn scaled(tensor: &str, factor: f32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = model("variants/float32-weights");
    std::fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let offset = |index: usize| header[tensor]["data_offsets"][index].as_u64().unwrap() as usize;
    for value in bytes[start + offset(0)..start + offset(1)].as_chunks_mut::<4>().0 {
        *value = (f32::from_le_bytes(*value) * factor).to_le_bytes();
    }
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

#[test]
fn weights_beyond_float16_are_told_first() {
    let tensor = "model.layers.1.mlp.up_proj.weight";
    let folder = scaled(tensor, 1e6);
    let ids = golden("variants/float32-weights").join("ids.npy");
    let mut command = preflight(folder.path());
    let text = String::from_utf8(succeed(command.arg("--tokens").arg(&ids)).stdout).unwrap();
    assert!(text.starts_with("weight beyond float16: "), "{text}");
    assert!(text.contains(tensor) && text.contains("beyond 65504"), "{text}");
    let mut command = preflight(folder.path());
    let found = json(command.arg("--tokens").arg(&ids));
    assert_eq!(found["weights"][0]["tensor"], tensor);
}

#[test]
fn weights_that_vanish_are_counted_and_told() {
    let (zero, small) =
        ("model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight");
    for (tensor, factor, key) in [(zero, 1e-9, "underflowed"), (small, 1e-4, "subnormal")] {
        let folder = scaled(tensor, factor);
        let output = tempfile::tempdir().unwrap();
        let options = ["--lut", "none", "--combiner", "chunked", "--context", "64"];
        let told = convert(folder.path(), output.path(), &options).stderr;
        let told = String::from_utf8(told).unwrap();
        let line = told.lines().find(|line| line.contains(tensor)).expect(&told);
        assert!(line.contains("as 16-bit floats"), "{line}");
        let report = std::fs::read(output.path().join("anemll-report.json")).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        let weights = report["weight_files"].as_array().unwrap().iter();
        let weight = weights
            .flat_map(|file| file["weights"].as_array().unwrap())
            .find(|weight| weight["tensor"] == tensor)
            .unwrap();
        assert!(weight[key].as_u64().unwrap() > 4000, "{weight}");
        assert!(
            report["warnings"]
                .as_array()
                .unwrap()
                .iter()
                .any(|text| line.contains(text.as_str().unwrap()))
        );
    }
}

#[test]
fn what_cannot_be_run_is_refused() {
    let refused = |arguments: &[&str]| {
        let output = run(preflight(&model("variants/tied")).args(arguments));
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&[]).contains("--prompt-file"));
    assert!(refused(&["--prompt-file", "/nowhere/at all"]).contains("error[A0707]"));
    let ids = golden("tiny-llama").join("ids.npy");
    let ids = ids.to_str().unwrap();
    assert!(refused(&["--tokens", ids]).contains("beyond the model's vocabulary of 304"));
    assert!(refused(&["--tokens", ids, "--context", "0"]).contains("error"));
    assert!(
        refused(&["--tokens", ids, "--runtime", "other"])
            .contains("the runtime `other` was not found")
    );
    assert!(refused(&["--tokens", ids, "--scratch", "/nowhere/at all"]).contains("--scratch"));
}
