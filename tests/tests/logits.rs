//! Conversions give the logits of `transformers` in float32, for every shipped model and every
//! variant of the configuration, in every layout, over every path.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{convert, evaluate, golden, model, workspace};
use serde_json::Value;

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

macro_rules! variants {
    ($($test:ident = $name:literal;)+) => {
        $(
            #[test]
            fn $test() {
                let name = concat!("variants/", $name);
                all_paths(name, &["--context", "256", "--batch", "32", "--chunk", "2"]);
            }
        )+

        #[test]
        fn every_variant_has_its_test() {
            let listed = [$($name),+];
            let folder = workspace().join("tests/models/variants");
            for entry in std::fs::read_dir(folder).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(listed.contains(&name.as_str()), "{name} is in no test");
            }
        }
    };
}

variants! {
    all_biases = "all-biases";
    attention_bias = "attention-bias";
    float32_weights = "float32-weights";
    head_dim_apart = "head-dim-apart";
    large_eps = "large-eps";
    large_residual = "large-residual";
    mha = "mha";
    mlp_bias = "mlp-bias";
    mqa = "mqa";
    rope_dynamic = "rope-dynamic";
    rope_linear = "rope-linear";
    rope_llama3 = "rope-llama3";
    rope_parameters_default = "rope-parameters-default";
    rope_parameters_llama3 = "rope-parameters-llama3";
    rope_theta_500000 = "rope-theta-500000";
    rope_yarn = "rope-yarn";
    rope_yarn_betas = "rope-yarn-betas";
    rope_yarn_mscale = "rope-yarn-mscale";
    sharded = "sharded";
    tied = "tied";
    untied_head_odd_vocab = "untied-head-odd-vocab";
}

#[test]
fn a_trained_llama_in_one_chunk() {
    all_paths("tiny-llama", &["--context", "320", "--batch", "32", "--chunk", "1"]);
}

#[test]
fn a_trained_llama_in_a_chunk_for_each_layer() {
    all_paths("tiny-llama", &["--context", "512", "--batch", "32", "--chunk", "4"]);
}

#[test]
fn a_trained_llama_in_one_package() {
    all_paths("tiny-llama", &["--context", "320", "--batch", "32", "--combiner", "monolithic"]);
}

#[test]
fn monolithic_variants() {
    for name in ["variants/untied-head-odd-vocab", "variants/all-biases", "variants/rope-yarn"] {
        all_paths(name, &["--context", "256", "--batch", "32", "--combiner", "monolithic"]);
    }
}

#[test]
fn a_context_that_the_batch_does_not_divide() {
    // The state is rounded up, so that a padded last batch stays inside.
    all_paths("variants/tied", &["--context", "210", "--batch", "48"]);
}

#[test]
fn the_shared_reference_model() {
    let folder = workspace().join("../shared/reference/models/tiny-llama-v2048");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    let output = tempfile::tempdir().unwrap();
    convert(&folder, output.path(), &["--context", "256"]);
    for path in ["infer", "evaluate"] {
        let mut command = anemll_tests::anemll();
        command
            .args(["eval", "--json", "--path", path, "--meta"])
            .arg(output.path().join("meta.yaml"))
            .arg("--tokens")
            .arg(folder.join("golden/prompt100.ids.npy"))
            .arg("--reference")
            .arg(folder.join("golden/prompt100.logits.npy"));
        let printed = anemll_tests::succeed(&mut command).stdout;
        check(&serde_json::from_slice(&printed).unwrap(), path);
    }
}
