//! `eval --text`: the perplexity is that of `transformers`, and the distance of two conversions is
//! that of their logits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{
    anemll, convert, copy_of_converted, evaluate, golden, model, run, succeed, workspace,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn text() -> PathBuf {
    workspace().join("tests/reference/perplexity/text.txt")
}

/// A conversion of 96 tokens, as the golden perplexities.
fn conversion(name: &str, arguments: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sizes = ["--context", "96", "--batch", "32", "--combiner", "chunked"];
    copy_of_converted(&model(name), folder.path(), &[&sizes[..], arguments].concat());
    folder
}

fn measure(conversion: &Path, arguments: &[&str]) -> Value {
    let mut command = anemll();
    command.args(["eval", "--json", "--meta"]).arg(conversion.join("meta.yaml")).args(arguments);
    serde_json::from_slice(&succeed(&mut command).stdout).unwrap()
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or(f64::NAN)
}

#[test]
fn the_perplexity_is_that_of_transformers() {
    let text = text();
    for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
        let golden = workspace().join("tests/reference/perplexity").join(format!("{name}.json"));
        let golden: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
        let conversion = conversion(name, &["--lut", "none"]);
        let found = measure(conversion.path(), &["--text", text.to_str().unwrap()]);
        for key in ["tokens", "windows", "scored"] {
            assert_eq!(found[key], golden[key], "{key}");
        }
        assert_eq!(found["window_tokens"], golden["context"]);
        assert_eq!(found["not_finite"], 0);
        // What 16-bit floats change; a token more or less in a window would change far more.
        let off = (number(&found, "nll_mean") - number(&golden, "nll_mean")).abs();
        assert!(off < 1e-3, "{found} {golden}");
        let perplexity = number(&found, "nll_mean").exp();
        assert!((number(&found, "perplexity") - perplexity).abs() < 1e-9);
    }
}

#[test]
fn infer_and_line_ends_change_nothing() {
    let text = text();
    let conversion = conversion("tiny-llama", &["--lut", "none"]);
    let windows_text = conversion.path().join("windows.txt");
    let contents = std::fs::read_to_string(&text).unwrap().replace('\n', "\r\n");
    std::fs::write(&windows_text, contents).unwrap();
    let most = ["--max-tokens", "150", "--text"];
    let evaluated = measure(conversion.path(), &[&most[..], &[text.to_str().unwrap()]].concat());
    let path = ["--path", "infer", windows_text.to_str().unwrap()];
    let inferred = measure(conversion.path(), &[&path[..2], &most, &path[2..]].concat());
    assert_eq!((&evaluated["tokens"], &evaluated["scored"]), (&150.into(), &150.into()));
    assert_eq!(inferred["scored"], evaluated["scored"]);
    let off = (number(&inferred, "nll_mean") - number(&evaluated, "nll_mean")).abs();
    assert!(off < 1e-3, "{inferred} {evaluated}");
}

#[test]
fn the_distance_between_conversions_is_that_of_their_logits() {
    let sizes = ["--context", "320", "--batch", "32", "--combiner", "chunked"];
    let [exact, rough] = ["none", "4"].map(|lut| {
        let folder = tempfile::tempdir().unwrap();
        copy_of_converted(
            &model("tiny-llama"),
            folder.path(),
            &[&sizes[..], &["--lut", lut]].concat(),
        );
        folder
    });
    let golden = golden("tiny-llama");
    let ids = golden.join("ids.npy");
    let meta = exact.path().join("meta.yaml");
    let against = ["--tokens", ids.to_str().unwrap(), "--against", meta.to_str().unwrap()];

    let same = measure(exact.path(), &against);
    assert_eq!(number(&same["against"], "kl_mean"), 0.0);
    assert_eq!(number(&same["against"], "top1_agreement"), 1.0);
    assert_eq!(same["against"]["nll_mean"], same["nll_mean"]);

    // One window, and so the positions of the reference but the last.
    let found = measure(rough.path(), &against);
    let reference = evaluate(rough.path(), &golden, "logits.npy", &[]);
    assert_eq!(found["scored"], reference["positions"].as_u64().unwrap() - 1);
    let positions = reference["per_position"].as_array().unwrap();
    let scored = &positions[..positions.len() - 1];
    let mean =
        scored.iter().map(|position| number(position, "kl")).sum::<f64>() / scored.len() as f64;
    let kl = number(&found["against"], "kl_mean");
    assert!(mean > 0.01 && (kl / mean - 1.0).abs() < 0.02, "{kl} {mean}");
    let agreement = number(&found["against"], "top1_agreement");
    assert!((agreement - number(&reference, "top1_agreement")).abs() < 0.02, "{found}");
    assert_eq!(found["against"]["nll_mean"], same["nll_mean"], "the reference is the same");
    assert_ne!(found["nll_mean"], same["nll_mean"]);
}

/// Only as much as is asked for is read and tokenized, also of one word of 60 MB.
#[test]
fn a_text_is_tokenized_as_far_as_it_is_needed() {
    let conversion = conversion("tiny-llama", &["--lut", "none"]);
    let short = conversion.path().join("short.txt");
    let long = conversion.path().join("long.txt");
    for unit in ["the", "One day the old man went into the wood. "] {
        std::fs::write(&short, unit.repeat(2000)).unwrap();
        std::fs::write(&long, unit.repeat(60_000_000 / unit.len())).unwrap();
        let [first, second] = [&short, &long].map(|path| {
            measure(conversion.path(), &["--max-tokens", "200", "--text", path.to_str().unwrap()])
        });
        assert_eq!(first["tokens"], 200);
        assert_eq!(first, second);
    }
}

#[test]
fn arrays_that_promise_too_much_are_refused() {
    let conversion = conversion("tiny-llama", &["--lut", "none"]);
    let meta = conversion.path().join("meta.yaml");
    let header = |shape: &str| {
        let text = format!("{{'descr': '<i4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes());
        bytes
    };
    let refused = |contents: &[u8], size: u64, text: &str| {
        let path = conversion.path().join("ids.npy");
        std::fs::write(&path, contents).unwrap();
        if size > 0 {
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
        }
        let output = run(anemll().args(["eval", "--meta"]).arg(&meta).arg("--tokens").arg(&path));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("error[A0707]") && error.contains(text), "{error}");
    };
    refused(&header("(1000000000000,)"), 0, "the file has 0");
    let whole = header("(1073741824,)");
    refused(&whole, whole.len() as u64 + (4 << 30), "at most 67108864 elements");
    let mut nested = b"\x93NUMPY\x01\x00\x21\x00".to_vec();
    nested.extend([b'('; 33]);
    refused(&nested, 0, "not that of a plain array");

    // A reference of another model is refused before its logits are read.
    let ids = golden("tiny-llama").join("ids.npy");
    let path = conversion.path().join("logits.npy");
    let wide = header("(300, 1000000)");
    std::fs::write(&path, &wide).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(wide.len() as u64 + 4 * 300 * 1_000_000).unwrap();
    let sizes = tempfile::tempdir().unwrap();
    convert(&model("tiny-llama"), sizes.path(), &["--context", "320", "--batch", "32"]);
    let mut command = anemll();
    command.arg("eval").arg(sizes.path()).arg("--tokens").arg(&ids).arg("--reference").arg(&path);
    let output = run(&mut command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("has 1024 logits, the reference 1000000"), "{error}");
}

#[test]
fn what_cannot_be_measured_is_one_error() {
    let conversion = conversion("tiny-llama", &["--lut", "none", "--argmax"]);
    let meta = conversion.path().join("meta.yaml");
    let refused = |arguments: &[&str], code: i32, text: &str| {
        let mut command = anemll();
        let output = run(command.args(["eval", "--meta"]).arg(&meta).args(arguments));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(text), "expected {text}:\n{error}");
        let count = error.matches("error[").count() + error.matches("error: ").count();
        assert_eq!(count, 1, "one error only:\n{error}");
        assert_eq!(output.stdout, b"");
    };
    let file = |name: &str, contents: &[u8]| {
        let path = conversion.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let text = text().to_str().unwrap().to_owned();
    let ids = golden("tiny-llama").join("ids.npy").to_str().unwrap().to_owned();
    refused(&[], 2, "--tokens <IDS.npy>|--text <FILE>");
    refused(&["--text", &text, "--tokens", &ids], 2, "cannot be used with");
    refused(&["--text", &text, "--reference", &ids], 2, "cannot be used with");
    refused(
        &["--tokens", &ids, "--reference", &ids, "--against", meta.to_str().unwrap()],
        2,
        "cannot be used with",
    );
    refused(&["--text", &text, "--path", "prefill"], 1, "error[A0801]");
    refused(&["--text", &text, "--path", "infer"], 1, "--argmax");
    refused(&["--text", "no such file"], 1, "error[A0707]");
    refused(&["--text", conversion.path().to_str().unwrap()], 1, "not a regular file");
    refused(&["--text", &file("latin", b"caf\xe9 au lait")], 1, "not UTF-8, from byte 3 on");
    refused(&["--text", &file("empty", b"")], 1, "at least 2 are needed");
    refused(&["--text", &text, "--max-tokens", "0"], 1, "at least 2 are needed");
    refused(&["--tokens", &ids, "--max-tokens", "1"], 1, "at least 2 are needed");
    refused(&["--text", &text, "--against", "no such meta.yaml"], 1, "error[A0901]");

    // Another vocabulary.
    let other = tempfile::tempdir().unwrap();
    let sizes = ["--context", "96", "--batch", "32", "--lut", "none", "--combiner", "chunked"];
    convert(&model("variants/untied-head-odd-vocab"), other.path(), &sizes);
    let other = other.path().join("meta.yaml");
    let arguments = ["--text", &text, "--against", other.to_str().unwrap()];
    refused(&arguments, 1, "another conversion of the same model");
}
