//! What a conversion leaves: names, sharing, the same bytes each time, dynamic and static plugins.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, convert_command, files, model, succeed};
use std::path::Path;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn weight_file(package: &Path) -> std::path::PathBuf {
    package.join("Data/com.apple.CoreML/weights/weight.bin")
}

#[test]
fn chunked_packages_have_the_names_that_the_apps_expect() {
    let output = tempfile::tempdir().unwrap();
    convert(&model("tiny-llama"), output.path(), &["--chunk", "2"]);
    let names = names(output.path());
    for expected in [
        "llama_embeddings.mlpackage",
        "llama_FFN_chunk_01of02.mlpackage",
        "llama_FFN_chunk_02of02.mlpackage",
        "llama_prefill_chunk_01of02.mlpackage",
        "llama_prefill_chunk_02of02.mlpackage",
        "llama_FFN_PF_chunk_01of02.mlpackage",
        "llama_FFN_PF_chunk_02of02.mlpackage",
        "llama_lm_head.mlpackage",
        "meta.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "anemll-report.json",
    ] {
        assert!(names.iter().any(|name| name == expected), "{expected} is missing: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("staging")), "{names:?}");
}

#[cfg(unix)]
#[test]
fn parts_and_combined_packages_share_one_weight_file() {
    use std::os::unix::fs::MetadataExt as _;
    let output = tempfile::tempdir().unwrap();
    convert(&model("tiny-llama"), output.path(), &["--chunk", "2"]);
    let inode =
        |name: &str| std::fs::metadata(weight_file(&output.path().join(name))).unwrap().ino();
    let combined = inode("llama_FFN_PF_chunk_01of02.mlpackage");
    assert_eq!(combined, inode("llama_FFN_chunk_01of02.mlpackage"));
    assert_eq!(combined, inode("llama_prefill_chunk_01of02.mlpackage"));
    assert_ne!(combined, inode("llama_FFN_PF_chunk_02of02.mlpackage"));
}

/// The combined weight file is what infer alone needs, no byte more.
#[test]
fn prefill_and_evaluation_add_nothing_to_the_weights() {
    for layout in ["chunked", "monolithic"] {
        let output = tempfile::tempdir().unwrap();
        convert(&model("tiny-llama"), output.path(), &["--combiner", layout]);
        for name in names(output.path()).iter().filter(|name| name.ends_with(".mlpackage")) {
            let package = output.path().join(name);
            if name.contains("prefill") {
                continue;
            }
            let mut command = anemll();
            command.arg("inspect").arg(&package).arg("--json");
            let inspection: serde_json::Value =
                serde_json::from_slice(&succeed(&mut command).stdout).unwrap();
            let mut end = 0;
            let mut used = 64;
            for weight in inspection["records"].as_array().unwrap() {
                let bytes = weight["bytes"].as_u64().unwrap();
                let in_infer = weight["functions"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|function| function == "infer" || function == "main");
                assert!(in_infer, "{name}: {} is not infer's", weight["name"]);
                end = end.max(weight["offset"].as_u64().unwrap() + 64 + bytes);
                used += 64 + bytes.next_multiple_of(64);
            }
            let size = std::fs::metadata(weight_file(&package)).unwrap().len();
            assert_eq!(size, end, "{name}: the file ends with the last record");
            assert!(size <= used, "{name}: {size} bytes for {used} of records");
        }
    }
}

#[test]
fn the_same_conversion_gives_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    convert(&model("variants/all-biases"), first.path(), &[]);
    let mut command = convert_command(&model("variants/all-biases"), second.path(), &[]);
    succeed(command.env("RAYON_NUM_THREADS", "1"));
    assert_same_packages(first.path(), second.path());
}

/// Equal but for the command line in meta.yaml, and the record, which knows the libraries.
fn assert_same_packages(first: &Path, second: &Path) {
    let packages = |folder: &Path| -> Vec<_> {
        files(folder)
            .into_iter()
            .filter(|(name, _)| {
                !["meta.yaml", ".anemll/conversion.json"]
                    .contains(&name.to_str().unwrap_or_default())
            })
            .collect()
    };
    let (first, second) = (packages(first), packages(second));
    let list = |files: &[(std::path::PathBuf, Vec<u8>)]| -> Vec<_> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(list(&first), list(&second));
    for ((name, mine), (_, theirs)) in first.iter().zip(&second) {
        assert!(mine == theirs, "{} differs", name.display());
    }
}

mod linked_in {
    //! The same plugins, once from their libraries and once linked in, in this process.

    use super::*;
    use anemll_host::cli::{Cli, Command};
    use anemll_pipeline::plugins::{Origin, Plugins};
    use anemll_shipped as _;
    use clap::Parser as _;

    fn convert_in_process(plugins: &Plugins, output: &Path, combiner: &str, lut: &str) {
        let model = model("variants/untied-head-odd-vocab");
        let cli = Cli::try_parse_from([
            "anemll",
            "convert",
            "--model",
            model.to_str().unwrap(),
            "--output",
            output.to_str().unwrap(),
            "--combiner",
            combiner,
            "--lut",
            lut,
            "--no-tokenizer",
        ])
        .unwrap();
        let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
        anemll_pipeline::run(&(&**arguments).into(), plugins, "anemll convert", &|_| {})
            .unwrap_or_else(|error| panic!("{}", anemll_host::error::render(&error)));
    }

    #[test]
    fn libraries_and_linked_in_plugins_give_the_same_bytes() {
        let builtin = Plugins::discover(&[]).unwrap();
        assert!(builtin.entries().iter().all(|entry| entry.origin == Origin::Builtin));
        assert_eq!(builtin.entries().len(), anemll_tests::PLUGINS.len());
        let libraries: Vec<_> =
            anemll_tests::PLUGINS.iter().map(|name| anemll_tests::library(name)).collect();
        let dynamic = Plugins::discover(&libraries).unwrap();
        for (combiner, lut) in [("chunked", "none"), ("monolithic", "none"), ("monolithic", "4")] {
            let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            convert_in_process(&builtin, first.path(), combiner, lut);
            convert_in_process(&dynamic, second.path(), combiner, lut);
            assert_same_packages(first.path(), second.path());
        }
    }

    #[test]
    fn every_shipped_plugin_conforms_both_ways() {
        let libraries: Vec<_> =
            anemll_tests::PLUGINS.iter().map(|name| anemll_tests::library(name)).collect();
        let all = Plugins::discover(&libraries).unwrap();
        assert_eq!(all.entries().len(), 2 * anemll_tests::PLUGINS.len());
        for entry in all.entries() {
            let plugin = entry.open().unwrap();
            anemll_plugin_api::testing::check_plugin(plugin).unwrap();
        }
    }
}
