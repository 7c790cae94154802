//! `combine`, `split` and `dedup` as users run them: on the parts of conversions, and on packages
//! that ANEMLL made.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{convert, files, model, program, run, succeed, workspace};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program with arguments; no plugin is needed.
fn anemll<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(program());
    command.env("NO_COLOR", "1").args(arguments);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs what must fail with `code`, leaving `folder` as it was; gives standard error.
fn refused(folder: &Path, arguments: &[&str], code: &str) -> String {
    let before = files(folder);
    let output = run(&mut anemll(arguments));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert!(error.contains(&format!("error[{code}]")), "{arguments:?}: {error}");
    assert!(!error.contains("panicked"), "{error}");
    assert!(files(folder) == before, "something was written before {error}");
    error
}

fn tiny(output: &Path, lut: &str, context: &str) {
    let arguments = ["--combiner", "chunked", "--chunk", "2", "--lut", lut, "--context", context];
    convert(&model("tiny-llama"), output, &arguments);
}

/// The files of a package, by name.
fn package(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let found = files(path);
    assert!(!found.is_empty(), "{} is not there", path.display());
    found
}

/// convert joins its parts in one way, `combine` in another; they agree to the last byte.
#[test]
fn combining_the_parts_again_gives_what_convert_made() {
    for (lut, suffix) in [("none", ""), ("4", "_lut4")] {
        let folder = tempfile::tempdir().unwrap();
        let (parts, again) = (folder.path().join("parts"), folder.path().join("again"));
        tiny(&parts, lut, "256");
        succeed(&mut anemll([
            "combine",
            "--chunk",
            "2",
            "--lut",
            lut,
            "--input",
            text(&parts),
            "--output-dir",
            text(&again),
        ]));
        for number in ["01", "02"] {
            let name = format!("llama_FFN_PF{suffix}_chunk_{number}of02.mlpackage");
            assert!(package(&parts.join(&name)) == package(&again.join(&name)), "{name}");
        }

        // And apart: the part, but for metadata of the combined package.
        let out = folder.path().join("out.mlpackage");
        let combined = again.join(format!("llama_FFN_PF{suffix}_chunk_01of02.mlpackage"));
        succeed(&mut anemll([
            "split",
            text(&combined),
            "--function",
            "infer",
            "--output",
            text(&out),
        ]));
        let part = parts.join(format!("llama_FFN{suffix}_chunk_01of02.mlpackage"));
        let weights = "Data/com.apple.CoreML/weights/weight.bin";
        assert!(
            std::fs::read(out.join(weights)).unwrap() == std::fs::read(part.join(weights)).unwrap()
        );
    }
}

#[test]
fn monolithic_parts_are_combined_under_the_name_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("parts");
    let arguments = ["--combiner", "monolithic", "--lut", "none", "--context", "256"];
    convert(&model("tiny-llama"), &parts, &arguments);
    let again = folder.path().join("again");
    let printed = succeed(&mut anemll([
        "combine",
        "--monolithic",
        "--input-dir",
        text(&parts),
        "--output",
        text(&again),
        "--json",
        "--copy",
    ]));
    let report: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    let done = &report["packages"][0];
    assert_eq!(done["functions"], serde_json::json!(["infer", "prefill"]));
    assert_eq!(done["default_function"], "infer");
    assert_eq!(done["weights_by"], "copy");
    assert_eq!(done["totals"]["semantic"], 0);
    let name = "llama_monolithic_combined.mlpackage";
    assert!(package(&parts.join(name)) == package(&again.join(name)));

    // Named one by one, with another default.
    let other = folder.path().join("other.mlpackage");
    succeed(&mut anemll([
        "combine",
        &format!("infer={}", text(&parts.join("llama_monolithic.mlpackage"))),
        &format!("prefill={}:main", text(&parts.join("llama_monolithic_prefill.mlpackage"))),
        "--default",
        "prefill",
        "--output",
        text(&other),
    ]));
    let shown = succeed(&mut anemll(["inspect", text(&other), "--json"]));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["default_function"], "prefill");
    let printed = succeed(&mut anemll(["dedup", text(&parts.join(name)), text(&other)]));
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("llama_monolithic_combined:infer"), "{printed}");
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (parts, other) = (folder.path().join("parts"), folder.path().join("other"));
    tiny(&parts, "4", "256");
    tiny(&other, "4", "128");
    let input = text(&parts);
    let chunks = |more: &[&str]| {
        let mut arguments = vec!["combine", "--input", input, "--output", input];
        arguments.extend(more);
        arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()
    };
    let check = |more: &[&str], code: &str, expected: &str| {
        let arguments = chunks(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let error = refused(folder.path(), &arguments, code);
        assert!(error.contains(expected), "{expected:?} in {error}");
        assert!(error.contains("hint: "), "{error}");
    };
    check(&["--chunk", "2", "--lut", "4"], "A0805", "exists already");
    check(&["--chunk", "2", "--lut", "6", "--force"], "A0501", "have LUT bits 4, not LUT bits 6");
    check(&["--chunk", "3", "--lut", "4", "--force"], "A0501", "of 2 chunks, not 3");
    check(&["--chunk", "0"], "A0801", "--chunk 0");
    check(&["--monolithic"], "A0501", "no parts found");
    check(&["--chunk", "2", "--gemma3"], "A0806", "Gemma 3");
    check(&["infer=x.mlpackage", "--chunk", "2"], "A0801", "functions are named");

    let prefill = "llama_prefill_lut4_chunk_02of02.mlpackage";
    std::fs::rename(parts.join(prefill), folder.path().join("away")).unwrap();
    check(&["--chunk", "2", "--lut", "4", "--force"], "A0501", prefill);
    std::fs::rename(other.join(prefill), parts.join(prefill)).unwrap();
    check(&["--chunk", "2", "--lut", "4", "--force"], "A0405", "context_length is 256 in one, 128");

    let infer = parts.join("llama_FFN_lut4_chunk_01of02.mlpackage");
    let named = format!("infer={}", text(&infer));
    for (arguments, code) in [
        (vec!["combine", &named, "--output", text(&infer), "--force"], "A0801"),
        (vec!["combine", &named], "A0801"),
        (vec!["combine", "infer=nowhere.mlpackage", "--output", "y.mlpackage"], "A0501"),
        (vec!["split", text(&infer), "--function", "infer", "--output", "y.mlpackage"], "A0405"),
        (vec!["split", text(&infer), "--function", "main", "--output", text(&infer)], "A0801"),
        (vec!["dedup", "nowhere.mlpackage"], "A0501"),
    ] {
        refused(folder.path(), &arguments, code);
    }
}

/// Step by step as ANEMLL 0.3.5 did: its parts give its own combined weight files.
#[test]
fn packages_that_anemll_made() {
    let shared = workspace().join("../shared/reference/anemll-packages");
    if !shared.exists() {
        println!("skipped: {} is absent", shared.display());
        return;
    }
    let output = tempfile::tempdir().unwrap();
    for (folder, prefix, chunks, lut) in [
        ("tiny-llama-c2", "llama", 2, "none"),
        ("tiny-llama-v2048/c1_lut4_lmh6_emb6", "llama", 1, "4"),
        ("tiny-qwen3-c1", "qwen", 1, "none"),
    ] {
        let input = shared.join(folder);
        succeed(&mut anemll([
            "combine",
            "--chunk",
            &chunks.to_string(),
            "--lut",
            lut,
            "--prefix",
            prefix,
            "--input",
            text(&input),
            "--output",
            text(output.path()),
        ]));
        for entry in std::fs::read_dir(&input).unwrap() {
            let name = entry.unwrap().file_name();
            if !text(name.as_ref()).contains("_FFN_PF") {
                continue;
            }
            let weights = "Data/com.apple.CoreML/weights/weight.bin";
            let ours = std::fs::read(output.path().join(&name).join(weights)).unwrap();
            let theirs = std::fs::read(input.join(&name).join(weights)).unwrap();
            assert!(ours == theirs, "{}", text(name.as_ref()));
        }
    }
}
