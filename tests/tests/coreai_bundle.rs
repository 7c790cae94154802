//! Core AI assets of conversions. Bundles for Apple's apps: what lies in the folder, what the asset's functions take and
//! give, and that the package behind it gives the logits of transformers. Several packages: one asset of all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, evaluate, files, golden, json, model, refusal, succeed};
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
    let checked = json(anemll().arg("check").arg(&output).arg("--json"));
    assert_eq!((&checked["form"], &checked["faults"]), (&"static".into(), &Value::Array(vec![])));
    let told =
        refusal(anemll().arg("export").arg(&output).arg("--to").arg(folder.path().join("to")));
    assert!(told.contains("copy metadata.json, ") && told.contains("tokenizer/"), "{told}");
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
    std::fs::remove_file(output.join("tokenizer/tokenizer.json")).unwrap();
    let told = refusal(anemll().arg("check").arg(&output));
    assert!(told.contains("A0506") && told.contains("tokenizer.json: it is missing"), "{told}");
}

#[test]
fn the_packages_of_a_conversion_become_one_asset() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let convert = |output: &Path, arguments: &[&str]| {
        let mut command = anemll();
        command.args(["convert", "--combiner", "chunked", "--lut", "none", "--compiler", "coreai"]);
        command.args(["--no-tokenizer", "--runtime", "none", "--model"]).arg(model("tiny-llama"));
        succeed(command.arg("--output").arg(output).args(arguments));
        let entries = std::fs::read_dir(output).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let mut assets: Vec<String> = names.filter(|name| name.ends_with(".aimodel")).collect();
        assets.sort();
        assets
    };
    let assets = convert(&output, &[]);
    let [name] = assets.as_slice() else { panic!("{assets:?}") };
    let asset = json(anemll().arg("inspect").arg(output.join(name)).arg("--json"));
    let functions: Vec<&str> = asset["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    let expected = [
        "embeddings",
        "embeddings_1x64",
        "infer_01",
        "infer_02",
        "lm_head",
        "prefill_01",
        "prefill_02",
    ];
    assert_eq!(functions, expected);
    // Both functions of a chunk have its weights.
    let shared = asset["sharing"].as_array().unwrap();
    let both = |chunk: &str| {
        let names = [format!("infer_{chunk}"), format!("prefill_{chunk}")];
        shared.iter().any(|group| group["functions"] == serde_json::json!(names))
    };
    assert!(both("01") && both("02"), "{shared:?}");
    succeed(anemll().arg("check").arg(output.join(name)));
    // The same bytes afterwards, by its description; and nothing is there to be done again.
    let again = folder.path().join("again");
    let mut compile = anemll();
    succeed(
        compile.args(["compile", "--compiler", "coreai", "--output-dir"]).arg(&again).arg(&output),
    );
    assert_eq!(files(&again.join(name)), files(&output.join(name)));
    assert_eq!(convert(&output, &[]), assets);
    assert_eq!(files(&again.join(name)), files(&output.join(name)));
    let apart = convert(&folder.path().join("apart"), &["-O", "coreai.joined=false"]);
    assert_eq!(apart.len(), 4, "{apart:?}");
    assert!(!apart.contains(name));
}

#[test]
fn a_dynamic_bundle_has_one_function_for_any_number_of_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let arguments = ["-O", "coreai-bundle.form=dynamic", "--context", "320", "--skip-quality"];
    succeed(&mut command(&output, &arguments));
    let checked = json(anemll().arg("check").arg(&output).arg("--json"));
    assert_eq!((&checked["form"], &checked["faults"]), (&"dynamic".into(), &Value::Array(vec![])));
    let asset =
        json(anemll().arg("inspect").arg(output.join("llama_coreai.aimodel")).arg("--json"));
    let shapes = |kind| {
        let ports = ports(&asset, "main", kind).into_iter();
        ports.map(|(name, port)| (name, port["shape"].clone())).collect::<Vec<_>>()
    };
    let any = |shape: &str| serde_json::from_str::<Value>(shape).unwrap();
    let ids = any("[1, null]");
    assert_eq!(shapes("inputs"), [("input_ids", ids.clone()), ("position_ids", ids)]);
    let cache = shapes("states").swap_remove(0);
    assert_eq!((cache.0, &cache.1[3]), ("keyCache", &Value::Null));
    assert_eq!(shapes("outputs"), [("logits", any("[1, null, 1024]"))]);
    // The package, whose functions are cases of it.
    let told = evaluate(&output, &golden("tiny-llama"), "logits.npy", &["--path", "evaluate"]);
    assert!(told["cosine_min"].as_f64().unwrap() > 0.9999, "{told}");
    let arguments = ["--path", "prefill", "--prefill-tokens", "192"];
    let told = evaluate(&output, &golden("tiny-llama"), "logits.npy", &arguments);
    assert!(told["cosine_min"].as_f64().unwrap() > 0.9999, "{told}");
}

/// The runtime for Linux is asked for its logits by the witness.
#[test]
fn models_with_windows_have_a_dynamic_form() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut convert = anemll();
    convert.args(["convert", "--combiner", "coreai-bundle", "-O", "coreai-bundle.form=dynamic"]);
    convert.args(["--lut", "none", "--context", "256", "--no-tokenizer", "--skip-quality"]);
    convert.args(["--compiler", "none", "--model"]).arg(model("variants/gemma3"));
    succeed(convert.arg("--output").arg(&output));
    // The package: its functions are for two contexts, both longer than the window.
    let told = evaluate(&output, &golden("variants/gemma3"), "logits.npy", &["--path", "evaluate"]);
    assert!(told["cosine_min"].as_f64().unwrap() > 0.9999, "{told}");
    succeed(anemll().args(["compile", "--compiler", "coreai"]).arg(&output));
    let mut assets = std::fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path());
    let path = assets.find(|path| path.extension().is_some_and(|end| end == "aimodel")).unwrap();
    let asset = json(anemll().arg("inspect").arg(path).arg("--json"));
    let cache = ports(&asset, "main", "states").swap_remove(0);
    assert_eq!((cache.0, &cache.1["shape"][3]), ("keyCache", &Value::Null));
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
