//! `sweep`: every form is what `convert` makes with its flags, and what no weight can have is refused
//! before any work.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, json, model, refusal, succeed};
use serde_json::Value;
use std::process::Command;

fn sweep(arguments: &[&str]) -> Command {
    let mut command = anemll();
    command.arg("sweep").arg(model("tiny-llama")).args(arguments);
    command
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

#[test]
fn a_form_is_what_convert_makes_with_its_flags() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("sweep.html");
    let page_name = page.to_str().unwrap();
    let few = ["--bits", "2,6", "--group", "8,tensor", "--max-tokens", "400"];
    let found = json(sweep(&few).args(["--json", "--html", page_name]));
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["lut"].as_str().unwrap()).collect();
    assert_eq!(names, ["2,8", "2,tensor", "6,8", "6,tensor"]);
    assert!(number(&rows[0], "kl_mean") > number(&rows[2], "kl_mean"), "{found}");
    assert!(rows.iter().all(|row| number(row, "kl_p99") > number(row, "kl_mean")), "{found}");
    // The nearest is always in the front, and so is the smallest.
    let by = |key: &str| rows.iter().min_by(|a, b| number(a, key).total_cmp(&number(b, key)));
    assert_eq!(by("kl_mean").unwrap()["front"], true);
    let smallest = by("bytes").unwrap()["bytes"].clone();
    assert!(rows.iter().any(|row| row["bytes"] == smallest && row["front"] == true), "{found}");

    let output = folder.path().join("out");
    let mut convert = anemll();
    convert.arg("convert").arg(model("tiny-llama")).arg("-o").arg(&output);
    convert.args(rows[2]["flags"].as_str().unwrap().split(' '));
    succeed(&mut convert);
    let report = std::fs::read(output.join("anemll-report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let files = report["weight_files"].as_array().unwrap();
    let bytes: u64 = files.iter().map(|file| file["bytes"].as_u64().unwrap()).sum();
    assert_eq!(rows[2]["bytes"], bytes);
    let weights = files.iter().flat_map(|file| file["weights"].as_array().unwrap());
    let palettized = weights.filter(|weight| weight["operation"] != "const");
    let bytes: u64 = palettized.map(|weight| weight["bytes"].as_u64().unwrap()).sum();
    assert_eq!(rows[2]["part_bytes"], bytes);
    // The same distance, but for the tail that a sweep takes as one outcome.
    let mut eval = anemll();
    eval.args(["eval", "--json", "--max-tokens", "400"]).arg(&output);
    let compared = json(eval.arg("--model").arg(model("tiny-llama")));
    let (ours, theirs) = (number(&rows[2], "kl_mean"), number(&compared, "kl_mean"));
    assert!((ours / theirs - 1.0).abs() < 0.1, "{ours} {theirs}");

    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<g class=\"mark").count(), 4);
}

#[test]
fn statistics_that_are_given_take_the_place_of_a_calibration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("its statistics");
    let name = file.to_str().unwrap();
    let mut calibrate = anemll();
    calibrate.arg("calibrate").arg(model("tiny-llama")).args(["--tokens", "300", "-o", name]);
    succeed(calibrate.arg("--hessian"));
    let few = ["--bits", "3", "--group", "8", "--max-tokens", "200", "--json"];
    let kl = |found: &Value| number(&found["rows"][0], "kl_mean");
    let given = json(sweep(&few).args(["--calibration", name]));
    let flags = given["rows"][0]["flags"].as_str().unwrap();
    assert!(flags.ends_with(&format!(" --calibration '{name}'")), "{flags}");
    let (none, own) = (json(sweep(&few).args(["--calibration", "none"])), json(&mut sweep(&few)));
    assert!(none["rows"][0]["flags"].as_str().unwrap().ends_with(" --calibration none"), "{none}");
    assert!(kl(&given) < kl(&none) && kl(&own) < kl(&none), "{given} {none} {own}");
    assert_ne!(kl(&given), kl(&own));

    let mut other = anemll();
    other.arg("sweep").arg(model("tiny-qwen3")).args(few).args(["--calibration", name]);
    assert!(refusal(&mut other).contains("A0310"));
    // Of the same weights, which mean something else with another epsilon.
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(model("tiny-llama").join(file), copy.join(file)).unwrap();
    }
    let config = std::fs::read_to_string(copy.join("config.json")).unwrap();
    std::fs::write(copy.join("config.json"), config.replace("1e-05", "1e-04")).unwrap();
    let mut changed = anemll();
    changed.arg("sweep").arg(&copy).args(few).args(["--calibration", name]);
    let told = refusal(&mut changed);
    assert!(told.contains("A0310") && told.contains("are of another model"), "{told}");
    assert!(!told.contains("running the original"), "refused before any work: {told}");
}

#[test]
fn lines_come_as_forms_are_ready_and_other_parts_stay() {
    let few = ["--bits", "4", "--group", "8", "--max-tokens", "200", "--quantizer", "lut"];
    let output = succeed(sweep(&few).args(["--part", "head", "--arch", "llama", "--head", "tied"]));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("form ") && lines[0].ends_with("convert with"), "{text}");
    assert!(lines[1].starts_with("4,8 "), "{text}");
    assert!(
        lines[1].ends_with("--arch llama --head tied --quantizer lut --lut none --lut3 4,8"),
        "{text}"
    );
    assert!(text.contains("16 bits: ") && text.contains("best for their size: 4,8\n"), "{text}");
}

#[test]
fn what_no_weight_can_have_is_refused_before_any_work() {
    let refused = |arguments: &[&str], text: &str| {
        let error = refusal(&mut sweep(arguments));
        assert!(error.contains(text), "expected {text}:\n{error}");
        assert!(!error.contains("running"), "{error}");
    };
    refused(&["--bits", "4,5"], "--lut2 5,8: no table has this number of bits");
    refused(&["--bits", "4", "--group", "8,99999"], "in the form 4,99999");
    refused(&["--bits", "4", "--group", "x"], "not a number of output channels");
    refused(&["--bits", "4,4", "--group", "8"], "asked for twice");
    refused(&["--bits", "x"], "invalid value");
    refused(&["--quantizer", "none"], "--quantizer none");
    refused(&["--html", "/no/such/folder/page.html"], "error[A0804]");
    refused(&["--max-tokens", "0"], "at least 2 are needed");
    refused(&["--text", "no such file"], "error[A0707]");
}
