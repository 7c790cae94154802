//! The pages of `eval --html` and `sweep --html` in headless Chromium: they draw in light and dark, fit
//! a telephone, say nothing on the console, and ask for nothing. Skipped, saying so, where there is no
//! Chromium.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::browser::{chromium, look};
use anemll_tests::{anemll, converted, model, succeed};
use std::path::Path;

/// Looks at a page with so many plots, wide and narrow.
fn check(page: &Path, plots: usize) {
    let Some(browser) = chromium() else { return };
    for (dark, width) in [(false, 1280), (true, 1280), (false, 500)] {
        let seen = look(&browser, page, dark, width);
        assert_eq!(seen.console, [""; 0], "dark {dark}, width {width}");
        assert_eq!(seen.requests, 0, "dark {dark}, width {width}");
        // Each has a title and a description for those who cannot see it.
        assert_eq!(seen.document.matches("role=\"img\"").count(), plots);
        for label in ["-title\">", "-text\">"] {
            assert!(seen.document.matches(label).count() >= plots, "{label}");
        }
        let light = seen.corner.iter().all(|channel| *channel > 200);
        let black = seen.corner.iter().all(|channel| *channel < 50);
        assert!(if dark { black } else { light }, "dark {dark}: background {:?}", seen.corner);
    }
}

#[test]
fn the_page_of_a_comparison_draws_and_asks_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let output = converted(&model("tiny-llama"), &["--lut", "4", "--quantizer", "lut"]);
    let mut command = anemll();
    command.arg("eval").arg(output).arg("--model").arg(model("tiny-llama"));
    succeed(command.args(["--max-tokens", "300", "--html"]).arg(&page));
    check(&page, 4);
}

#[test]
fn the_page_of_a_sweep_draws_and_asks_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let mut command = anemll();
    command.arg("sweep").arg(model("tiny-llama")).args(["--bits", "3,6", "--group", "8,tensor"]);
    succeed(command.args(["--quantizer", "lut", "--max-tokens", "200", "--html"]).arg(&page));
    check(&page, 1);
}
