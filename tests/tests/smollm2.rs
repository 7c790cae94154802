//! The real model: SmolLM2-135M-Instruct, where `tests/reference/make_smollm2.py` has made it.
//!
//! The variable ANEMLL_SMOLLM2 names its directory. It takes minutes, so it has its own command:
//! `ANEMLL_SMOLLM2=DIR cargo xtask test --test smollm2`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{convert, evaluate, workspace};
use std::path::PathBuf;

#[test]
fn all_layouts_and_paths() {
    let Some(directory) = std::env::var_os("ANEMLL_SMOLLM2").map(PathBuf::from) else {
        println!("skipped: ANEMLL_SMOLLM2 does not name the directory of SmolLM2-135M-Instruct");
        return;
    };
    let golden = workspace().join("tests/reference/smollm2");
    let mut divergences = Vec::new();
    for layout in
        [&["--chunk", "1"][..], &["--chunk", "2"], &["--chunk", "4"], &["--combiner", "monolithic"]]
    {
        let output = tempfile::tempdir().unwrap();
        convert(&directory, output.path(), layout);
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
            divergences.push(number("kl_mean"));
        }
    }
    let largest = divergences.iter().copied().fold(0.0, f64::max);
    assert!(largest < 1e-3, "layouts agree to 1e-3 in KL, found {largest}");
}
