//! Real models, where the scripts in `tests/reference` have made their directories.
//!
//! A variable names each directory. It takes minutes, so it has its own command:
//! `ANEMLL_SMOLLM2=DIR ANEMLL_QWEN2_5=DIR cargo xtask test real_models`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the test says what it measured")]

use anemll_tests::{convert, evaluate, workspace};
use std::path::PathBuf;

const CHUNKED: &[&str] = &["--lut", "none", "--combiner", "chunked", "--chunk"];
const WHOLE: &[&str] = &["--lut", "none", "--combiner", "monolithic"];

/// Every path over every layout, against `golden` in `tests/reference`.
fn all_paths(variable: &str, golden: &str, chunks: &[&str]) {
    let Some(directory) = std::env::var_os(variable).map(PathBuf::from) else {
        println!("skipped: {variable} does not name the model's directory");
        return;
    };
    let golden = workspace().join("tests/reference").join(golden);
    let layouts = chunks.iter().map(|count| [CHUNKED, &[count]].concat()).chain([WHOLE.to_vec()]);
    for layout in layouts {
        let output = tempfile::tempdir().unwrap();
        convert(&directory, output.path(), &layout);
        for path in [
            &["--path", "infer"][..],
            &["--path", "evaluate"],
            &["--path", "prefill", "--prefill-tokens", "64"],
            &["--path", "prefill", "--prefill-tokens", "65"],
            &["--path", "prefill", "--prefill-tokens", "125"],
        ] {
            let result = evaluate(output.path(), &golden, "logits.npz", path);
            let number = |key: &str| result[key].as_f64().unwrap();
            println!(
                "{layout:?} {path:?}: {} positions, cosine {:.7}, KL {:.2e}, top-1 {:.4}",
                result["positions"],
                number("cosine_min"),
                number("kl_mean"),
                number("top1_agreement")
            );
            assert!(number("cosine_min") >= 0.9999, "{layout:?} {path:?}");
            assert!(number("top1_agreement") >= 0.99, "{layout:?} {path:?}");
            assert!(number("kl_mean") < 1e-3, "{layout:?} {path:?}");
        }
    }
}

#[test]
fn smollm2() {
    all_paths("ANEMLL_SMOLLM2", "smollm2", &["1", "2", "4"]);
}

#[test]
fn qwen2_5() {
    all_paths("ANEMLL_QWEN2_5", "qwen2_5", &["2"]);
}
