//! Conversions give the logits of `transformers` in float32, for every shipped model and every
//! variant of the configuration, in every layout, over every path.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says what it skips")]

use anemll_tests::{convert, evaluate, golden, model, workspace};
use serde_json::Value;
use std::path::Path;

const CHUNKED: &[&str] = &["--lut", "none", "--combiner", "chunked", "--chunk"];
const WHOLE: &[&str] = &["--lut", "none", "--combiner", "monolithic"];
const SIZES: &[&str] = &["--context", "256", "--batch", "32"];

fn check(result: &Value, what: &str) {
    let number = |key: &str| result[key].as_f64().unwrap_or(f64::NAN);
    assert!(number("cosine_min") >= 0.9999, "{what}: smallest cosine {}", number("cosine_min"));
    assert!(number("top1_agreement") >= 0.99, "{what}: top-1 {}", number("top1_agreement"));
    assert!(number("kl_mean") < 1e-3, "{what}: KL {}", number("kl_mean"));
}

fn all_paths(name: &str, layout: &[&str]) {
    let output = tempfile::tempdir().unwrap();
    convert(&model(name), output.path(), layout);
    let golden = golden(name);
    let run = |arguments: &[&str]| {
        let result = evaluate(output.path(), &golden, "logits.npy", arguments);
        check(&result, &format!("{name} {layout:?} {arguments:?}"));
        result["positions"].as_u64().unwrap()
    };
    let positions = run(&["--path", "evaluate"]);
    assert_eq!(run(&["--path", "infer"]), positions);
    for count in ["32", "33", "61"] {
        let after = run(&["--path", "prefill", "--prefill-tokens", count]);
        assert_eq!(after, positions - count.parse::<u64>().unwrap());
    }
}

/// A trained model: one chunk, a chunk for each layer, and one package.
fn trained(name: &str) {
    let sizes = |context| ["--context", context, "--batch", "32"];
    all_paths(name, &[CHUNKED, &["1"], &sizes("320")].concat());
    all_paths(name, &[CHUNKED, &["4"], &sizes("512")].concat());
    all_paths(name, &[WHOLE, &sizes("320")].concat());
}

/// A variant in two chunks.
fn in_chunks(name: &str) {
    all_paths(&format!("variants/{name}"), &[CHUNKED, &["2"], SIZES].concat());
}

/// A variant in two chunks and in one package.
fn every_way(name: &str) {
    in_chunks(name);
    all_paths(&format!("variants/{name}"), &[WHOLE, SIZES].concat());
}

macro_rules! models {
    ($($test:ident = $name:literal $how:ident;)+) => {
        $(
            #[test]
            fn $test() {
                $how($name);
            }
        )+

        #[test]
        fn every_model_has_its_test() {
            let listed = [$($name),+];
            for folder in ["tests/models", "tests/models/variants"] {
                for entry in std::fs::read_dir(workspace().join(folder)).unwrap() {
                    let entry = entry.unwrap();
                    let name = entry.file_name().into_string().unwrap();
                    let is_model = entry.path().join("config.json").is_file();
                    assert!(!is_model || listed.contains(&name.as_str()), "{name} is in no test");
                }
            }
        }
    };
}

// One line for each model: what is done with it stands behind its folder's name.
models! {
    tiny_llama = "tiny-llama" trained;
    tiny_qwen2 = "tiny-qwen2" trained;
    tiny_qwen3 = "tiny-qwen3" trained;
    all_biases = "all-biases" every_way;
    attention_bias = "attention-bias" in_chunks;
    float32_weights = "float32-weights" in_chunks;
    head_dim_apart = "head-dim-apart" in_chunks;
    large_eps = "large-eps" in_chunks;
    large_residual = "large-residual" in_chunks;
    mha = "mha" in_chunks;
    mistral = "mistral" every_way;
    mistral_window = "mistral-window" in_chunks;
    mlp_bias = "mlp-bias" in_chunks;
    mqa = "mqa" in_chunks;
    qwen2_defaults_odd_vocab = "qwen2-defaults-odd-vocab" every_way;
    qwen2_head_dim_apart = "qwen2-head-dim-apart" in_chunks;
    qwen2_rope_parameters_llama3 = "qwen2-rope-parameters-llama3" in_chunks;
    qwen2_rope_yarn = "qwen2-rope-yarn" in_chunks;
    qwen2_tied = "qwen2-tied" in_chunks;
    qwen2_window_in_no_layer = "qwen2-window-in-no-layer" in_chunks;
    qwen3_attention_bias = "qwen3-attention-bias" every_way;
    qwen3_defaults_odd_vocab = "qwen3-defaults-odd-vocab" every_way;
    qwen3_rope_linear = "qwen3-rope-linear" in_chunks;
    qwen3_rope_yarn = "qwen3-rope-yarn" in_chunks;
    qwen3_tied = "qwen3-tied" in_chunks;
    qwen3_window_in_one_layer = "qwen3-window-in-one-layer" in_chunks;
    rope_dynamic = "rope-dynamic" in_chunks;
    rope_linear = "rope-linear" in_chunks;
    rope_llama3 = "rope-llama3" in_chunks;
    rope_parameters_default = "rope-parameters-default" in_chunks;
    rope_parameters_llama3 = "rope-parameters-llama3" in_chunks;
    rope_theta_500000 = "rope-theta-500000" in_chunks;
    rope_yarn = "rope-yarn" every_way;
    rope_yarn_betas = "rope-yarn-betas" in_chunks;
    rope_yarn_mscale = "rope-yarn-mscale" in_chunks;
    sharded = "sharded" in_chunks;
    tied = "tied" in_chunks;
    untied_head_odd_vocab = "untied-head-odd-vocab" every_way;
}

#[test]
fn a_context_that_the_batch_does_not_divide() {
    // The state is rounded up, so that a padded last batch stays inside.
    for name in ["variants/tied", "variants/qwen3-tied"] {
        all_paths(name, &[CHUNKED, &["2", "--context", "210", "--batch", "48"]].concat());
    }
}

/// One of the reference models beside the repository, whose golden files have other names.
fn shared_reference(name: &str) {
    let folder = workspace().join("../shared/reference/models").join(name);
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    for layout in [[CHUNKED, &["2"]].concat(), WHOLE.to_vec()] {
        let output = tempfile::tempdir().unwrap();
        convert(&folder, output.path(), &[&layout[..], &["--context", "256"]].concat());
        for prompt in ["prompt20", "prompt100"] {
            for path in [
                &["--path", "infer"][..],
                &["--path", "evaluate"],
                &["--path", "prefill", "--prefill-tokens", "17"],
            ] {
                let result = compare(output.path(), &folder.join("golden"), prompt, path);
                check(&result, &format!("{name} {layout:?} {prompt} {path:?}"));
            }
        }
    }
}

fn compare(output: &Path, golden: &Path, prompt: &str, path: &[&str]) -> Value {
    let mut command = anemll_tests::anemll();
    command
        .args(["eval", "--json", "--meta"])
        .arg(output.join("meta.yaml"))
        .arg("--tokens")
        .arg(golden.join(format!("{prompt}.ids.npy")))
        .arg("--reference")
        .arg(golden.join(format!("{prompt}.logits.npy")))
        .args(path);
    serde_json::from_slice(&anemll_tests::succeed(&mut command).stdout).unwrap()
}

#[test]
fn the_shared_llama() {
    shared_reference("tiny-llama-v2048");
}

#[test]
fn the_shared_qwen2() {
    shared_reference("tiny-qwen2-v2048");
}

#[test]
fn the_shared_qwen3() {
    shared_reference("tiny-qwen3-v2048");
}
