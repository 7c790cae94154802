//! `diff`: what is equal, what is told of what is not, and the exit code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, model, run, workspace};
use serde_json::Value;
use std::path::Path;

/// Exit code and JSON.
fn diff(first: &Path, second: &Path) -> (Option<i32>, Value) {
    let output = run(anemll().arg("diff").arg(first).arg(second).arg("--json"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.stderr.is_empty(), "{text}");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn length(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

#[test]
fn conversions_of_other_bits_differ_in_weights_only() {
    let (plain, palettized) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let arguments = |lut| ["--combiner", "chunked", "--chunk", "1", "--lut", lut];
    convert(&model("tiny-llama"), plain.path(), &arguments("none"));
    convert(&model("tiny-llama"), palettized.path(), &arguments("6"));
    let first = plain.path().join("llama_FFN_chunk_01of01.mlpackage");
    let second = palettized.path().join("llama_FFN_lut6_chunk_01of01.mlpackage");

    let (code, found) = diff(&first, &first);
    assert_eq!((code, &found["equal"]), (Some(0), &true.into()));
    assert!(found["weights"]["equal"].as_u64().unwrap() > 10);

    let (code, found) = diff(&first, &second);
    assert_eq!((code, &found["equal"]), (Some(1), &false.into()));
    let function = &found["functions"][0];
    assert_eq!(function["present"], "both");
    for kind in ["signature", "changed", "removed", "added"] {
        assert_eq!(length(&function[kind]), 0, "{kind}: {function}");
    }
    assert!(function["equal_operations"].as_u64().unwrap() > 100);
    let weights = &found["weights"];
    let different = weights["different"].as_array().unwrap();
    // Four layers of seven projections; norms and tables are equal.
    assert_eq!(different.len(), 28);
    assert_eq!((length(&weights["removed"]), length(&weights["added"])), (0, 0));
    for weight in different {
        let error = &weight["error"];
        let cosine = error["cosine"].as_f64().unwrap();
        assert!(cosine > 0.99 && cosine < 1.0, "{weight}");
        assert!(error["largest"].as_f64() > error["mean"].as_f64());
    }
    let metadata: Vec<&str> =
        found["model"].as_array().unwrap().iter().map(|c| c["what"].as_str().unwrap()).collect();
    assert!(metadata.contains(&"metadata com.anemll.lut_bits"), "{metadata:?}");
}

#[test]
fn other_contexts_change_operations_and_types() {
    let (short, long) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let convert_with = |folder: &Path, context| {
        let arguments =
            ["--combiner", "monolithic", "--lut", "none", "--context", context, "--batch", "16"];
        convert(&model("tiny-llama"), folder, &arguments);
        folder.join("llama_monolithic.mlpackage")
    };
    let first = convert_with(short.path(), "64");
    let second = convert_with(long.path(), "128");
    let (code, found) = diff(&first, &second);
    assert_eq!(code, Some(1));
    let function = &found["functions"][0];
    let names = |kind: &str| -> Vec<&str> {
        function[kind].as_array().unwrap().iter().map(|c| c["what"].as_str().unwrap()).collect()
    };
    assert!(names("signature").iter().any(|what| what.contains("causal_mask")), "{function}");
    assert!(length(&function["changed"]) > 0);
    // The same graph: nothing comes or goes.
    assert_eq!((length(&function["added"]), length(&function["removed"])), (0, 0), "{function}");
}

#[test]
fn what_apple_compiled_equals_its_source() {
    let pairs = workspace().join("../shared/mlmodelc-pairs");
    if !pairs.is_dir() {
        println!("skipped: {} is not there", pairs.display());
        return;
    }
    let folder = pairs.join("unified_palette_4bit");
    let (code, found) =
        diff(&folder.join("unified_palette_4bit.mlpackage"), &folder.join("expected.mlmodelc"));
    assert_eq!((code, &found["equal"]), (Some(0), &true.into()), "{found}");
    // Two casts of the quantized one stand in another order; that is no difference.
    let plain = pairs.join("silero-vad-unified-v6.0.0/silero-vad-unified-v6.0.0.mlpackage");
    let (code, found) = diff(&plain, &pairs.join("unified_int8/unified_int8.mlpackage"));
    assert_eq!(code, Some(1));
    let function = &found["functions"][0];
    assert_eq!((length(&function["added"]), length(&function["removed"])), (0, 0), "{function}");
    assert_eq!(length(&function["changed"]), 0, "{function}");
    for weight in found["weights"]["different"].as_array().unwrap() {
        assert!(weight["error"]["cosine"].as_f64().unwrap() > 0.999, "{weight}");
    }
}

#[test]
fn failures_say_so_on_standard_error() {
    let output = run(anemll().arg("diff").args(["/no/such/a", "/no/such/b"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("error[A0501]"));
}
