//! LoRA adapters, merged at conversion, against what peft merges.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_huggingface::{ModelDirectory, to_f32};
use anemll_tests::{anemll, json, model, refusal, succeed};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn base() -> PathBuf {
    model("variants/rope-llama3")
}

fn adapter(name: &str) -> PathBuf {
    model("adapters").join(name)
}

/// The view of a model with an adapter, in a folder that goes when it is dropped.
fn view(base: &Path, adapter: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in anemll_huggingface::of_adapted(base, adapter).unwrap() {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn merged_weights_are_those_of_peft() {
    for (name, count) in [("plain", 4), ("patterns", 7)] {
        let folder = view(&base(), &adapter(name));
        let ours = ModelDirectory::open(folder.path()).unwrap();
        let original = ModelDirectory::open(base()).unwrap();
        let golden = std::fs::read(adapter(name).join("merged.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&golden).unwrap();
        assert_eq!(golden.len(), count);
        for tensor in ours.tensors().keys() {
            let values = to_f32(&ours.tensor(tensor).unwrap()).unwrap();
            let Ok(expected) = golden.tensor(tensor) else {
                assert!(
                    ours.tensor(tensor)
                        .unwrap()
                        .has_values_of(&original.tensor(tensor).unwrap())
                        .unwrap()
                );
                continue;
            };
            let expected = expected.data().as_chunks::<4>().0.iter();
            let expected: Vec<f32> = expected.map(|bytes| f32::from_le_bytes(*bytes)).collect();
            assert_eq!(values.len(), expected.len());
            let far = values.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            let far = far.fold(0.0_f32, f32::max);
            assert!(far < 1e-6, "{name}: {tensor} is {far} off");
            let rows = ours.tensor(tensor).unwrap().rows(3, 9).unwrap();
            let columns = rows.shape()[1] as usize;
            assert_eq!(to_f32(&rows).unwrap(), values[3 * columns..9 * columns]);
        }
        let hash = |model: &ModelDirectory| model.source_sha256(|_, _| true).unwrap();
        assert_ne!(hash(&ours), hash(&original));
    }
}

#[test]
fn another_scale_is_another_model() {
    let changed = copy("plain", |config| config["lora_alpha"] = json!(12));
    let hash = |adapter: &Path| {
        let folder = view(&base(), adapter);
        ModelDirectory::open(folder.path()).unwrap().source_sha256(|_, _| true).unwrap()
    };
    assert_eq!(hash(&adapter("plain")), hash(&adapter("plain")));
    assert_ne!(hash(&adapter("plain")), hash(changed.path()));
}

/// A copy of an adapter with another configuration.
fn copy(name: &str, edit: impl FnOnce(&mut Value)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let weights = "adapter_model.safetensors";
    std::fs::copy(adapter(name).join(weights), folder.path().join(weights)).unwrap();
    let file = "adapter_config.json";
    let text = std::fs::read(adapter(name).join(file)).unwrap();
    let mut config = serde_json::from_slice(&text).unwrap();
    edit(&mut config);
    std::fs::write(folder.path().join(file), config.to_string()).unwrap();
    folder
}

#[test]
fn an_adapter_goes_along_with_any_model() {
    let check = |model: &Path| {
        json(anemll().arg("check").arg(model).arg("--adapter").arg(adapter("plain")).arg("--json"))
    };
    for model in [base(), model("gguf/rope-llama3.gguf")] {
        let told = check(&model);
        assert_eq!(told["convertible"], true, "{told}");
        assert_eq!(told["model"], "rope-llama3+plain");
        assert!(told["notes"].to_string().contains("is merged into 4 weights"), "{told}");
    }
    let output = tempfile::tempdir().unwrap();
    let convert = || {
        let mut command = anemll();
        command.args(["convert", "--lut", "none", "--no-tokenizer"]);
        command.args(["--context", "64", "--batch", "16", "-o"]).arg(output.path()).arg(base());
        command
    };
    succeed(convert().arg("--adapter").arg(adapter("patterns")));
    // The same conversion without it is another model's.
    let told = refusal(&mut convert());
    assert!(told.contains("another model"), "{told}");
}

#[test]
fn what_only_says_where_adapters_were_trained_is_read_past_and_what_is_new_is_told() {
    let changed = copy("plain", |config| {
        config["layers_to_transform"] = json!([0]);
        config["of_tomorrow"] = json!(true);
    });
    let mut command = anemll();
    command.arg("check").arg(base()).arg("--adapter").arg(changed.path()).arg("--json");
    let notes = json(&mut command)["notes"].to_string();
    assert!(notes.contains("`of_tomorrow` is not known"), "{notes}");
    assert!(!notes.contains("layers_to_transform"), "{notes}");
}

#[test]
fn what_is_beyond_floats_names_the_adapter() {
    let changed = copy("plain", |config| config["lora_alpha"] = json!(1e300));
    let folder = view(&base(), changed.path());
    let ours = ModelDirectory::open(folder.path()).unwrap();
    let name = "model.layers.0.self_attn.q_proj.weight";
    let error = anemll_plugin_api::Error::from(to_f32(&ours.tensor(name).unwrap()).unwrap_err());
    assert_eq!(error.code, "A0222");
    assert!(error.at.unwrap().ends_with("adapter_model.safetensors"));
}

#[test]
fn what_cannot_be_merged_is_refused_by_name() {
    let told = |base: &Path, adapter: &Path| {
        refusal(anemll().arg("check").arg(base).arg("--adapter").arg(adapter))
    };
    let another = model("variants/granite");
    for (edit, words) in [
        (json!({"modules_to_save": ["lm_head"]}), "modules_to_save"),
        (json!({"use_dora": true}), "use_dora"),
        (json!({"bias": "lora_only"}), "bias"),
        (json!({"peft_type": "LOHA"}), "LOHA"),
        (json!({"peft_type": null}), "which kind"),
        (json!({"alora_invocation_tokens": [1]}), "alora_invocation_tokens"),
        (json!({"init_lora_weights": "pissa_niter_4"}), "pissa_niter_4"),
        (json!({"init_lora_weights": "of tomorrow"}), "of tomorrow"),
        (json!({"r": 5}), "rank 4, but adapter_config.json says 5"),
        (json!({"r": 0}), "is 0, not a whole number"),
        (json!({"rank_pattern": {"q_proj": 3}}), "says 3"),
        (json!({"rank_pattern": {"q_proj": 0}}), "is given 0"),
        (json!({"alpha_pattern": [4]}), "is not an object"),
        (json!({"alpha_pattern": {"(": 4}}), "`(` is not a pattern"),
        (json!({"lora_alpha": "NaN"}), "lora_alpha"),
        (json!({"use_rslora": "yes"}), "use_rslora"),
    ] {
        let changed = copy("plain", |config| {
            for (key, value) in edit.as_object().unwrap() {
                config[key] = value.clone();
            }
        });
        let told = told(&base(), changed.path());
        assert!(told.contains("A0222") && told.contains(words), "{words}: {told}");
    }
    // The embedding of the other has fewer rows.
    let text = told(&another, &adapter("patterns"));
    assert!(text.contains("A0222") && text.contains("model.embed_tokens"), "{text}");
    let text = told(&adapter("plain"), &adapter("plain"));
    assert!(text.contains("A0220") && text.contains("not a model"), "{text}");
    let text = told(&base(), &base());
    assert!(text.contains("A0222") && text.contains("adapter_config.json"), "{text}");
    let cut = copy("plain", |_| ());
    let weights = cut.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let text = told(&base(), cut.path());
    assert!(text.contains("A0302"), "{text}");
}
