//! Bits by measured damage: plans that keep to what is asked, and what cannot be met.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, files, json, model, refusal, succeed};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Converts a tiny model that has a tokenizer.
fn command(output: &Path, arguments: &[&str]) -> Command {
    let mut command = anemll();
    command.arg("convert").arg(model("tiny-llama")).arg("-o").arg(output);
    command.args(["--combiner", "monolithic", "--compiler", "none", "--context", "256"]);
    command.args(arguments);
    command
}

fn report(output: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(output.join("anemll-report.json")).unwrap()).unwrap()
}

/// Bytes and elements of all weights that can have tables.
fn sizes(report: &Value) -> (u64, u64) {
    let weights = report["weight_files"].as_array().unwrap().iter();
    let weights = weights.flat_map(|file| file["weights"].as_array().unwrap());
    let mut sums = (0, 0);
    for weight in weights {
        let shape = weight["shape"].as_array().unwrap();
        let elements: u64 = shape.iter().map(|size| size.as_u64().unwrap()).product();
        if shape.len() >= 2 && elements > 2048 {
            sums.0 += weight["bytes"].as_u64().unwrap();
            sums.1 += elements;
        }
    }
    sums
}

#[test]
fn bits_keep_to_what_is_asked_and_are_chosen_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let told = succeed(&mut command(&output, &["--target-bits", "6"])).stderr;
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("note: bits by measured damage: "), "{told}");
    let found = report(&output);
    assert_eq!(found["options"]["bits"], "6 bits a weight");
    let (bytes, elements) = sizes(&found);
    assert!(bytes * 8 <= elements * 6 && bytes * 8 > elements * 4, "{bytes} {elements}");
    // Nothing is measured again where all is there.
    let before = files(&output);
    let again = succeed(&mut command(&output, &["--target-bits", "6"])).stderr;
    assert!(!String::from_utf8(again).unwrap().contains("measured damage"));
    assert_eq!(files(&output), before);
    // Another goal is another conversion.
    let other = refusal(&mut command(&output, &["--target-bits", "5"]));
    assert!(other.contains("error[A0"), "{other}");
}

#[test]
fn parts_that_are_named_stay_as_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    succeed(&mut command(&output, &["--lut", "auto", "--lut3", "8", "--target-bits", "5"]));
    let found = report(&output);
    assert_eq!(found["options"]["lut"]["head"], "8,8");
    assert_eq!(found["options"]["lut"]["layers"], "auto");
    let weights = found["weight_files"][0]["weights"].as_array().unwrap();
    let mut heads = weights.iter().filter(|weight| weight["role"] == "head");
    assert!(heads.all(|head| {
        let elements: u64 =
            head["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).product();
        head["bytes"].as_u64().unwrap() >= elements
    }));
}

#[test]
fn what_no_plan_meets_is_refused_with_the_least() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let told = refusal(&mut command(&output, &["--target-bits", "2"]));
    assert!(told.contains("no plan is as small as") && told.contains("the least takes"), "{told}");
    for (arguments, reason) in [
        (&["--max-kl", "0"][..], "take a number above 0"),
        (&["--max-kl", "NaN"], "take a number above 0"),
        (&["--target-bits", "-1"], "--target-bits"),
        (&["--budget-mb", "0"], "--budget-mb"),
        (&["--budget-mb", "9", "--target-bits", "4"], "cannot be used with"),
    ] {
        let told = refusal(&mut command(&output, arguments));
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }
    assert!(!output.exists() || std::fs::read_dir(&output).unwrap().next().is_none());
}

/// Without a calibration there is nothing to measure by, and the usual bits are taken.
#[test]
fn without_a_calibration_bits_are_the_usual_ones() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let told = succeed(&mut command(&output, &["--calibration", "none", "--skip-quality"])).stderr;
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("without a calibration bits cannot be measured"), "{told}");
    let dry = json(command(&output, &["--calibration", "none", "--dry-run"]).arg("--json"));
    let written = &report(&output)["weight_files"][0];
    assert_eq!(dry["weight_files"][written["id"].as_str().unwrap()], written["bytes"]);
}
