//! Model directories as people have them: what is not quite as transformers would write it, through
//! `check` and `convert`. The golden logits are those of transformers for the same model in its
//! usual form.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_codes as codes;
use anemll_host::cli::{Cli, Command};
use anemll_host::progress::Event;
use anemll_pipeline::plugins::Plugins;
use anemll_tests::{PLUGINS, anemll, convert_command, evaluate, model, run, succeed};
use clap::Parser as _;
use safetensors::tensor::SafeTensors;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

const SIZES: [&str; 6] = ["--context", "256", "--batch", "32", "--chunk", "1"];
const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 11422654\n";
const WEIGHTS: &str = "model.safetensors";

/// A copy of a model, without its golden files.
fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model(name)).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

fn edit_config(folder: &TempDir, edit: impl FnOnce(&mut Value)) {
    let path = folder.path().join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}

/// A safetensors file as a header and the data behind it.
struct Weights {
    header: BTreeMap<String, Value>,
    data: Vec<u8>,
}

impl Weights {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let mut header: BTreeMap<String, Value> =
            serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        header.remove("__metadata__");
        Self { header, data: bytes[8 + length..].to_vec() }
    }

    fn write(&self, path: &Path) {
        let header = serde_json::to_vec(&self.header).unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &self.data].concat();
        SafeTensors::deserialize(&bytes).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn rename(&mut self, name: impl Fn(&str) -> String) {
        let header = std::mem::take(&mut self.header);
        self.header = header.into_iter().map(|(old, entry)| (name(&old), entry)).collect();
    }

    fn bytes(&self, name: &str) -> &[u8] {
        let offsets = &self.header[name]["data_offsets"];
        let offset = |index: usize| offsets[index].as_u64().unwrap() as usize;
        &self.data[offset(0)..offset(1)]
    }

    /// Adds a tensor with the type and shape of `like`.
    fn add(&mut self, name: &str, like: &str, bytes: &[u8]) {
        let mut entry = self.header[like].clone();
        entry["data_offsets"] = json!([self.data.len(), self.data.len() + bytes.len()]);
        self.header.insert(name.to_owned(), entry);
        self.data.extend_from_slice(bytes);
    }
}

fn edit_weights(folder: &TempDir, edit: impl FnOnce(&mut Weights)) {
    let path = folder.path().join(WEIGHTS);
    let mut weights = Weights::read(&path);
    edit(&mut weights);
    weights.write(&path);
}

/// Converts, and compares with the golden logits of the model `name`.
fn converts_as(name: &str, folder: &TempDir, arguments: &[&str]) -> String {
    let output = tempfile::tempdir().unwrap();
    let sizes = [&SIZES[..], arguments].concat();
    let told = succeed(&mut convert_command(folder.path(), output.path(), &sizes));
    let golden = model(name).join("golden");
    let result = evaluate(output.path(), &golden, "logits.npy", &["--path", "evaluate"]);
    let cosine = result["cosine_min"].as_f64().unwrap();
    assert!(cosine > 0.9999, "{name}: smallest cosine {cosine}");
    String::from_utf8(told.stderr).unwrap()
}

/// The standard error of `check` and of `convert`, which both refuse.
fn refused(folder: &TempDir, code: &str, arguments: &[&str]) -> String {
    let output = tempfile::tempdir().unwrap();
    let output = output.path().join("out");
    let mut conversion = convert_command(folder.path(), &output, arguments);
    let told = [check(folder, arguments), run(&mut conversion)].map(|output| {
        let text = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("error[{code}]")), "{text}");
        text
    });
    assert!(!output.exists(), "a refused conversion leaves nothing behind");
    told.concat()
}

fn check(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = anemll();
    run(command.arg("check").arg("--model").arg(folder.path()).args(arguments))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `check` prints of a model that it takes.
fn checked(folder: &TempDir, arguments: &[&str]) -> String {
    let output = check(folder, arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_stored_head_that_differs_from_the_tied_one_must_be_chosen() {
    // The golden logits of an untied model are those of its stored head.
    let untied = copy("variants/large-eps");
    edit_config(&untied, |config| config["tie_word_embeddings"] = json!(true));
    let told = refused(&untied, "A0312", &[]);
    for words in ["transformers 4", "transformers 5", "--head tied", "--head stored"] {
        assert_eq!(told.matches(words).count(), 2, "{words}:\n{told}");
    }
    converts_as("variants/large-eps", &untied, &["--head", "stored"]);
    assert!(checked(&untied, &["--head", "stored"]).contains("a weight of its own"));

    // Those of a tied model are those of its embedding, whatever else is stored.
    let tied = copy("variants/tied");
    let embedding = "model.embed_tokens.weight";
    edit_weights(&tied, |weights| {
        let same = weights.bytes(embedding).to_vec();
        weights.add("lm_head.weight", embedding, &same);
    });
    let told = converts_as("variants/tied", &tied, &[]);
    assert!(told.contains("`lm_head.weight` is stored and equal to the embedding"), "{told}");
    assert!(checked(&tied, &[]).contains("equal to the embedding"));
    edit_weights(&tied, |weights| {
        // One value of the last row.
        let last = weights.data.len() - 1;
        weights.data[last] ^= 0x80;
    });
    refused(&tied, "A0312", &[]);
    converts_as("variants/tied", &tied, &["--head", "tied"]);

    // The choice is a part of the conversion.
    let output = tempfile::tempdir().unwrap();
    let sizes = [&SIZES[..], &["--head", "tied"]].concat();
    succeed(&mut convert_command(tied.path(), output.path(), &sizes));
    let mut other = convert_command(tied.path(), output.path(), &SIZES);
    let other = text(&run(other.args(["--head", "stored"])).stderr);
    assert!(other.contains("head"), "{other}");
}

#[test]
fn names_behind_a_prefix_are_found_or_told_of() {
    let folder = copy("variants/untied-head-odd-vocab");
    edit_weights(&folder, |weights| weights.rename(|name| format!("language_model.{name}")));
    let told = converts_as("variants/untied-head-odd-vocab", &folder, &[]);
    assert!(told.contains("names of tensors begin with `language_model.model.`"), "{told}");
    edit_weights(&folder, |weights| {
        weights.rename(|name| match name.strip_prefix("language_model.") {
            Some("lm_head.weight") | None => "lm_head.weight".to_owned(),
            Some(rest) => rest.replacen("model.", "model.language_model.", 1),
        });
    });
    converts_as("variants/untied-head-odd-vocab", &folder, &[]);
    edit_weights(&folder, |weights| weights.rename(|name| format!("student.{name}")));
    let told = refused(&folder, "A0304", &[]);
    assert!(told.contains("`student.model.language_model.`"), "{told}");
}

#[test]
fn an_index_may_choose_and_name_what_nobody_needs() {
    let folder = copy("variants/sharded");
    let index_path = folder.path().join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&index_path).unwrap()).unwrap();
    let map = index["weight_map"].as_object_mut().unwrap();
    // Another copy of a weight that counts, with other values, in a file that comes first.
    let name = "model.layers.0.mlp.up_proj.weight";
    let holder = Weights::read(&folder.path().join(map[name].as_str().unwrap()));
    let mut other = Weights { header: BTreeMap::new(), data: Vec::new() };
    other.header.insert("like".to_owned(), holder.header[name].clone());
    let wrong = vec![0; holder.bytes(name).len()];
    other.add(name, "like", &wrong);
    other.header.remove("like");
    other.write(&folder.path().join("a.safetensors"));
    for file in map.values_mut() {
        *file = json!(format!("./{}", file.as_str().unwrap()));
    }
    map.insert("model.vision.patch.weight".to_owned(), json!("model-gone.safetensors"));
    map.insert("model.vision.norm.weight".to_owned(), json!("./a.safetensors"));
    std::fs::write(&index_path, index.to_string()).unwrap();
    let told = converts_as("variants/sharded", &folder, &[]);
    assert!(told.contains("names what no file holds: `model.vision.norm.weight`"), "{told}");
    assert!(told.contains(&format!("the index says which counts: `{name}`")), "{told}");

    // What is needed, is missed.
    let last = "model-00003-of-00003.safetensors";
    std::fs::remove_file(folder.path().join(last)).unwrap();
    let told = refused(&folder, "A0301", &[]);
    assert!(told.contains("2 of 5 shards are missing") && told.contains(last), "{told}");
}

#[test]
fn json_as_python_writes_it() {
    let folder = copy("tiny-llama");
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    let odd = config.replacen('{', "{\"time_step_limit\": [0.0, Infinity], ", 1);
    std::fs::write(folder.path().join("config.json"), format!("\u{feff}{odd}")).unwrap();
    std::fs::write(
        folder.path().join("generation_config.json"),
        "{\"temperature\": NaN, \"top_p\": 0.9, \"do_sample\": true}",
    )
    .unwrap();
    let said = checked(&folder, &[]);
    for words in [
        "`time_step_limit` is Infinity, which JSON does not have",
        "byte order mark",
        "warning: generation_config.json: `temperature` is NaN",
    ] {
        assert!(said.contains(words), "{words}:\n{said}");
    }
    let output = tempfile::tempdir().unwrap();
    let mut command = anemll();
    command.arg("convert").arg("--model").arg(folder.path()).arg("--output").arg(output.path());
    succeed(command.args(["--lut", "none", "--runtime", "none"]));
    // Readers that know no Python find plain JSON.
    for name in ["config.json", "generation_config.json"] {
        let text = std::fs::read(output.path().join(name)).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap();
    }
    let meta = std::fs::read_to_string(output.path().join("meta.yaml")).unwrap();
    assert!(meta.contains("temperature: 1.0") && meta.contains("top_p: 0.9"), "{meta}");

    // Where such a number would count, it is named.
    std::fs::write(
        folder.path().join("config.json"),
        config.replace("\"rope_theta\": 10000.0", "\"rope_theta\": Infinity"),
    )
    .unwrap();
    let told = refused(&folder, "A0204", &[]);
    assert!(told.contains("`rope_theta` is Infinity, not a number"), "{told}");
}

#[test]
fn files_beside_the_weights_are_read_and_checked() {
    let folder = copy("tiny-llama");
    let path = |name: &str| folder.path().join(name);
    let whole = std::fs::read(path("tokenizer.json")).unwrap();
    let convert = |output: &Path, arguments: &[&str]| {
        let mut command = anemll();
        command.arg("convert").arg("--model").arg(folder.path()).arg("--output").arg(output);
        run(command.args(["--lut", "none", "--runtime", "none"]).args(arguments))
    };
    let half = &whole[..whole.len() / 2];
    for (bytes, words) in [
        (LFS.as_bytes(), "Git LFS pointer"),
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "web page"),
        (half, "not valid JSON"),
        (b"{\"a\": \"\0\"}", "not UTF-8 text"),
        (b"{}", "no model with a vocabulary"),
    ] {
        std::fs::write(path("tokenizer.json"), bytes).unwrap();
        let output = tempfile::tempdir().unwrap();
        for told in [check(&folder, &[]), convert(&output.path().join("out"), &[])] {
            let told = (told.status.code(), text(&told.stderr));
            assert_eq!(told.0, Some(1), "{}", told.1);
            assert!(told.1.contains("error[A0902]") && told.1.contains(words), "{}", told.1);
            assert!(told.1.contains("--no-tokenizer"), "{}", told.1);
        }
        assert!(!output.path().join("out").exists());
        checked(&folder, &["--no-tokenizer"]);
    }
    // Without a tokenizer, what is broken stays out of the conversion.
    let output = tempfile::tempdir().unwrap();
    let told = convert(output.path(), &["--no-tokenizer"]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(!output.path().join("tokenizer.json").exists());
    assert!(output.path().join("tokenizer_config.json").exists());

    // Where chat alone suffers, there is a warning; a pointer never becomes the template.
    std::fs::write(path("tokenizer.json"), &whole).unwrap();
    std::fs::write(path("chat_template.jinja"), LFS).unwrap();
    std::fs::write(path("generation_config.json"), "{\"temperature\": ").unwrap();
    let said = checked(&folder, &[]);
    assert!(said.contains("warning: chat_template.jinja is left out: this is a Git LFS pointer"));
    assert!(said.contains("warning: generation_config.json is left out: not valid JSON"), "{said}");
    let strict = check(&folder, &["--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(text(&strict.stderr).contains("error[A0221]: 2 warnings"), "{}", text(&strict.stderr));
    let output = tempfile::tempdir().unwrap();
    let told = convert(output.path(), &[]);
    assert!(told.status.success() && text(&told.stderr).contains("git lfs pull"));
    for name in ["chat_template.jinja", "generation_config.json"] {
        assert!(!output.path().join(name).exists(), "{name}");
    }
}

#[test]
fn weights_that_are_pointers_or_adapters_are_named() {
    let folder = copy("tiny-llama");
    std::fs::write(folder.path().join(WEIGHTS), LFS).unwrap();
    assert!(refused(&folder, "A0302", &[]).contains("git lfs pull"));
    std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, LFS).unwrap();
    assert!(refused(&folder, "A0303", &[]).contains("git lfs pull"));
    std::fs::remove_file(index).unwrap();
    std::fs::write(folder.path().join("config.json"), LFS).unwrap();
    assert!(refused(&folder, "A0202", &[]).contains("git lfs pull"));

    let adapter = tempfile::tempdir().unwrap();
    std::fs::write(
        adapter.path().join("adapter_config.json"),
        "{\"peft_type\": \"LORA\", \"base_model_name_or_path\": \"org/base\", \"x\": NaN}",
    )
    .unwrap();
    std::fs::copy(
        model("tiny-llama").join(WEIGHTS),
        adapter.path().join("adapter_model.safetensors"),
    )
    .unwrap();
    for _ in 0..2 {
        let told = refused(&adapter, "A0220", &[]);
        assert_eq!(told.matches("a LoRA adapter of org/base, not a model").count(), 2, "{told}");
        assert!(told.contains("merge_and_unload"), "{told}");
        std::fs::copy(model("tiny-llama").join("config.json"), adapter.path().join("config.json"))
            .unwrap();
    }
    std::fs::copy(model("tiny-llama").join(WEIGHTS), adapter.path().join(WEIGHTS)).unwrap();
    let said = checked(&adapter, &[]);
    assert!(said.contains("note: beside the model is a LoRA adapter of org/base"), "{said}");
    assert!(said.contains("warning: tokenizer.json is missing"), "{said}");
}

#[test]
fn quantization_that_is_left_over_or_real() {
    let folder = copy("variants/tied");
    edit_config(&folder, |config| {
        config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4});
    });
    let told = converts_as("variants/tied", &folder, &[]);
    assert!(told.contains("`quantization_config` (gptq, 4 bits) is left over"), "{told}");
    let mut plan = anemll();
    succeed(plan.arg("plan").arg("--model").arg(folder.path()));
    edit_weights(&folder, |weights| {
        let name = "model.layers.1.mlp.down_proj";
        let entry = weights.header.remove(&format!("{name}.weight")).unwrap();
        let (shape, offsets) = (entry["shape"].clone(), entry["data_offsets"].clone());
        let bytes =
            json!({"dtype": "U8", "shape": [shape[0], shape[1], 2], "data_offsets": offsets});
        weights.header.insert(format!("{name}.qweight"), bytes);
    });
    let told = refused(&folder, "A0311", &[]);
    assert!(
        told.contains("quantized (gptq, 4 bits): there is `model.layers.1.mlp.down_proj.qweight`")
    );
    // Without the weights, the configuration is believed.
    std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    let told = check(&folder, &[]);
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stderr).contains("says that the weights are quantized (gptq, 4 bits)"));
}

#[test]
fn a_window_that_no_layer_can_have_says_which_context_suits() {
    let folder = copy("variants/mistral-window");
    let said = checked(&folder, &["--context", "257"]);
    assert!(!said.contains("sliding_window"), "{said}");
    let said = checked(&folder, &["--context", "256"]);
    assert!(said.contains("note: config.json: `sliding_window` = 256 does not act"), "{said}");
    // Of other architectures, nothing is said.
    assert!(!said.contains("qwen"), "{said}");
    edit_config(&folder, |config| config["sliding_window"] = json!(0));
    let told = refused(&folder, "A0204", &[]);
    assert!(told.contains("`sliding_window` is 0"), "{told}");
    // What transformers has no windows for.
    edit_config(&folder, |config| {
        config["sliding_window"] = json!(256);
        config["model_type"] = json!("llama");
    });
    let told = refused(&folder, "A0205", &["--context", "257"]);
    assert!(told.contains("`sliding_window` = 256") && told.contains("--context 256"), "{told}");
}

#[test]
fn of_a_model_that_sees_images_the_language_model_is_converted() {
    let folder = copy("variants/gemma3");
    edit_config(&folder, |config| {
        let text = config.take();
        *config = json!({
            "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
            "text_config": text, "vision_config": {"hidden_size": 8}, "boi_token_index": 3,
        });
    });
    edit_weights(&folder, |weights| {
        weights.rename(|name| format!("language_model.{name}"));
        let name = "language_model.model.norm.weight";
        let bytes = weights.bytes(name).to_vec();
        weights.add("vision_tower.post_layernorm.weight", name, &bytes);
    });
    let told = converts_as("variants/gemma3", &folder, &[]);
    assert!(told.contains("only the language model, `text_config`, is converted"), "{told}");
    assert!(told.contains("does not use: `vision_tower.post_layernorm.weight`"), "{told}");
}

/// A model within one that sees images, whose tensors stand behind `prefix`, with others beside them.
fn among_others(name: &str, outer: [&str; 2], prefix: &str, others: &[&str]) -> (TempDir, String) {
    let folder = copy(name);
    edit_config(&folder, |config| {
        let text = config.take();
        let tied = text["tie_word_embeddings"].clone();
        *config = json!({
            "architectures": [outer[0]], "model_type": outer[1], "tie_word_embeddings": tied,
            "text_config": text, "vision_config": {"hidden_size": 8}, "image_token_id": 3,
        });
    });
    edit_weights(&folder, |weights| {
        weights.rename(|name| name.replacen("model.", prefix, 1));
        let norm = format!("{prefix}norm.weight");
        let bytes = weights.bytes(&norm).to_vec();
        for other in others {
            weights.add(other, &norm, &bytes);
        }
    });
    let told = converts_as(name, &folder, &[]);
    assert!(told.contains("only the language model, `text_config`, is converted"), "{told}");
    (folder, told)
}

#[test]
fn what_predicts_further_tokens_or_sees_is_left_out() {
    let others = ["model.visual.merger.norm.weight", "mtp.norm.weight", "mtp.fc.weight"];
    let outer = ["Qwen3_5ForConditionalGeneration", "qwen3_5"];
    let (_, told) = among_others("variants/qwen3_5", outer, "model.language_model.", &others);
    let note = told.lines().find(|line| line.contains("does not use")).unwrap();
    assert!(others.iter().all(|other| note.contains(other)), "{told}");
    assert!(!told.contains("warning: the weights hold"), "{told}");
}

#[test]
fn language_models_of_mistral_3_are_of_two_kinds() {
    let outer = ["Mistral3ForConditionalGeneration", "mistral3"];
    let others = ["vision_tower.ln_pre.weight"];
    among_others("variants/ministral3", outer, "language_model.model.", &others);
    // num_key_value_heads is absent, which is 8 for both.
    let name = "variants/mistral";
    let (folder, _) = among_others(name, outer, "language_model.model.", &others);
    for key in ["rms_norm_eps", "head_dim"] {
        let config = std::fs::read(folder.path().join("config.json")).unwrap();
        edit_config(&folder, |config| {
            config["text_config"].as_object_mut().unwrap().remove(key);
        });
        let told = refused(&folder, "A0203", &[]);
        assert!(told.contains(&format!("text_config.{key}")), "{told}");
        std::fs::write(folder.path().join("config.json"), config).unwrap();
    }
    edit_config(&folder, |config| config["text_config"]["model_type"] = json!("mixtral"));
    let told = refused(&folder, "A0205", &[]);
    assert!(told.contains("\"mixtral\"") && told.contains("\"mistral\""), "{told}");
}

#[test]
fn absurd_sizes_are_refused_at_once() {
    for (key, value) in [
        ("head_dim", json!(2_147_483_646)),
        ("num_hidden_layers", json!(2_147_483_647)),
        ("vocab_size", json!(9_223_372_036_854_775_807_u64)),
        ("hidden_size", json!(2_147_483_647)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(model("tiny-llama").join("config.json"), folder.path().join("config.json"))
            .unwrap();
        edit_config(&folder, |config| config[key] = value);
        for command in ["check", "plan"] {
            let output = run(anemll().arg(command).arg("--model").arg(folder.path()));
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{key}: {told}");
            assert!(told.contains("error[A0204]") && told.contains(key), "{key}: {told}");
        }
    }
}

#[test]
fn check_names_every_key_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(model("tiny-llama").join("config.json"), folder.path().join("config.json"))
        .unwrap();
    edit_config(&folder, |config| {
        config["num_experts"] = json!(8);
        config["hidden_act"] = json!("relu");
        config["vocab_size"] = json!(0);
    });
    let output = check(&folder, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("frontend llama: refuses: `num_experts` = 8"), "{said}");
    assert!(said.contains("  and: `vocab_size` is 0") && said.contains("  and: `hidden_act`"));
    let told = text(&output.stderr);
    assert!(told.contains("refused too: `vocab_size`, `hidden_act`"), "{told}");
    let output = check(&folder, &["--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let frontends = said["frontends"].as_array().unwrap();
    let llama = frontends.iter().find(|frontend| frontend["id"] == "llama").unwrap();
    let places: Vec<&Value> =
        llama["refusals"].as_array().unwrap().iter().map(|refusal| &refusal["at"]).collect();
    let keys = ["num_experts", "vocab_size", "hidden_act"];
    assert_eq!(places, keys.map(|key| json!(format!("config.json: {key}"))).each_ref());
}

/// Another process cuts the weight file short, or writes to it, while `convert` reads it: in this
/// process, so that a fault would end the test.
#[test]
fn weights_that_change_while_they_are_read_are_one_error() {
    let plugins = Plugins::discover(
        &PLUGINS.iter().map(|name| anemll_tests::library(name)).collect::<Vec<_>>(),
    )
    .unwrap();
    let conversion = |when: &dyn Fn(&Event<'_>) -> bool, change: &dyn Fn(&Path)| {
        let folder = copy("tiny-llama");
        let output = tempfile::tempdir().unwrap();
        let line = ["anemll", "convert", "--lut", "none", "--runtime", "none", "--combiner"];
        let mut line: Vec<OsString> = line.map(OsString::from).to_vec();
        line.extend(["chunked", "--model"].map(OsString::from));
        line.extend([folder.path().into(), "--output".into(), output.path().into()]);
        let parsed = Cli::try_parse_from(line).unwrap();
        let Command::Convert(arguments) = &parsed.command else { panic!("not a conversion") };
        let changed = Cell::new(false);
        let show = |event: &Event<'_>| {
            if !changed.get() && when(event) {
                changed.set(true);
                change(&folder.path().join(WEIGHTS));
            }
        };
        let error = anemll_pipeline::run(&(&**arguments).into(), &plugins, "anemll convert", &show)
            .unwrap_err();
        assert_eq!(error.code, codes::WEIGHTS_CHANGED, "{error}");
        assert!(error.at.as_ref().unwrap().ends_with(WEIGHTS), "{error}");
        assert!(!output.path().join("meta.yaml").exists());
        error.message
    };
    let begins = |event: &Event<'_>| matches!(event, Event::Started { .. });
    let first_step = |event: &Event<'_>| matches!(event, Event::Step { number: 1, .. });
    let cut = |path: &Path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(1000).unwrap();
    };
    // While it is hashed, and after that.
    assert!(conversion(&begins, &cut).contains("cut short"));
    assert!(conversion(&first_step, &cut).contains("cut short"));
    let written = conversion(&first_step, &|path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    });
    assert!(written.contains("written to"), "{written}");
}
