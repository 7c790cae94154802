//! `--lut` from the command line to the numbers: what is in the file is what runs, more bits are
//! closer to the original model, and every flag reaches its part.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_mlpackage::Package;
use anemll_tests::{anemll, convert, evaluate, golden, model, succeed};
use half::f16;
use serde_json::Value;
use std::path::Path;

const SIZES: [&str; 4] = ["--context", "320", "--batch", "32"];

fn report(output: &Path) -> Value {
    let text = std::fs::read_to_string(output.join("anemll-report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn weights(report: &Value) -> Vec<&Value> {
    let files = report["weight_files"].as_array().unwrap();
    files.iter().flat_map(|file| file["weights"].as_array().unwrap()).collect()
}

#[test]
fn more_bits_are_closer_to_the_original() {
    let mut divergences = Vec::new();
    for bits in ["3", "4", "6", "8"] {
        let output = tempfile::tempdir().unwrap();
        convert(&model("tiny-llama"), output.path(), &[&SIZES[..], &["--lut", bits]].concat());
        let result = evaluate(output.path(), &golden("tiny-llama"), "logits.npy", &[]);
        divergences.push(result["kl_mean"].as_f64().unwrap());
    }
    assert!(divergences.windows(2).all(|pair| pair[0] > 2.0 * pair[1]), "{divergences:?}");
    assert!(divergences[3] < 0.005, "8 bits: {divergences:?}");
}

/// Factors of output channels keep the numbers, with biases, too, which are added to the scaled products.
/// The rows of these models are of one size: at few bits a table does as well without.
#[test]
fn one_table_with_factors_is_as_close_as_bits_allow() {
    for name in ["tiny-llama", "tiny-qwen2"] {
        let divergence = |lut: &str| {
            let output = tempfile::tempdir().unwrap();
            convert(&model(name), output.path(), &[&SIZES[..], &["--lut2", lut]].concat());
            let result = evaluate(output.path(), &golden(name), "logits.npy", &[]);
            (result["kl_mean"].as_f64().unwrap(), report(output.path()))
        };
        let (alone, _) = divergence("3,tensor");
        let (scaled, found) = divergence("3,scale");
        assert!(scaled < 1.3 * alone, "{name}: {scaled} {alone}");
        let (fine, _) = divergence("8,scale");
        assert!(fine < 0.01, "{name}: {fine}");
        let operations: Vec<String> = found["packages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|package| package["functions"].to_string())
            .collect();
        assert!(operations.iter().any(|counts| counts.contains("mul")), "{operations:?}");
    }
}

#[test]
fn flags_reach_their_parts() {
    for (flags, embeddings, layers, head) in [
        (&["--lut", "4"][..], false, true, true),
        (&["--lut2", "4", "--lut3", "none"], false, true, false),
        (&["--lut2", "4"], false, true, true),
        (&["--lut1", "6", "--lut2", "none", "--lut3", "8"], true, false, true),
        (&["--lut", "4", "--combiner", "monolithic"], true, true, true),
        (
            &["--lut", "4", "--lut-embeddings", "none", "--combiner", "monolithic"],
            false,
            true,
            true,
        ),
    ] {
        let output = tempfile::tempdir().unwrap();
        convert(&model("tiny-llama"), output.path(), &[&SIZES[..], flags].concat());
        let report = report(output.path());
        for weight in weights(&report) {
            let matrix = weight["shape"].as_array().unwrap().len() > 1;
            let expected = match weight["role"].as_str().unwrap() {
                "embedding" => embeddings,
                "head" => head,
                _ => matrix && layers,
            };
            let palettized = weight["operation"] == "constexpr_lut_to_dense";
            assert_eq!(palettized, expected, "{flags:?}: {weight}");
        }
    }
}

/// Indices and tables of the file, put together here, are close to the source; and each group has
/// no more values than its table.
#[test]
fn the_file_decodes_to_the_source() {
    let output = tempfile::tempdir().unwrap();
    convert(&model("tiny-llama"), output.path(), &["--lut", "4,16", "--chunk", "1"]);
    let path = output.path().join("llama_FFN_PF_lut4_chunk_01of01.mlpackage");
    let mut command = anemll();
    command.arg("inspect").arg("--json").arg(&path);
    let inspection: Value = serde_json::from_slice(&succeed(&mut command).stdout).unwrap();
    let package = Package::open(&path).unwrap();
    let file = package.weights().unwrap();
    let record = |holder: &str, name: &str| {
        let found = inspection["records"].as_array().unwrap().iter().find(|weight| {
            weight["holder"] == holder && weight["name"].as_str().unwrap().contains(name)
        });
        let found = found.unwrap();
        let bytes = file.record(found["offset"].as_u64().unwrap()).unwrap();
        let shape: Vec<usize> = found["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap() as usize)
            .collect();
        (shape, file.read(&bytes).unwrap())
    };
    let source = anemll_huggingface::ModelDirectory::open(model("tiny-llama")).unwrap();
    for (mil, tensor) in [
        ("layers_0_mlp_up_proj", "model.layers.0.mlp.up_proj.weight"),
        ("layers_3_self_attn_k_proj", "model.layers.3.self_attn.k_proj.weight"),
    ] {
        let (shape, indices) = record("constexpr_lut_to_dense.indices", mil);
        let (lut_shape, lut) = record("constexpr_lut_to_dense.lut", mil);
        assert_eq!(lut_shape, [shape[0] / 16, 1, 1, 1, 16, 1]);
        let lut: Vec<f32> = lut
            .chunks_exact(2)
            .map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
            .collect();
        let tensor = source.tensor(tensor).unwrap();
        let (original, _) = anemll_huggingface::to_fp16(&tensor, &Default::default()).unwrap();
        let columns = shape[1];
        let (mut error, mut power) = (0.0_f64, 0.0_f64);
        for (at, value) in original.iter().enumerate() {
            // Element i has the bits 4i to 4i + 3, the low ones first.
            let index = (indices[at / 2] >> (4 * (at % 2))) & 0xf;
            let group = at / columns / 16;
            let decoded = lut[group * 16 + usize::from(index)];
            let distance = |entry: f32| (entry - value.to_f32()).abs();
            let nearest = lut[group * 16..group * 16 + 16].iter().map(|entry| distance(*entry));
            assert!(distance(decoded) <= nearest.fold(f32::INFINITY, f32::min), "not the nearest");
            error += f64::from(decoded - value.to_f32()).powi(2);
            power += f64::from(value.to_f32()).powi(2);
        }
        // 16 values for a bell-shaped distribution leave about one percent of its power.
        assert!(error / power < 0.02, "{mil}: {}", error / power);
    }
}

#[test]
fn meta_yaml_says_bits_and_groups() {
    let output = tempfile::tempdir().unwrap();
    convert(&model("tiny-llama"), output.path(), &["--lut2", "4,16", "--lut3", "6,tensor"]);
    let meta = std::fs::read_to_string(output.path().join("meta.yaml")).unwrap();
    for line in [
        "lut_embeddings: none",
        "lut_ffn: 4",
        "lut_ffn_per_channel: 16",
        "lut_lmhead: 6",
        "lut_lmhead_per_channel: 0",
        "ffn: llama_FFN_PF_lut4_chunk_01of02.mlmodelc",
        "lm_head: llama_lm_head_lut6.mlmodelc",
    ] {
        assert!(meta.lines().any(|found| found.trim() == line), "{line} is not in\n{meta}");
    }
}
