//! Bundles for Apple's Core AI apps: what lies in the folder, what the asset's functions take and give, and that the
//! package behind it gives the logits of transformers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, evaluate, golden, json, model, refusal, succeed};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The command that makes a bundle of tiny-llama.
fn command(output: &Path, arguments: &[&str]) -> Command {
    let mut command = anemll();
    command.args(["convert", "--combiner", "coreai-bundle", "--lut", "none", "--model"]);
    command.arg(model("tiny-llama")).arg("--output").arg(output).args(arguments);
    command
}

/// Names of a kind of port, with type and shape.
fn ports<'a>(asset: &'a Value, function: &str, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let functions = asset["functions"].as_array().unwrap();
    let found = functions.iter().find(|one| one["name"] == function);
    let ports = found.unwrap_or_else(|| panic!("no {function}"))[kind].as_array().unwrap();
    ports.iter().map(|port| (port["name"].as_str().unwrap(), port)).collect()
}

#[test]
fn a_bundle_is_what_apps_load_and_gives_the_logits_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let arguments = ["--contexts", "64,320", "--queries", "1,32", "--skip-quality"];
    succeed(&mut command(&output, &arguments));
    let metadata: Value =
        serde_json::from_slice(&std::fs::read(output.join("metadata.json")).unwrap()).unwrap();
    assert_eq!(metadata["language"]["max_context_length"], 320);
    assert_eq!(metadata["language"]["vocab_size"], 1024);
    for file in ["tokenizer.json", "tokenizer_config.json", "config.json"] {
        let copy = std::fs::read(output.join("tokenizer").join(file)).unwrap();
        assert_eq!(copy, std::fs::read(model("tiny-llama").join(file)).unwrap());
    }
    let path = output.join(metadata["assets"]["main"].as_str().unwrap());
    let asset = json(anemll().arg("inspect").arg(&path).arg("--json"));
    let names: Vec<&str> = asset["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 1 + 2 + 8, "{names:?}");
    assert!(names.contains(&"load_embeddings") && names.contains(&"prompt_opt_64_32"));
    println!("{}", serde_json::to_string_pretty(&asset["functions"]).unwrap());
    let inputs: Vec<&str> =
        ports(&asset, "extend_64_32", "inputs").into_iter().map(|(name, _)| name).collect();
    assert_eq!(inputs, ["transformer_input", "position_ids", "causal_mask", "in_step"]);
    // The package that the asset was made of.
    let told = evaluate(&output, &golden("tiny-llama"), "logits.npy", &["--path", "evaluate"]);
    assert!(told["cosine_min"].as_f64().unwrap() > 0.9999, "{told}");
    let told = evaluate(
        &output,
        &golden("tiny-llama"),
        "logits.npy",
        &["--path", "prefill", "--prefill-tokens", "288"],
    );
    assert!(told["cosine_min"].as_f64().unwrap() > 0.9999, "{told}");
}

#[test]
fn what_a_bundle_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| refusal(&mut command(&folder.path().join("out"), arguments));
    let cases: [(&[&str], &str); 6] = [
        (&["--compiler", "mlmodelc"], "hold what `coreai` makes"),
        (&["--no-tokenizer"], "have the tokenizer in them"),
        (&["--argmax"], "option `argmax`"),
        (&["--contexts", "32,256", "--queries", "1"], "64 channels"),
        (&["--contexts", "64,x"], "invalid value"),
        (&["--contexts", "64", "--context", "64"], "cannot be used with"),
    ];
    for (arguments, expected) in cases {
        let told = refused(arguments);
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
    let mut other = anemll();
    other.args(["convert", "--combiner", "monolithic", "--contexts", "64", "--model"]);
    let told =
        refusal(other.arg(model("tiny-llama")).arg("--output").arg(folder.path().join("out")));
    assert!(told.contains("option `contexts`"), "{told}");
}
