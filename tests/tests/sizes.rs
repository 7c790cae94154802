//! Estimated sizes of weight files against those of conversions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_host::cli::{Cli, Command};
use anemll_host::plugins::Plugins;
use anemll_host::sizes;
use anemll_pipeline::lut::Luts;
use anemll_plugin_api::data::{LayoutRequest, ModelInput};
use anemll_plugin_api::{ComponentOptions, Host};
use anemll_shipped as _;
use anemll_tests::{convert, model};
use clap::Parser as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What is estimated from config.json alone: the bytes of a layout's weight files by id.
fn estimate(
    model: &Path,
    luts: &[&str],
    combiner: &str,
    options: &ComponentOptions,
) -> BTreeMap<String, u64> {
    let plugins = Plugins::discover(&[]).unwrap();
    let text = std::fs::read_to_string(model.join("config.json")).unwrap();
    let (_, frontend) = plugins.frontend(&text, None, &ComponentOptions::new()).unwrap();
    let input = ModelInput {
        config: serde_json::from_str(&text).unwrap(),
        context: 512,
        batch: 64,
        ..ModelInput::default()
    };
    let host = Host::quiet();
    let opened = frontend.open(&input, &host).unwrap();
    let description = opened.describe();
    let line = ["anemll", "convert", "--model", "m", "--output", "o"];
    let Command::Convert(arguments) = Cli::try_parse_from(line.iter().chain(luts)).unwrap().command
    else {
        unreachable!("the command is convert")
    };
    let luts = Luts::new(&(&arguments.luts).into(), false, description.parameters).unwrap();
    let inventory = sizes::Inventory::read(opened.as_ref(), &description, &host).unwrap();
    let sizes = inventory.sizes(&luts);
    let combiner = plugins.combiner(combiner, options).unwrap();
    let layout = combiner.layout(&description, &LayoutRequest::default()).unwrap();
    let bytes = |functions: &[String]| {
        let all = layout.functions.iter().filter(|function| functions.contains(&function.id));
        sizes.file(&all.collect::<Vec<_>>())
    };
    layout.weight_files.iter().map(|file| (file.id.clone(), bytes(&file.functions))).collect()
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
fn near(estimated: &BTreeMap<String, u64>, real: &BTreeMap<String, u64>) {
    assert!(estimated.keys().eq(real.keys()), "{estimated:?} {real:?}");
    for (id, real) in real {
        let estimated = estimated[id];
        let difference = estimated.abs_diff(*real);
        assert!(difference * 50 <= *real, "{id}: estimated {estimated} bytes, it is {real}");
    }
}

const NONE: &[&str] = &["--lut", "none"];
const PARTS: &[&str] = &["--lut1", "8,tensor", "--lut2", "4", "--lut3", "6,16"];

#[test]
fn chunked_estimates_are_within_two_percent_of_the_files() {
    for (name, luts) in [("tiny-llama", PARTS), ("variants/tied", NONE)] {
        let model = model(name);
        let estimated =
            estimate(&model, luts, "chunked", &ComponentOptions::new().with("chunks", 2));
        let layout = ["--combiner", "chunked", "--chunk", "2", "--runtime", "none"];
        near(&estimated, &converted(&model, &[&layout, luts].concat()));
    }
}

#[test]
fn monolithic_estimates_are_within_two_percent_of_the_file() {
    for (name, luts) in [("tiny-llama", NONE), ("variants/all-biases", PARTS)] {
        let model = model(name);
        let estimated = estimate(&model, luts, "monolithic", &ComponentOptions::new());
        let layout = ["--combiner", "monolithic", "--runtime", "none"];
        near(&estimated, &converted(&model, &[&layout, luts].concat()));
    }
}
