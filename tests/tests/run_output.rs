//! What a whole run tells, as people read it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, assert_told, model, succeed};
use std::path::Path;

fn convert(folder: &Path, flags: &[&str]) -> String {
    let mut command = anemll();
    command.current_dir(folder).args(["convert", "--output", "out", "--context", "256", "--model"]);
    let output = succeed(command.arg(model("tiny-llama")).args(flags));
    assert!(output.stdout.is_empty(), "only data goes to standard output");
    String::from_utf8(output.stderr).unwrap()
}

// On a Mac another compiler backend may run.
#[cfg(not(target_os = "macos"))]
#[test]
fn runs_say_what_they_do() {
    for (name, flags) in [
        // Bits that are measured are not the same on every processor.
        ("run_with_6_bits", &["--lut", "6"][..]),
        ("run_in_chunks", &["--chunk", "2", "--lut2", "6", "--lut3", "8"]),
        ("run_in_16_bits", &["--combiner", "chunked", "--lut", "none", "--argmax"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        assert_told(name, &convert(folder.path(), flags));
        assert_told(&format!("{name}_again"), &convert(folder.path(), flags));
    }
}
