//! The lint of conversions: what users are told of it, and layouts that keep to its limits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, model, run, succeed};
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::{Value, json};
use std::path::Path;

/// A copy of a small model with so many layers, those of the original again and again.
fn with_layers(folder: &Path, layers: usize) {
    let source = model("tiny-llama");
    let text = std::fs::read(source.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    let known = config["num_hidden_layers"].as_u64().unwrap() as usize;
    config["num_hidden_layers"] = json!(layers);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, TensorView<'_>)> = Vec::new();
    for (name, view) in read.tensors() {
        let rest = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
        match rest {
            None => tensors.push((name, view)),
            Some((number, rest)) => {
                let first: usize = number.parse().unwrap();
                for layer in (first..layers).step_by(known) {
                    tensors.push((format!("model.layers.{layer}.{rest}"), view.clone()));
                }
            }
        }
    }
    let bytes = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

fn inspect(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(anemll().arg("inspect").args(arguments));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const SMALL: [&str; 6] = ["--context", "64", "--batch", "8", "--runtime", "none"];

#[test]
fn auto_and_plan_keep_to_the_lints_limits() {
    let source = tempfile::tempdir().unwrap();
    with_layers(source.path(), 21);
    let output = tempfile::tempdir().unwrap();
    let told =
        convert(source.path(), output.path(), &[&SMALL[..], &["--combiner", "auto"]].concat());
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.contains("combiner chunked: 21 layers are more than 20 in one function"),
        "{told}"
    );
    assert!(!told.contains("lint"), "{told}");
    assert!(output.path().join("llama_FFN_PF_chunk_02of02.mlpackage").is_dir());
    let path = output.path().to_str().unwrap();
    let (code, text, error) = inspect(&[path, "--lint", "--strict"]);
    assert_eq!(code, Some(0), "{error}");
    for name in ["llama_embeddings.mlpackage", "llama_FFN_PF_chunk_01of02.mlpackage"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(text.contains("accepted: ") && !text.contains("llama_prefill"), "{text}");

    let plan = |arguments: &[&str]| {
        let mut command = anemll();
        command.arg("plan").arg("--model").arg(source.path()).args(arguments);
        String::from_utf8(succeed(&mut command).stdout).unwrap()
    };
    assert_eq!(plan(&["--auto"]), "2\n");
    let text = plan(&[]);
    assert!(text.contains("21 layers are more than 20 in one function"), "{text}");
    let planned: Value = serde_json::from_str(&plan(&["--json", "--lut", "4"])).unwrap();
    let asked = &planned["options"].as_array().unwrap()[4];
    assert_eq!((&asked["combiner"], &asked["chunks"]), (&json!("chunked"), &json!(2)));
}

#[test]
fn users_are_told_what_they_can_change_of_what_ships() {
    let source = tempfile::tempdir().unwrap();
    with_layers(source.path(), 21);
    let output = tempfile::tempdir().unwrap();
    let whole = [&SMALL[..], &["--combiner", "monolithic"]].concat();
    let told = convert(source.path(), output.path(), &whole);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let line = format!(
        "Neural Engine lint: 2 things to know: anemll inspect --lint {} (ANE-080: --chunk auto; \
         ANE-081: --chunk auto)",
        output.path().display()
    );
    assert!(told.contains(&line), "{told}");
    assert_eq!(told.matches("ANE-").count(), 2, "{told}");
    let report = std::fs::read(output.path().join("anemll-report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let found = &report["lint"][0];
    // infer and prefill of the package that ships, its parts not counted again.
    assert_eq!(
        (&found["rule"], &found["severity"], &found["places"]),
        (&json!("ANE-080"), &json!("warning"), &json!(2))
    );

    let path = output.path().to_str().unwrap();
    let (code, text, error) = inspect(&[path, "--lint", "--strict"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("error[A0505]") && error.contains("ANE-080"), "{error}");
    assert!(
        text.contains("ANE-080 warning") && text.contains("change it with --chunk auto"),
        "{text}"
    );
    let meta = output.path().join("meta.yaml");
    let (code, text, _) = inspect(&[meta.to_str().unwrap(), "--lint", "--json"]);
    assert_eq!(code, Some(0));
    let found: Value = serde_json::from_str(&text).unwrap();
    let packages = found["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 1);
    let findings = packages[0]["findings"].as_array().unwrap();
    // One table: the severity is the same everywhere.
    let layers = findings.iter().find(|finding| finding["rule"] == "ANE-080").unwrap();
    assert_eq!((&layers["severity"], &layers["flag"]), (&json!("warning"), &json!("--chunk auto")));
    let integers = findings.iter().find(|finding| finding["rule"] == "ANE-017").unwrap();
    assert_eq!(integers["concern"], "graph");
    assert!(integers["accepted"].is_string());
    let (code, _, error) = inspect(&[path]);
    assert_eq!(code, Some(1));
    assert!(error.contains("a conversion of several packages"), "{error}");
}

#[test]
fn codes_are_explained() {
    let explain = |arguments: &[&str]| {
        let output = run(anemll().arg("explain").args(arguments));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, text, _) = explain(&["ane-080"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("21 to 28 layers") && text.contains("--chunk auto"), "{text}");
    let (_, text, _) = explain(&["A0503"]);
    assert!(text.contains("Common causes:") && text.contains("What to do:"), "{text}");
    let (_, text, _) = explain(&["--json", "ANE-017"]);
    let rule: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&rule["kind"], &rule["cases"][0]["concern"]), (&json!("rule"), &json!("graph")));
    let (_, text, _) = explain(&[]);
    assert!(text.contains("A0101") && text.contains("ANE-099"), "{text}");
    let (code, _, error) = explain(&["ANE-81"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("ANE-081"), "{error}");
}
