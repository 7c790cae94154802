//! GGUF files, made by llama.cpp's own converter, against the models that they were made from.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_huggingface::{ModelDirectory, to_f32};
use anemll_tests::{anemll, convert, evaluate, golden, model, refusal, succeed};
use anemll_tokenizer::Tokenizer;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn gguf(name: &str) -> PathBuf {
    model("gguf").join(name).with_extension("gguf")
}

/// The view of a file, in a folder that goes when it is dropped.
fn view(file: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in anemll_huggingface::of_gguf(file).unwrap() {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Every tensor, and what of config.json decides over the arithmetic.
fn same(original: &Path, file: &str, tolerance: f32, differing: &[&str]) {
    let folder = view(&gguf(file));
    let ours = ModelDirectory::open(folder.path()).unwrap();
    let theirs = ModelDirectory::open(original).unwrap();
    let names = |model: &ModelDirectory| {
        let names = model.tensors().keys().cloned();
        names.filter(|name| name != "lm_head.weight").collect::<Vec<_>>()
    };
    assert_eq!(names(&ours), names(&theirs), "{file}");
    for (name, info) in ours.tensors() {
        let (ours, theirs) = (ours.tensor(name).unwrap(), theirs.tensor(name).unwrap());
        assert_eq!(ours.shape(), theirs.shape(), "{file}: {name}");
        assert_eq!(ours.shape(), info.shape);
        let (a, b) = (to_f32(&ours).unwrap(), to_f32(&theirs).unwrap());
        let far = a.iter().zip(&b).fold(0.0_f32, |far, (a, b)| far.max((a - b).abs()));
        let largest = b.iter().fold(0.0_f32, |largest, b| largest.max(b.abs()));
        assert!(far <= tolerance * largest, "{file}: {name} is {far} off");
        if tolerance == 0.0 {
            assert!(ours.has_values_of(&theirs).unwrap());
        }
        // Rows read apart are the same ones.
        let rows = ours.shape()[0];
        let part = to_f32(&ours.rows(rows / 3, rows).unwrap()).unwrap();
        assert!(a.ends_with(&part) && !part.is_empty(), "{file}: {name}");
    }
    for (key, value) in ours.config().as_object().unwrap() {
        let Some(original) = theirs.config().get(key) else { continue };
        // Whole numbers and others that are equal are equal.
        let equal = match (value.as_f64(), original.as_f64()) {
            (Some(value), Some(original)) => value == original,
            _ => value == original,
        };
        assert!(equal || differing.contains(&key.as_str()), "{file}: {key}: {value} {original}");
    }
    for key in ["num_hidden_layers", "rms_norm_eps", "rope_theta", "model_type", "vocab_size"] {
        let key = match file {
            "stablelm" | "cohere" | "cohere2" => &key.replace("rms_norm", "layer_norm"),
            "lfm2" => &key.replace("rms_norm", "norm"),
            _ => key,
        };
        assert!(ours.config().get(key).is_some(), "{file}: {key}");
    }
}

#[test]
fn tensors_and_configurations_are_those_of_the_originals() {
    for (file, differing) in [
        ("rope-llama3", &[][..]),
        ("arcee", &[]),
        // Scalings have several ways to be written: they are compared below.
        ("qwen3-rope-yarn", &["rope_scaling"]),
        // The numbers of these stand in no key: those of real models are another.
        ("gemma2", &["query_pre_attn_scalar"]),
        ("gemma3", &["query_pre_attn_scalar", "rope_local_base_freq"]),
        ("phi3-long-factors", &["rope_scaling"]),
        ("granite", &[]),
        ("stablelm", &[]),
        ("all-biases", &[]),
        ("lfm2", &[]),
        // Every fourth layer does not rotate, whatever the original says: no key tells it.
        ("smollm3", &["no_rope_layer_interval"]),
        ("olmo3", &["rope_scaling"]),
        ("ministral3", &[]),
        // The format has no head beside the embedding.
        ("cohere", &["tie_word_embeddings"]),
        ("cohere2", &[]),
    ] {
        same(&model("variants").join(file), file, 0.0, differing);
    }
}

/// Heads of values are in another order there, rates of decay another number, and the layer that predicts a
/// further token is left out.
#[test]
fn linear_attention_is_as_it_was() {
    let original = model("variants").join("qwen3_5");
    same(&original, "qwen3_5", 1e-6, &[]);
    let folder = view(&gguf("qwen3_5"));
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let stored = std::fs::read_to_string(original.join("config.json")).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    let rope = &stored["rope_parameters"];
    assert_eq!(config["rope_theta"].as_f64(), rope["rope_theta"].as_f64());
    assert_eq!(config["partial_rotary_factor"], rope["partial_rotary_factor"]);
    let kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"];
    assert_eq!(config["layer_types"], serde_json::json!(kinds));
    let ours = ModelDirectory::open(folder.path()).unwrap();
    let theirs = ModelDirectory::open(&original).unwrap();
    // All but the rates of decay are the same to the bit.
    for (name, info) in ours.tensors() {
        let (ours, theirs) = (ours.tensor(name).unwrap(), theirs.tensor(name).unwrap());
        let same = to_f32(&ours).unwrap() == to_f32(&theirs).unwrap();
        assert!(same || name.ends_with("A_log"), "{name} {info:?}");
    }
}

/// The format's own library wrote the file once more, as three: whichever is named.
#[test]
fn a_model_in_several_files_is_one() {
    for number in 1..=3 {
        let file = format!("rope-llama3-split-0000{number}-of-00003");
        same(&model("variants").join("rope-llama3"), &file, 0.0, &[]);
    }
}

#[test]
fn of_several_files_each_has_its_place() {
    let name = |number: u32| format!("x-0000{number}-of-00003.gguf");
    let refused = |places: &[(u32, String)], named: &str| {
        let folder = tempfile::tempdir().unwrap();
        for (number, place) in places {
            let from = gguf(&format!("rope-llama3-split-0000{number}-of-00003"));
            std::fs::copy(from, folder.path().join(place)).unwrap();
        }
        let error = anemll_huggingface::of_gguf(&folder.path().join(named)).unwrap_err();
        anemll_plugin_api::Error::from(error)
    };
    let missing = refused(&[(1, name(1)), (3, name(3))], &name(1));
    assert!(missing.at.unwrap().contains(&name(2)));
    assert!(missing.hint.unwrap().contains("belong into one directory"));
    let swapped = refused(&[(1, name(1)), (3, name(2)), (2, name(3))], &name(1));
    assert_eq!(swapped.code.as_str(), "A0314");
    assert!(swapped.message.contains("number 2 of 3"), "{}", swapped.message);
    let twice = refused(&[(1, name(1)), (2, name(2)), (2, name(3))], &name(3));
    assert!(twice.message.contains("number 3 of 3"), "{}", twice.message);
    let renamed = refused(&[(2, "x.gguf".to_owned())], "x.gguf");
    assert!(renamed.hint.unwrap().contains("-00001-of-00003.gguf"));
}

#[test]
fn what_was_quantized_is_near() {
    same(&model("variants").join("qwen2-tied"), "qwen2-tied", 0.005, &[]);
    // The originals are bfloat16, of which float16 loses the smallest values.
    for name in ["olmo2", "exaone4", "ernie4_5"] {
        same(&model("variants").join(name), name, 1e-6, &[]);
    }
}

#[test]
fn scalings_of_positions_are_those_of_the_originals() {
    let scaling = |directory: &Path| -> Value {
        let text = std::fs::read_to_string(directory.join("config.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["rope_scaling"].clone()
    };
    for (file, keys) in [
        ("rope-llama3", &["factor", "rope_type"][..]),
        ("qwen3-rope-yarn", &["factor", "original_max_position_embeddings"]),
        ("phi3-long-factors", &["type"]),
    ] {
        let folder = view(&gguf(file));
        let (ours, theirs) = (scaling(folder.path()), scaling(&model("variants").join(file)));
        for key in keys {
            // 8 and 8.0 are one number.
            let same = match (ours[key].as_f64(), theirs[key].as_f64()) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => !ours[key].is_null() && ours[key] == theirs[key],
            };
            assert!(same, "{file}: {key}: {ours} {theirs}");
        }
        for key in ["short_factor", "long_factor"] {
            let numbers = |value: &Value| {
                let list = value[key].as_array().cloned().unwrap_or_default();
                list.iter().map(|one| one.as_f64().unwrap()).collect::<Vec<_>>()
            };
            let (ours, theirs) = (numbers(&ours), numbers(&theirs));
            assert_eq!(ours.len(), theirs.len());
            assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-6), "{file}: {key}");
        }
    }
}

#[test]
fn the_tokenizer_gives_the_originals_ids() {
    let folder = view(&gguf("tiny-llama"));
    let ours = Tokenizer::open(folder.path()).unwrap();
    let theirs = Tokenizer::open(&model("tiny-llama")).unwrap();
    for text in [
        "",
        "Hello, world! It's 1234 o'clock.\n\n  Twice  two spaces",
        "<|begin_of_text|>naïve 東京 🙂<|end_of_text|> after",
    ] {
        assert_eq!(ours.encode(text, true).unwrap(), theirs.encode(text, true).unwrap(), "{text}");
    }
}

#[test]
fn a_gguf_file_is_converted_like_the_model_itself() {
    let output = tempfile::tempdir().unwrap();
    let sizes = ["--context", "256", "--batch", "32", "--chunk", "1"];
    convert(&gguf("rope-llama3"), output.path(), &sizes);
    let result = evaluate(output.path(), &golden("variants/rope-llama3"), "logits.npy", &[]);
    let cosine = result["cosine_min"].as_f64().unwrap();
    assert!(cosine > 0.9999, "{result}");
}

/// Its positions are stretched, which no key of `yarn` says alone.
#[test]
fn ministral_is_converted_like_the_model_itself() {
    let folder = view(&gguf("ministral3"));
    crate::logits::converts_like(folder.path(), "ministral3");
}

/// Which layers see all stands in no key.
#[test]
fn cohere_is_converted_like_the_model_itself() {
    let folder = view(&gguf("cohere2"));
    crate::logits::converts_like(folder.path(), "cohere2");
}

/// The MLP is that of the experts that there are not, and has another width.
#[test]
fn granite_4_is_converted_like_the_model_itself() {
    let folder = view(&gguf("granite-4"));
    crate::logits::converts_like(folder.path(), "granite-4");
}

/// The bytes of a file with a text in place of another one of the same length.
fn with(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[test]
fn what_no_key_of_transformers_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Where yarn is none, nothing of it may stand there; a model without positions is another one.
    let ministral = std::fs::read(gguf("ministral3")).unwrap();
    let linear = with(
        &ministral,
        "scaling.type\x08\0\0\0\x04\0\0\0\0\0\0\0yarn",
        "scaling.type\x08\0\0\0\x04\0\0\0\0\0\0\0none",
    );
    let granite = std::fs::read(gguf("granite-4")).unwrap();
    let key = "granite.rope.scaling.finetuned\x07\0\0\0";
    let lost = with(&granite, &format!("{key}\x01"), &format!("{key}\0"));
    for (name, bytes, key) in [
        ("a.gguf", linear, "mistral3.rope.scaling.yarn_log_multiplier"),
        ("b.gguf", lost, "granite.rope.scaling.finetuned"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = anemll_huggingface::of_gguf(&path).unwrap_err();
        let error = anemll_plugin_api::Error::from(error);
        assert_eq!(error.code, "A0315");
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn a_gguf_file_brings_its_tokenizer_and_its_name() {
    let output = tempfile::tempdir().unwrap();
    let mut command = anemll();
    command.args(["convert", "--lut", "none", "--combiner", "monolithic", "--skip-quality"]);
    command.args(["--context", "64", "--batch", "16", "--compiler", "none", "--model"]);
    succeed(command.arg(gguf("tiny-llama")).arg("--output").arg(output.path()));
    let report = std::fs::read_to_string(output.path().join("anemll-report.json")).unwrap();
    assert!(report.contains("tiny-llama.gguf: GGUF version 3, architecture llama"), "{report}");
    let template = std::fs::read_to_string(output.path().join("tokenizer_config.json")).unwrap();
    assert!(template.contains("add_generation_prompt"), "{template}");
    let told = succeed(anemll().arg("generate").arg(output.path()).args([
        "--prompt",
        "Alice was",
        "--max-tokens",
        "4",
    ]));
    assert!(!told.stdout.is_empty());
}

#[test]
fn check_says_what_a_gguf_file_holds() {
    let told = succeed(anemll().arg("check").arg(gguf("tiny-llama")));
    let text = String::from_utf8_lossy(&told.stdout);
    for words in
        ["8.5 bits a weight", "Q8_0 in 29 tensors", "tokenizer gpt2 (gpt-2) of 1024 tokens"]
    {
        assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{text}");
    }
}

#[test]
fn what_a_gguf_file_lacks_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(gguf("rope-llama3")).unwrap();
    let changed = |name: &str, from: &str, to: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, with(&bytes, from, to)).unwrap();
        path
    };
    let cut = folder.path().join("cut.gguf");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    for (path, code, words) in [
        (cut, "A0314", "cut short"),
        (changed("architecture.gguf", "llama", "laama"), "A0315", "the architecture `laama`"),
        (changed("key.gguf", "llama.rope.freq_base", "llama.rope.freq_bose"), "A0315", "freq_bose"),
        (changed("tensor.gguf", "blk.0.attn_v.weight", "blk.0.attn_w.weight"), "A0315", "attn_w"),
        (changed("twice.gguf", "blk.0.attn_v.weight", "blk.0.attn_k.weight"), "A0314", "twice"),
    ] {
        let told = refusal(anemll().arg("check").arg(&path));
        assert!(told.contains(code) && told.contains(words), "{told}");
    }
    let output = folder.path().join("out");
    let mut command = anemll();
    command.arg("convert").arg(gguf("rope-llama3")).arg("-o").arg(output);
    let told = refusal(&mut command);
    assert!(told.contains("A0904") && told.contains("--no-tokenizer"), "{told}");
}
