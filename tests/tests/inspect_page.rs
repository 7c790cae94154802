//! The page of `inspect --html` in headless Chromium: it draws, in light and dark, says nothing on
//! the console, and asks for nothing. Skipped, saying so, where there is no Chromium.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::browser::{chromium, look};
use anemll_tests::{anemll, convert, model, succeed};

#[test]
fn the_page_draws_in_light_and_dark_and_asks_for_nothing() {
    let Some(browser) = chromium() else { return };
    let output = tempfile::tempdir().unwrap();
    let arguments = ["--combiner", "chunked", "--chunk", "1", "--lut", "4"];
    convert(&model("tiny-llama"), output.path(), &arguments);
    let package = output.path().join("llama_FFN_PF_lut4_chunk_01of01.mlpackage");
    let page = output.path().join("page.html");
    succeed(anemll().arg("inspect").arg(&package).arg("--html").arg(&page));
    let printed = succeed(anemll().arg("inspect").arg(&package).arg("--json")).stdout;
    let found: serde_json::Value = serde_json::from_slice(&printed).unwrap();
    let weights = found["weights"].as_array().unwrap().len();
    assert!(weights > 30);
    for (dark, width) in [(false, 1280), (true, 1280), (false, 500)] {
        let seen = look(&browser, &page, dark, width);
        assert_eq!(seen.console, [""; 0], "dark {dark}, width {width}");
        assert_eq!(seen.requests, 0, "dark {dark}, width {width}");
        // A tile for each weight, and one for the program.
        let tiles = seen.document.matches(r#"class="tile"#).count();
        assert!(tiles > weights, "{tiles} tiles for {weights} weights");
        assert_eq!(seen.document.matches(r#"<tr class="row""#).count(), weights);
        assert!(seen.document.contains(r#"aria-label="Sizes of all weights"#));
        let light = seen.corner.iter().all(|channel| *channel > 200);
        let black = seen.corner.iter().all(|channel| *channel < 50);
        assert!(if dark { black } else { light }, "dark {dark}: background {:?}", seen.corner);
    }
    let bytes = std::fs::metadata(&page).unwrap().len();
    assert!(bytes < 400_000, "{bytes} bytes for {weights} weights");
}

/// What the checks above look for is found where it is.
#[test]
fn a_page_that_errs_and_asks_is_noticed() {
    let Some(browser) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let text = "<body style=\"background: #fff\"><img src=\"http://example.invalid/x.png\">\
                <script>undefined.x</script>";
    std::fs::write(&page, text).unwrap();
    let seen = look(&browser, &page, false, 800);
    assert!(!seen.console.is_empty() && seen.requests > 0);
}
