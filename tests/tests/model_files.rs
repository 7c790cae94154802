//! What the files of a model say before the work begins: what will not work later, what is left out,
//! what is missing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, convert_command, model, run, succeed};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

const SIZES: [&str; 4] = ["--context", "64", "--batch", "8"];
const WEIGHTS: &str = "model.safetensors";

/// A copy of a model.
fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model(name)).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

fn edit(folder: &Path, name: &str, edit: impl FnOnce(&mut Value)) {
    let path = folder.join(name);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

fn check(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = anemll();
    run(command.arg("check").arg(folder).args(SIZES).args(arguments))
}

/// The warnings of `check`, and those of `convert --dry-run` as it tells them.
fn warnings(folder: &Path) -> Vec<String> {
    let output = check(folder, &["--json"]);
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["convertible"], true, "{checked}");
    let list = checked["warnings"].as_array().unwrap().iter();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What a conversion with the tokenizer says on standard error, up to its first step.
fn told(folder: &Path) -> String {
    let mut command = anemll();
    let output = tempfile::tempdir().unwrap();
    command.arg("convert").arg(folder).arg("--output").arg(output.path().join("out"));
    command.args(SIZES).args(["--lut", "none", "--compiler", "none", "--runtime", "none"]);
    let text = String::from_utf8_lossy(&succeed(&mut command).stderr).into_owned();
    text.split("step 1").next().unwrap().to_owned()
}

#[test]
fn what_will_not_work_is_said_before_the_first_step() {
    let folder = copy("tiny-llama");
    assert_eq!(warnings(folder.path()), [""; 0]);
    edit(folder.path(), "tokenizer_config.json", |settings| {
        settings["chat_template"] = json!("{% for message in messages %}{{ message.content }}");
    });
    let words = "chat will not work, except with --no-template: tokenizer_config.json: ";
    let found = warnings(folder.path());
    assert!(found.len() == 1 && found[0].starts_with(words), "{found:?}");
    let text = told(folder.path());
    assert_eq!(text.matches(words).count(), 1, "{text}");
    assert_eq!(check(folder.path(), &["--strict"]).status.code(), Some(1));
    assert_eq!(check(folder.path(), &["--strict", "--no-tokenizer"]).status.code(), Some(0));

    let folder = copy("tiny-llama");
    edit(folder.path(), "tokenizer.json", |tokenizer| tokenizer["model"]["merges"] = json!([7]));
    let words = "chat, generate and eval --text will not work: tokenizer.json: ";
    let found = warnings(folder.path());
    assert!(found.len() == 1 && found[0].starts_with(words), "{found:?}");
    let text = told(folder.path());
    assert_eq!(text.matches(words).count(), 1, "{text}");
}

#[test]
fn templates_for_other_purposes_come_along() {
    let folder = copy("tiny-llama");
    let templates = folder.path().join("additional_chat_templates");
    std::fs::create_dir(&templates).unwrap();
    std::fs::write(templates.join("tool_use.jinja"), "tools").unwrap();
    // What no template is called, and what is none, stay where they are.
    std::fs::write(templates.join("notes.txt"), "notes").unwrap();
    std::fs::create_dir(templates.join("folder.jinja")).unwrap();
    let output = tempfile::tempdir().unwrap();
    let sizes = [&SIZES[..], &["--compiler", "none", "--runtime", "none"]].concat();
    convert(folder.path(), output.path(), &sizes);
    let copied = output.path().join("additional_chat_templates");
    assert_eq!(std::fs::read_to_string(copied.join("tool_use.jinja")).unwrap(), "tools");
    assert_eq!(std::fs::read_dir(&copied).unwrap().count(), 1);
    // A changed one makes its step anew, and one that is gone goes.
    std::fs::write(templates.join("tool_use.jinja"), "other tools").unwrap();
    convert(folder.path(), output.path(), &sizes);
    assert_eq!(std::fs::read_to_string(copied.join("tool_use.jinja")).unwrap(), "other tools");
    std::fs::remove_file(templates.join("tool_use.jinja")).unwrap();
    convert(folder.path(), output.path(), &sizes);
    assert!(!copied.join("tool_use.jinja").exists());
}

#[test]
fn weights_that_cannot_be_read_are_weights() {
    for name in ["pytorch_model.bin", "consolidated.00.pth", "model.pt"] {
        let folder = copy("tiny-llama");
        std::fs::rename(folder.path().join(WEIGHTS), folder.path().join(name)).unwrap();
        let output = check(folder.path(), &[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(&format!("weights are in {name} only")), "{text}");
    }
}

/// Writes the tensors of a model into files as `file` says.
fn split(folder: &Path, more: &[(&str, Vec<u8>)], file: impl Fn(&str) -> &'static str) {
    let bytes = std::fs::read(folder.join(WEIGHTS)).unwrap();
    std::fs::remove_file(folder.join(WEIGHTS)).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = read.tensors();
    let more = more.iter().map(|(name, data)| {
        let view = TensorView::new(Dtype::BF16, vec![data.len() / 2], data).unwrap();
        ((*name).to_owned(), view)
    });
    tensors.extend(more);
    let mut map = serde_json::Map::new();
    let mut files: Vec<&str> = tensors.iter().map(|(name, _)| file(name)).collect();
    files.sort_unstable();
    files.dedup();
    for wanted in files {
        let inside = tensors.iter().filter(|(name, _)| file(name) == wanted);
        let inside: Vec<_> = inside.map(|(name, view)| (name.as_str(), view)).collect();
        map.extend(inside.iter().map(|(name, _)| ((*name).to_owned(), json!(wanted))));
        std::fs::write(folder.join(wanted), safetensors::serialize(inside, None).unwrap()).unwrap();
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn a_tied_head_in_a_shard_that_is_missing_may_be_another_one() {
    let folder = copy("tiny-llama");
    edit(folder.path(), "config.json", |config| config["tie_word_embeddings"] = json!(true));
    let shard = |name: &str| match name {
        "lm_head.weight" => "model-00002-of-00002.safetensors",
        _ => "model-00001-of-00002.safetensors",
    };
    split(folder.path(), &[("lm_head.weight", vec![0; 8])], shard);
    std::fs::remove_file(folder.path().join(shard("lm_head.weight"))).unwrap();
    let refused = |output: &Output| {
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("1 of 2 shards are missing"), "{text}");
        text
    };
    refused(&check(folder.path(), &[]));
    let output = tempfile::tempdir().unwrap();
    let sizes = [&SIZES[..], &["--compiler", "none", "--runtime", "none"]].concat();
    let text = refused(&run(&mut convert_command(folder.path(), output.path(), &sizes)));
    assert!(text.contains("--head tied") && text.contains("cannot be compared"), "{text}");
    convert(folder.path(), output.path(), &[&sizes[..], &["--head", "tied"]].concat());
}

#[test]
fn tensors_that_would_act_are_warned_of() {
    let folder = copy("tiny-llama");
    let names = ["model.layers.0.self_attn.q_proj.bias", "model.layers.7.mlp.up_proj.weight"];
    let idle = ["model.layers.0.self_attn.rotary_emb.inv_freq", "visual.x"];
    let more: Vec<_> = names.iter().chain(&idle).map(|name| (*name, vec![0; 8])).collect();
    split(folder.path(), &more, |_| "model-00001-of-00001.safetensors");
    let found = warnings(folder.path());
    assert_eq!(found.len(), 2, "{found:?}");
    for name in names {
        assert!(found.iter().any(|text| text.contains(&format!("`{name}`"))), "{found:?}");
    }
    let text = told(folder.path());
    assert_eq!(text.matches("warning: the weights hold").count(), 2, "{text}");
    assert!(text.contains("note: tensors that the model does not use: `visual.x`"), "{text}");
}
