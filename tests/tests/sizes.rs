//! Estimated sizes of weight files against those of conversions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_host::cli::{Cli, Command};
use anemll_host::convert::lut::Luts;
use anemll_host::plugins::Plugins;
use anemll_host::sizes::{self, PartSizes};
use anemll_plugin_api::Host;
use anemll_plugin_api::data::ModelInput;
use anemll_shipped as _;
use anemll_tests::{convert, model};
use clap::Parser as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What is estimated from config.json alone.
fn estimate(model: &Path, luts: &[&str]) -> PartSizes {
    let plugins = Plugins::discover(&[]).unwrap();
    let text = std::fs::read_to_string(model.join("config.json")).unwrap();
    let (_, frontend) = plugins.frontend(&text, None).unwrap();
    let input = ModelInput {
        config: serde_json::from_str(&text).unwrap(),
        context: 512,
        batch: 64,
        ..ModelInput::default()
    };
    let description = frontend.describe(&input).unwrap();
    let line = ["anemll", "convert", "--model", "m", "--output", "o"];
    let Command::Convert(arguments) = Cli::try_parse_from(line.iter().chain(luts)).unwrap().command
    else {
        unreachable!("the command is convert")
    };
    let luts = Luts::new(&arguments.luts, false, description.parameters).unwrap();
    let host = Host::quiet();
    sizes::Inventory::read(frontend.as_ref(), &input, &description, &host).unwrap().sizes(&luts)
}

/// Bytes of the weight files of a conversion by id.
fn converted(model: &Path, arguments: &[&str]) -> BTreeMap<String, u64> {
    let output = tempfile::tempdir().unwrap();
    convert(model, output.path(), arguments);
    let report: Value =
        serde_json::from_slice(&std::fs::read(output.path().join("anemll-report.json")).unwrap())
            .unwrap();
    let mut files = BTreeMap::new();
    for file in report["weight_files"].as_array().unwrap() {
        files.insert(file["id"].as_str().unwrap().to_owned(), file["bytes"].as_u64().unwrap());
    }
    files
}

#[track_caller]
fn near(estimated: u64, real: u64) {
    let difference = estimated.abs_diff(real);
    assert!(difference * 50 <= real, "estimated {estimated} bytes, it is {real}");
}

const NONE: &[&str] = &["--lut", "none"];
const PARTS: &[&str] = &["--lut1", "8,tensor", "--lut2", "4", "--lut3", "6,16"];

#[test]
fn chunked_estimates_are_within_two_percent_of_the_files() {
    for (name, luts) in [("tiny-llama", PARTS), ("variants/tied", NONE)] {
        let model = model(name);
        let sizes = estimate(&model, luts);
        let layout = ["--combiner", "chunked", "--chunk", "2", "--runtime", "none"];
        let files = converted(&model, &[&layout, luts].concat());
        near(sizes.embeddings_file(), files["embeddings"]);
        near(sizes.head_file(), files["lm_head"]);
        let chunks = sizes.chunk_files(2).unwrap();
        near(chunks[0], files["chunk_01"]);
        near(chunks[1], files["chunk_02"]);
        near(sizes.chunked_files(2).unwrap(), files.values().sum());
    }
}

#[test]
fn monolithic_estimates_are_within_two_percent_of_the_file() {
    for (name, luts) in [("tiny-llama", NONE), ("variants/all-biases", PARTS)] {
        let model = model(name);
        let sizes = estimate(&model, luts);
        let layout = ["--combiner", "monolithic", "--runtime", "none"];
        let files = converted(&model, &[&layout, luts].concat());
        assert_eq!(files.len(), 1, "{files:?}");
        near(sizes.monolithic_file(), files.values().sum());
    }
}
