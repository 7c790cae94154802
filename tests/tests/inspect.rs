//! `inspect`: its JSON form, what it says of every stored form, and hostile files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_mil::literal::value_from_bytes;
use anemll_mil::{DataType, TensorType, ValueType};
use anemll_tests::{anemll, copy_of_converted, model, run, succeed, workspace};
use coreml_proto::{Metadata, Model, ModelDescription, mil};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn inspect(path: &Path, arguments: &[&str]) -> String {
    let output = succeed(anemll().arg("inspect").arg(path).args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

fn json(path: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&inspect(path, &[arguments, &["--json"]].concat())).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A palettized package of the tiny model, with two functions.
fn palettized() -> (tempfile::TempDir, PathBuf) {
    let output = tempfile::tempdir().unwrap();
    let arguments = ["--combiner", "monolithic", "--lut", "4"];
    copy_of_converted(&model("tiny-llama"), output.path(), &arguments);
    let packages = std::fs::read_dir(output.path()).unwrap().map(|entry| entry.unwrap().path());
    let combined = packages
        .filter(|path| path.extension().is_some_and(|extension| extension == "mlpackage"))
        .find(|path| json(path, &[])["functions"].as_array().unwrap().len() == 2);
    (output, combined.unwrap())
}

#[test]
fn the_json_form_is_the_documented_one() {
    let (_folder, package) = palettized();
    let found = json(&package, &["--weights"]);
    assert_eq!(
        keys(&found),
        [
            "schema",
            "path",
            "form",
            "specification_version",
            "minimum_system",
            "default_function",
            "short_description",
            "author",
            "license",
            "version",
            "metadata",
            "files",
            "model_bytes",
            "weight_file_bytes",
            "unused_bytes",
            "elements",
            "bits",
            "unshared_bytes",
            "functions",
            "layers",
            "weights",
            "records",
            "findings",
        ]
    );
    let weight = &found["weights"][0];
    let layer = &found["layers"][0];
    let record = &found["records"][0];
    let finding = &found["findings"][0];
    let function = &found["functions"][0];
    let all: Vec<&str> = [
        &found,
        weight,
        layer,
        record,
        finding,
        function,
        &weight["parts"][0],
        &weight["tables"],
        &weight["statistics"],
        &function["inputs"][0],
        &found["files"][0],
    ]
    .into_iter()
    .flat_map(|value| keys(value))
    .collect();
    let page = std::fs::read_to_string(workspace().join("docs/reference/inspect.md")).unwrap();
    for key in all {
        assert!(page.contains(&format!("`{key}`")), "docs/reference/inspect.md lacks `{key}`");
    }
    assert_eq!((found["schema"].as_u64(), &found["form"]), (Some(1), &"package".into()));
    assert!(json(&package, &[])["weights"][0].get("statistics").is_none(), "only where asked for");
}

#[test]
fn weights_tell_bits_sharing_and_the_use_of_tables() {
    let (_folder, package) = palettized();
    let found = json(&package, &["--weights"]);
    let weights = found["weights"].as_array().unwrap();
    let up = weights
        .iter()
        .find(|weight| weight["name"].as_str().unwrap().contains("layers_0_mlp_up_proj"))
        .unwrap();
    assert_eq!(
        (&up["form"], &up["role"], &up["layer"]),
        (&"4-bit palettized".into(), &"mlp".into(), &"0".into())
    );
    assert_eq!(up["functions"], serde_json::json!(["infer", "prefill"]));
    let sizes: Vec<u64> =
        up["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).collect();
    let elements: u64 = sizes.iter().product();
    assert_eq!(up["elements"], elements);
    // Half a byte for each value, and a table of 16 fp16 for each group of 8 channels.
    let bytes = elements / 2 + sizes[0] / 8 * 16 * 2;
    assert_eq!(up["bytes"], bytes);
    assert_eq!(up["bits"].as_f64().unwrap(), bytes as f64 * 8.0 / elements as f64);
    assert_eq!(
        (&up["tables"]["tables"], &up["tables"]["entries"]),
        (&(sizes[0] / 8).into(), &16.into())
    );
    let statistics = &up["statistics"];
    assert_eq!(statistics["finite"], elements);
    let histogram = statistics["histogram"].as_array().unwrap();
    assert_eq!(histogram.len(), 64);
    assert_eq!(histogram.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), elements);
    // Of one function only.
    let infer = json(&package, &["--function", "infer"]);
    assert_eq!(infer["functions"].as_array().unwrap().len(), 1);
    let prefill = json(&package, &["--function", "prefill"]);
    assert!(prefill["weights"].as_array().unwrap().len() < weights.len(), "the head is infer's");
    // Layers sum up to the weights.
    let sum = |list: &str| -> u64 {
        found[list].as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).sum()
    };
    assert_eq!(sum("layers"), sum("weights"));
}

#[test]
fn the_lint_is_no_failure() {
    let (_folder, package) = palettized();
    let text = inspect(&package, &["--lint"]);
    assert!(text.contains("ANE-017 warning"), "{text}");
    assert!(!json(&package, &["--lint"])["findings"].as_array().unwrap().is_empty());
}

fn value(data_type: DataType, shape: &[u64], bytes: &[u8]) -> mil::Value {
    value_from_bytes(&TensorType::new(data_type, shape), bytes.to_vec()).unwrap()
}

/// A model file with one constant of the given name and value.
fn model_file(folder: &Path, name: &str, constant: mil::Value) -> PathBuf {
    let kind = constant.r#type.clone();
    let make = |operation: &str, output: &str| mil::Operation {
        r#type: operation.to_owned(),
        outputs: vec![mil::NamedValueType { name: output.to_owned(), r#type: kind.clone() }],
        ..Default::default()
    };
    let mut holder = make("const", name);
    holder.attributes.insert("val".to_owned(), constant);
    let block = mil::Block {
        operations: vec![holder, make(name, "result")],
        outputs: vec!["result".to_owned()],
        ..Default::default()
    };
    let function = mil::Function {
        opset: "CoreML8".to_owned(),
        block_specializations: [("CoreML8".to_owned(), block)].into(),
        inputs: vec![mil::NamedValueType {
            name: name.to_owned(),
            r#type: Some(ValueType::Tensor(TensorType::new(DataType::Float16, &[1])).to_proto()),
        }],
        ..Default::default()
    };
    let program = mil::Program {
        version: 1,
        functions: [(name.to_owned(), function)].into(),
        ..Default::default()
    };
    let metadata = Metadata {
        short_description: name.to_owned(),
        user_defined: [(name.to_owned(), name.to_owned())].into(),
        ..Default::default()
    };
    let model = Model {
        specification_version: 9,
        description: Some(ModelDescription { metadata: Some(metadata), ..Default::default() }),
        r#type: Some(coreml_proto::model::Type::MlProgram(program)),
        ..Default::default()
    };
    let path = folder.join("model.mlmodel");
    std::fs::write(&path, coreml_proto::write(&model)).unwrap();
    path
}

#[test]
fn names_of_others_stay_names() {
    let folder = tempfile::tempdir().unwrap();
    let name = "\u{1b}[2J</script><script>alert(1)</script>\u{202e}<img src=x onerror=alert(1)>";
    let bytes: Vec<u8> = (0..200).collect();
    let path = model_file(folder.path(), name, value(DataType::Float16, &[100], &bytes));
    for arguments in [&["--weights"][..], &["--lint"], &[]] {
        let text = inspect(&path, arguments);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
    }
    let refused = run(anemll().arg("inspect").arg(&path).args(["--function", "x\u{1b}[2J"]));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("error[A0702]") && !error.contains('\u{1b}'), "{error:?}");
    let page = folder.path().join("page.html");
    inspect(&path, &["--html", page.to_str().unwrap()]);
    let page = std::fs::read_to_string(&page).unwrap();
    // Its own block of data, and its own script.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("<img") && !page.contains('\u{1b}') && !page.contains('\u{202e}'));
    assert!(page.contains("&lt;script&gt;alert(1)"), "the name is shown as it is");
    assert!(page.contains("default-src 'none'"), "the page forbids itself the network");
}

#[test]
fn what_is_no_number_is_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    // 63 halves of 1.0, one NaN, one infinity.
    let mut bytes = [0x00, 0x3c].repeat(63);
    bytes.extend([0x00, 0x7e, 0x00, 0x7c]);
    let path = model_file(folder.path(), "w", value(DataType::Float16, &[65], &bytes));
    let found = json(&path, &["--weights"]);
    let statistics = &found["weights"][0]["statistics"];
    assert_eq!((&statistics["not_a_number"], &statistics["infinite"]), (&1.into(), &1.into()));
    assert_eq!((&statistics["smallest"], &statistics["largest"]), (&1.0.into(), &1.0.into()));
    let text = inspect(&path, &["--weights"]);
    assert!(text.contains("1 NaN and 1 infinite values"), "{text}");
    let page = folder.path().join("page.html");
    inspect(&path, &["--html", page.to_str().unwrap()]);
    // None at all.
    let path = model_file(folder.path(), "w", value(DataType::Float16, &[64], &[0xff; 128]));
    let found = json(&path, &["--weights"]);
    assert_eq!(found["weights"][0]["statistics"]["finite"], 0);
    assert!(inspect(&path, &["--weights"]).contains("none"));
    // An empty one is no weight, and no trouble.
    let path = model_file(folder.path(), "w", value(DataType::Float16, &[0], &[]));
    assert_eq!(json(&path, &["--weights"])["weights"], serde_json::json!([]));
}

fn refused(path: &Path, arguments: &[&str], code: &str) -> String {
    let output = run(anemll().arg("inspect").arg(path).args(arguments));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("error[{code}]")), "expected {code}: {text}");
    assert!(output.stdout.is_empty());
    text
}

#[test]
fn bad_files_are_refused_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let text = refused(folder.path(), &[], "A0501");
    assert!(text.contains(".mlmodelc"), "it says what can be given: {text}");
    refused(&folder.path().join("none"), &[], "A0501");
    let path = model_file(folder.path(), "w", value(DataType::Float16, &[64], &[0; 128]));
    let text = refused(&path, &["--function", "prefill"], "A0702");
    assert!(text.contains("its functions are w"), "{text}");
    let target = folder.path().to_str().unwrap();
    refused(&path, &["--html", target], "A0804");
    refused(&path, &["--html", "/no/such/folder/page.html"], "A0804");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    refused(&path, &[], "A0502");
    // Model.neuralNetwork (500), empty.
    std::fs::write(&path, [0xa2, 0x1f, 0x00]).unwrap();
    let text = refused(&path, &[], "A0502");
    assert!(text.contains("neural network"), "{text}");
    std::fs::create_dir(folder.path().join("x.mlmodelc")).unwrap();
    std::fs::write(folder.path().join("x.mlmodelc/coremldata.bin"), b"short").unwrap();
    refused(&folder.path().join("x.mlmodelc"), &[], "A0604");
}

/// A damaged record is told, and the rest is shown.
#[test]
fn damaged_records_do_not_hide_the_rest() {
    let (_folder, package) = palettized();
    let file = package.join("Data/com.apple.CoreML/weights/weight.bin");
    let offset = json(&package, &[])["records"][0]["offset"].as_u64().unwrap() as usize;
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[offset] ^= 0xff;
    // Other packages have hard links to it.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
    let found = json(&package, &["--weights"]);
    let problems: Vec<&str> = found["weights"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|weight| weight["problem"].as_str())
        .collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("sentinel"), "{problems:?}");
    assert!(inspect(&package, &[]).contains("sentinel"));
}

/// What Apple's compiler made is printed as it stands there.
#[test]
fn the_text_of_compiled_models_is_printed_as_it_was() {
    let pairs = workspace().join("../shared/mlmodelc-pairs");
    let Ok(folders) = std::fs::read_dir(&pairs) else {
        println!("skipped: {} is not there", pairs.display());
        return;
    };
    let mut seen = 0;
    for folder in folders {
        let compiled = folder.unwrap().path().join("expected.mlmodelc");
        if !compiled.is_dir() {
            continue;
        }
        let mut expected = std::fs::read_to_string(compiled.join("model.mil")).unwrap();
        expected.push('\n');
        // Ids of enumerated shapes are Apple's own.
        if !expected.contains("EnumeratedShapes") {
            assert!(inspect(&compiled, &["--mil"]) == expected, "{}", compiled.display());
            seen += 1;
        }
        let found = json(&compiled, &[]);
        assert_eq!(found["form"], "compiled");
        assert!(found["guesses"].is_array() && found["build_info"].is_object());
    }
    assert!(seen > 5, "only {seen} compiled models");
}
