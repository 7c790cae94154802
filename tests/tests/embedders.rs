//! Conversions to vectors give those of sentence-transformers, and say what they are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_generation::embedder::Embedder;
use anemll_host::cli::{Cli, Command};
use anemll_pipeline::compare::{CompareRequest, compare_vectors};
use anemll_pipeline::plugins::Plugins;
use anemll_shipped as _;
use anemll_tests::{anemll, model};
use clap::Parser as _;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

const CONTEXT: &str = "96";

fn embedder(name: &str) -> PathBuf {
    model("embedders").join(name)
}

/// Converts in this process.
fn convert(model: &Path, output: &Path, arguments: &[&str]) {
    let paths = ["--model", model.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let sizes = ["--context", CONTEXT, "--no-tokenizer"];
    let line = [&["anemll", "convert"], &paths[..], &sizes, arguments].concat();
    let cli = Cli::try_parse_from(line).unwrap();
    let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
    let plugins = Plugins::discover(&[]).unwrap();
    anemll_pipeline::run(&(&**arguments).into(), &plugins, "anemll convert", &|_| {})
        .unwrap_or_else(|error| panic!("{}", anemll_host::error::render(&error)));
}

fn open(output: &Path) -> Embedder {
    let runtime = Plugins::discover(&[]).unwrap().runtime("cpu").unwrap();
    let meta = output.join("meta.yaml");
    Embedder::open(&meta, runtime.as_ref(), &anemll_services::host()).unwrap()
}

struct Golden {
    tokens: Vec<u32>,
    vector: Vec<f64>,
}

fn golden(name: &str) -> Vec<Golden> {
    let text = fs::read_to_string(embedder(name).join("golden/vectors.json")).unwrap();
    let texts: Vec<Value> = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| Golden {
        tokens: serde_json::from_value(value["tokens"].clone()).unwrap(),
        vector: serde_json::from_value(value["vector"].clone()).unwrap(),
    };
    texts.iter().map(text).collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Smallest cosine and largest relative distance to the golden vectors.
fn distance(output: &Path, name: &str) -> (f64, f64) {
    let mut embedder = open(output);
    let mut result = (1.0_f64, 0.0_f64);
    for Golden { tokens, vector } in golden(name) {
        let found = embedder.vector(&tokens).unwrap();
        assert_eq!(found.len() as u64, embedder.embedding().dimension);
        let found: Vec<f64> = found.into_iter().map(f64::from).collect();
        if embedder.embedding().normalized {
            assert!((length(&found) - 1.0).abs() < 2e-3, "{name}: length {}", length(&found));
        }
        let dot: f64 = found.iter().zip(&vector).map(|(one, other)| one * other).sum();
        let apart: Vec<f64> = found.iter().zip(&vector).map(|(one, other)| one - other).collect();
        result.0 = result.0.min(dot / length(&found) / length(&vector));
        result.1 = result.1.max(length(&apart) / length(&vector));
    }
    result
}

/// Texts shorter and longer than a batch, in one package and in chunks.
fn every_way(name: &str, batches: &[&str]) {
    for batch in batches {
        for layout in
            [&["--combiner", "monolithic"][..], &["--combiner", "chunked", "--chunk", "2"]]
        {
            let output = tempfile::tempdir().unwrap();
            let arguments = [&["--lut", "none", "--batch", batch], layout].concat();
            convert(&embedder(name), output.path(), &arguments);
            let (cosine, distance) = distance(output.path(), name);
            let what = format!("{name} {layout:?} --batch {batch}: {cosine} {distance}");
            assert!(cosine >= 0.9999 && distance < 5e-3, "{what}");
        }
    }
}

#[test]
fn the_last_token_of_qwen3() {
    every_way("qwen3-last", &["32", CONTEXT]);
}

#[test]
fn the_mean_of_gemma3_whose_tokens_see_each_other() {
    every_way("gemma3-mean", &["32"]);
}

#[test]
fn the_first_token_with_a_layer_behind_it() {
    every_way("llama-first", &["32"]);
}

#[test]
fn quantized_vectors_stay_close() {
    let output = tempfile::tempdir().unwrap();
    convert(&embedder("gemma3-mean"), output.path(), &["--lut", "8", "--combiner", "monolithic"]);
    let (cosine, _) = distance(output.path(), "gemma3-mean");
    assert!((0.99..0.999_999).contains(&cosine), "{cosine}");
    let run = fs::read_to_string(output.path().join("anemll-run.json")).unwrap();
    let run: Value = serde_json::from_str(&run).unwrap();
    assert_eq!(run["infer"], json!([]));
    assert_eq!(
        run["embedding"],
        json!({
            "dimension": 48, "vocabulary": 304, "pooling": "mean", "normalized": true,
            "bidirectional": true, "lowercase": false,
            "prompts": { "document": "", "query": "Query: " },
        })
    );
    assert_eq!(
        (&run["batch"], &run["context"], &run["states"]),
        (&json!(96), &json!(96), &json!([]))
    );
    let meta = fs::read_to_string(output.path().join("meta.yaml")).unwrap();
    assert!(meta.contains("model_type: embedding") && meta.contains("pooling: mean"), "{meta}");
}

/// A model with a tokenizer that says it gives vectors.
pub(crate) fn with_tokenizer() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(model("tiny-qwen3")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let module = |kind: &str, path: &str| json!({"path": path, "type": format!("sentence_transformers.models.{kind}")});
    let modules = json!([
        module("Transformer", ""),
        module("Pooling", "1_Pooling"),
        module("Normalize", "2_N")
    ]);
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    for (name, value) in [
        ("modules.json", modules),
        ("1_Pooling/config.json", json!({"pooling_mode_lasttoken": true})),
        ("config_sentence_transformers.json", json!({"prompts": {"query": "Find: "}})),
    ] {
        fs::write(folder.path().join(name), value.to_string()).unwrap();
    }
    folder
}

fn run(arguments: &[&str]) -> (Output, String, String) {
    let output = anemll().args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

#[test]
fn texts_become_lines_of_json() {
    let model = with_tokenizer();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let (model, out) = (model.path().to_str().unwrap(), output.to_str().unwrap());
    let small = ["--lut", "none", "--context", "32", "--batch", "8"];
    let (done, _, told) = run(&[&["convert", model, "-o", out], &small[..]].concat());
    assert!(done.status.success(), "{told}");
    assert!(told.contains("modules.json says") && told.contains("--task embed"), "{told}");
    assert!(
        told.contains("the vector of 4 tokens") && told.contains("anemll embed --meta"),
        "{told}"
    );

    let vectors = |arguments: &[&str]| -> Vec<Value> {
        let (done, lines, told) = run(&[&["embed", "--meta", out], arguments].concat());
        assert!(done.status.success(), "{told}");
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let plain = vectors(&["Find: a text", "another"]);
    assert_eq!(plain.len(), 2);
    let prompted = vectors(&["--prompt-name", "query", " a text".trim_start()]);
    assert_eq!(prompted[0]["embedding"], plain[0]["embedding"]);
    assert_eq!(prompted[0]["text"], "a text");
    assert_ne!(plain[0]["embedding"], plain[1]["embedding"]);
    let texts = folder.path().join("texts");
    fs::write(&texts, "another\n\nFind: a text\n").unwrap();
    let read = vectors(&["--file", texts.to_str().unwrap()]);
    assert_eq!(read, [plain[1].clone(), plain[0].clone()]);

    let long = "many words of a long text ".repeat(20);
    let (_, _, told) = run(&["embed", "--meta", out, &long]);
    assert!(told.contains("A0707") && told.contains("--truncate"), "{told}");
    let cut = vectors(&["--truncate", &long]);
    assert_eq!(cut[0]["tokens"], 32);
    let (_, _, told) = run(&["embed", "--meta", out, "--prompt-name", "passage", "x"]);
    assert!(told.contains("no prompt `passage`") && told.contains("query"), "{told}");
    for command in [&["generate", out, "-p", "x"][..], &["chat", out, "--prompt", "x"]] {
        let (done, _, told) = run(command);
        assert!(!done.status.success() && told.contains("A0712"), "{command:?}: {told}");
        assert!(told.contains("anemll embed"), "{told}");
    }
}

#[test]
fn eval_says_how_far_vectors_are_from_the_originals() {
    let (source, folder) = (with_tokenizer(), tempfile::tempdir().unwrap());
    let texts = folder.path().join("texts");
    fs::write(&texts, "another\n\nFind: a text\nthe third of them\n").unwrap();
    let compare = |name: &str, lut: &str, model: &Path, text: Option<PathBuf>| {
        let output = folder.path().join(name);
        if !output.exists() {
            convert(source.path(), &output, &["--lut", lut, "--combiner", "monolithic"]);
        }
        let request = CompareRequest {
            meta: output.join("meta.yaml"),
            model: model.to_owned(),
            text,
            tokens: u64::MAX,
            arch: None,
            head: None,
            runtime: "cpu".to_owned(),
            memory: None,
            scratch: None,
        };
        let plugins = Plugins::discover(&[]).unwrap();
        compare_vectors(&request, &plugins, &anemll_services::host(), &|_| {})
    };
    let plain = compare("plain", "none", source.path(), Some(texts.clone())).unwrap();
    assert_eq!((plain.texts, plain.per_text[1].text.as_str()), (3, "Find: a text"));
    assert!(plain.cosine_min > 0.9999 && plain.relative_l2_max < 5e-3, "{plain:?}");
    assert_eq!(plain.nearest_agreement, Some(1.0));

    let few = compare("few", "2", source.path(), Some(texts)).unwrap();
    assert!(few.cosine_min < plain.cosine_min && few.relative_l2_mean > 0.01, "{few:?}");
    // The same cosine, of the vectors themselves.
    let tokenizer = anemll_tokenizer::Tokenizer::open(source.path()).unwrap();
    let vector = |name: &str| -> Vec<f64> {
        let mut embedder = open(&folder.path().join(name));
        let vector = embedder.embed(&tokenizer, "another", None, false).unwrap().embedding;
        vector.into_iter().map(f64::from).collect()
    };
    let (one, other) = (vector("few"), vector("plain"));
    let dot: f64 = one.iter().zip(&other).map(|(one, other)| one * other).sum();
    let cosine = dot / length(&one) / length(&other);
    assert!((few.per_text[0].cosine - cosine).abs() < 1e-3, "{cosine} {few:?}");

    let built_in = compare("plain", "none", source.path(), None).unwrap();
    assert!(built_in.texts > 3 && built_in.cosine_min > 0.999, "{built_in:?}");
    let other = compare("plain", "none", &embedder("qwen3-last"), None).unwrap_err();
    assert!(other.message.contains("another model"), "{}", other.message);
}

#[test]
fn what_does_not_suit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let tiny = model("tiny-qwen3");
    let (_, _, told) = run(&["convert", tiny.to_str().unwrap(), "-o", out, "--task", "embed"]);
    assert!(told.contains("A0801") && told.contains("modules.json"), "{told}");
    let gemma = embedder("gemma3-mean");
    let line =
        ["convert", gemma.to_str().unwrap(), "-o", out, "--task", "generate", "--no-tokenizer"];
    let (_, _, told) = run(&line);
    assert!(
        told.contains("use_bidirectional_attention") && told.contains("--task embed"),
        "{told}"
    );
    let (_, _, told) =
        run(&["convert", gemma.to_str().unwrap(), "-o", out, "--argmax", "--no-tokenizer"]);
    assert!(told.contains("A0802") && told.contains("--argmax"), "{told}");
}

/// What `convert` takes by itself, the commands before it take too.
#[test]
fn check_and_plan_know_what_follows_the_model() {
    for name in ["qwen3-last", "gemma3-mean", "llama-first"] {
        let dimension = golden(name)[0].vector.len();
        let path = embedder(name);
        let path = path.to_str().unwrap();
        let (_, told, error) = run(&["check", path, "--no-tokenizer"]);
        assert!(told.ends_with("it can be converted\n"), "{name}: {told}{error}");
        assert!(told.contains(&format!("gives vectors of {dimension} numbers")), "{told}");
        assert!(told.contains("--task embed is taken"), "{told}");
        let (output, told, error) = run(&["plan", path]);
        assert!(output.status.success() && told.contains("monolithic"), "{name}: {told}{error}");
    }
}

#[test]
fn texts_that_sentence_transformers_would_cut_are_told_of() {
    let (source, folder) = (with_tokenizer(), tempfile::tempdir().unwrap());
    let (source, out) = (source.path(), folder.path().join("out"));
    fs::write(source.join("sentence_bert_config.json"), r#"{"max_seq_length": 32}"#).unwrap();
    let line = ["convert", source.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let line = [&line[..], &["--context", CONTEXT, "--no-tokenizer", "--dry-run"]].concat();
    let (_, _, told) = run(&line);
    assert!(told.contains("cuts texts of this model after 32 tokens"), "{told}");
}
