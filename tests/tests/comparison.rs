//! `eval --model`: what it says is what transformers and numpy find, and what cannot be compared is
//! refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{
    anemll, convert, converted, copy_of_converted, example, json, model, refusal, succeed,
    workspace,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn reference(path: &str) -> PathBuf {
    workspace().join("tests/reference").join(path)
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

/// A conversion of the tiny Llama with 96 tokens of context.
fn conversion(arguments: &[&str]) -> PathBuf {
    let sizes = ["--context", "96", "--batch", "32", "--combiner", "chunked"];
    converted(&model("tiny-llama"), &[&sizes[..], arguments].concat())
}

fn compare(conversion: &Path, arguments: &[&str]) -> Value {
    let mut command = anemll();
    command.args(["eval", "--json"]).arg(conversion);
    json(command.arg("--model").arg(model("tiny-llama")).args(arguments))
}

/// Evenly spaced weights, which numpy makes as well.
#[test]
fn it_says_what_transformers_and_numpy_find() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut command = anemll();
    command.arg("--plugin").arg(example("uniform"));
    command.args(["convert", "--quantizer", "uniform", "--combiner", "chunked"]);
    command.args(["--context", "96", "--batch", "32", "--compiler", "none"]);
    succeed(command.arg(model("tiny-llama")).arg("-o").arg(&output));
    let text = reference("perplexity/text.txt");
    let text = ["--text", text.to_str().unwrap()];
    let found = compare(&output, &text);
    is_golden(&found);
    // Products that do not fit at once are made one after the other.
    let small = compare(&output, &[&text[..], &["--memory", "1"]].concat());
    is_golden(&small);
    assert_eq!(small["tensors"], found["tensors"]);
    assert_eq!(small["notes"], json!([]));
    // And what does not fit at all is said, not replaced by another error.
    let none = compare(&output, &[&text[..], &["--memory", "0"]].concat());
    let notes = none["notes"].as_array().unwrap();
    let told = notes[0].as_str().unwrap();
    let unknown = none["tensors"].as_array().unwrap().len() - 1;
    assert!(told.contains(&format!("output error of {unknown} matrices is unknown")), "{told}");
    assert!(told.contains("the products of every two inputs take 2.83 MB"), "{told}");
    let known = none["tensors"].as_array().unwrap().iter();
    let known: Vec<_> = known.filter(|one| !one["output_error"].is_null()).collect();
    assert!(notes.len() == 1 && known.len() == 1 && known[0]["role"] == "embedding", "{none}");
}

fn is_golden(found: &Value) {
    let golden = std::fs::read(reference("comparison/tiny-llama.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();

    for (ours, theirs) in [("tokens", "tokens"), ("scored", "scored"), ("words", "words")] {
        assert_eq!(found[ours], golden[theirs], "{ours}");
    }
    assert_eq!(found["window_tokens"], golden["context"]);
    // The conversion computes with 16-bit floats.
    for (ours, theirs, share) in [
        ("kl_mean", "kl_mean", 0.01),
        ("kl_p99", "kl_p99", 0.03),
        ("top5_agreement", "top5", 0.005),
    ] {
        let (ours, theirs) = (number(found, ours), number(&golden, theirs));
        assert!((ours / theirs - 1.0).abs() < share, "{ours} {theirs}");
    }
    let top1 = (number(found, "top1_agreement"), number(&golden, "top1"));
    assert!((top1.0 - top1.1).abs() < 0.008, "{top1:?}");
    for (ours, theirs) in [("conversion", "nll"), ("original", "original_nll")] {
        let off = number(&found[ours], "nll_mean") - number(&golden, theirs);
        assert!(off.abs() < 2e-3, "{ours}: {off}");
    }
    let lost = number(found, "nats_per_word") - number(&golden, "nats_per_word");
    assert!(lost.abs() < 5e-3, "{lost}");

    let expected = golden["tensors"].as_object().unwrap();
    let tensors = found["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), expected.len());
    for one in tensors {
        let name = one["tensor"].as_str().unwrap();
        let role = match one["role"].as_str().unwrap() {
            role @ ("embedding" | "head") => role,
            _ => "matrix",
        };
        let expected = &expected[&format!("{name} {role}")];
        let sqnr = number(one, "sqnr_db") - number(expected, "sqnr_db");
        assert!(sqnr.abs() < 0.02, "{one} {expected}");
        let error = number(one, "output_error") / number(expected, "output_error");
        assert!((error - 1.0).abs() < 0.01, "{one} {expected}");
        assert_eq!(one["form"], "4-bit palettized");
    }
}

#[test]
fn sixteen_bits_are_next_to_the_original_and_spans_cover_a_window() {
    let found = compare(&conversion(&["--lut", "none"]), &["--max-tokens", "300"]);
    assert!(number(&found, "kl_mean") < 1e-3, "{found}");
    assert_eq!((&found["text"], &found["tokens"]), (&"built-in".into(), &300.into()));
    let layers = found["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 4);
    for layer in layers {
        let off = number(layer, "relative_l2");
        assert!(off > 1e-5 && off < 2e-3, "{layer}");
        assert!((number(layer, "norm_ratio") - 1.0).abs() < 2e-3, "{layer}");
    }
    let spans = found["by_position"].as_array().unwrap();
    assert_eq!((&spans[0]["first"], spans.len()), (&0.into(), 32));
    let tokens: u64 = spans.iter().map(|span| span["tokens"].as_u64().unwrap()).sum();
    assert_eq!(found["scored"], tokens);
    for one in found["tensors"].as_array().unwrap() {
        assert!(number(one, "output_error") < 1e-3, "{one}");
        assert_eq!(one["form"], "16-bit");
    }
}

/// Weights that an option multiplies are compared with the model's, multiplied alike.
#[test]
fn options_of_the_architecture_hold_for_the_original_too() {
    let scaled = ["--lut", "none", "--option", "llama.residual_scale=0.25"];
    let output = conversion(&scaled);
    let found = compare(&output, &["--max-tokens", "100"]);
    assert!(number(&found, "kl_mean") < 1e-3 && found["notes"] == json!([]), "{found}");
    for one in found["tensors"].as_array().unwrap() {
        assert!(one["sqnr_db"].is_null() || number(one, "sqnr_db") > 50.0, "{one}");
    }
    let folder = tempfile::tempdir().unwrap();
    let sizes = ["--context", "96", "--batch", "32", "--combiner", "chunked"];
    copy_of_converted(&model("tiny-llama"), folder.path(), &[&sizes[..], &scaled].concat());
    std::fs::remove_file(folder.path().join("anemll-report.json")).unwrap();
    let unknown = compare(folder.path(), &["--max-tokens", "100"]);
    let note = unknown["notes"][0].as_str().unwrap();
    assert!(note.contains("no anemll-report.json that names its options"), "{note}");
}

/// A rotated conversion is compared with the rotated original, whether its records are there or not.
#[test]
fn rotated_weights_are_compared_as_they_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut command = anemll();
    command.args(["convert", "--lut", "6", "--context", "96", "--batch", "32"]);
    succeed(command.arg(model("tiny-llama")).arg("-o").arg(&output));
    let text = reference("perplexity/text.txt");
    let few = ["--max-tokens", "200", "--text", text.to_str().unwrap()];
    let with_records = compare(&output, &few);
    for one in with_records["tensors"].as_array().unwrap() {
        assert!(number(one, "sqnr_db") > 25.0 && number(one, "output_error") < 0.06, "{one}");
    }
    // In the basis of the rotation: in another one, the streams would have nothing in common.
    let layers = with_records["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 4);
    for layer in layers {
        assert!(number(layer, "relative_l2") < 0.2, "{layer}");
    }
    std::fs::remove_dir_all(output.join(".anemll")).unwrap();
    assert_eq!(compare(&output, &few)["tensors"], with_records["tensors"]);
}

#[test]
fn the_page_and_the_text_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let mut command = anemll();
    command.arg("eval").arg(conversion(&["--lut", "2", "--quantizer", "lut"]));
    command.arg("--model").arg(model("tiny-llama")).args(["--max-tokens", "300", "--html"]);
    let output = succeed(command.arg(&page));
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("wrote ") && error.contains("page.html"), "{error}");
    assert!(text.contains("\nlost ") && text.contains("the worst 10 of 30 matrices"), "{text}");
    let page = std::fs::read_to_string(page).unwrap();
    let kl = text.lines().find_map(|line| line.strip_prefix("KL           mean ")).unwrap();
    let mean = kl.split(',').next().unwrap();
    assert!(page.contains(&format!("<dd>{mean}<small>")), "{mean}");
    assert_eq!(page.matches("role=\"img\"").count(), 4);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let exact = conversion(&["--lut", "none"]);
    let refused = |conversion: &Path, original: &str, arguments: &[&str], text: &str| {
        let mut command = anemll();
        command.arg("eval").arg(conversion).arg("--model").arg(model(original));
        let error = refusal(command.args(arguments));
        assert!(error.contains(text), "expected {text}:\n{error}");
    };
    refused(&exact, "tiny-qwen2", &[], "made from another model: its SHA-256 is");
    let folder = tempfile::tempdir().unwrap();
    // Without a record of its model, a conversion is known by its vocabulary.
    let copy = folder.path().join("copy");
    let arguments = ["--context", "96", "--batch", "32", "--combiner", "chunked", "--lut", "none"];
    copy_of_converted(&model("tiny-llama"), &copy, &arguments);
    std::fs::remove_file(copy.join("anemll-report.json")).unwrap();
    refused(&copy, "tiny-qwen2", &[], "made from another model: its SHA-256 is");
    let meta = std::fs::read_to_string(copy.join("meta.yaml")).unwrap();
    std::fs::write(copy.join("meta.yaml"), meta.replace("# source_sha256", "# was")).unwrap();
    let other = "variants/untied-head-odd-vocab";
    refused(&copy, other, &[], "the model a vocabulary of");

    let short = folder.path().join("short.txt");
    std::fs::write(&short, "").unwrap();
    refused(&exact, "tiny-llama", &["--text", short.to_str().unwrap()], "at least 2 are needed");
    refused(&exact, "tiny-llama", &["--max-tokens", "0"], "at least 2 are needed");
    refused(&exact, "tiny-llama", &["--text", "no such file"], "error[A0707]");
    let nowhere = folder.path().join("no/page.html");
    refused(&exact, "tiny-llama", &["--html", nowhere.to_str().unwrap()], "error[A0804]");
    let taken = folder.path().to_str().unwrap();
    refused(&exact, "tiny-llama", &["--html", taken], "a folder has this name");
    refused(&exact, "tiny-llama", &["--against", "out"], "cannot be used with");
    refused(&exact, "tiny-llama", &["--path", "infer"], "cannot be used with");
    for flag in [["--arch", "llama"], ["--head", "tied"], ["--scratch", "/tmp"]] {
        let mut command = anemll();
        command.arg("eval").arg(&exact).arg("--text").arg(&short).args(flag);
        let error = refusal(&mut command);
        assert!(error.contains("--arch, --head and --scratch need --model"), "{error}");
    }

    // The winner alone is no distribution to compare; evaluation functions give all logits.
    let largest = folder.path().join("largest");
    convert(&model("tiny-llama"), &largest, &[&arguments[..], &["--argmax"]].concat());
    assert!(number(&compare(&largest, &["--max-tokens", "64"]), "kl_mean") < 1e-3);
}
