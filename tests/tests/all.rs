//! The tests across crates, in one program: fifty would each be linked with all of the crates. Those that
//! register plugins of their own are programs of their own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adapters;
mod bits;
mod calibration;
mod chat;
mod chat_templates;
mod combine;
mod command_line;
mod commands;
mod comparison;
mod compile;
mod config_keys;
mod coreai_bundle;
mod damaged;
mod diff;
mod dist;
mod documents;
mod embedders;
mod export;
mod flags;
mod gguf;
mod help;
mod hostile;
mod hub;
mod inspect;
mod inspect_page;
mod lint;
mod logits;
mod misbehaving;
mod model_files;
mod model_kinds;
mod packages;
mod pairs;
mod palettization;
mod perplexity;
mod plugin_folder;
mod plugin_new;
mod plugin_trust;
mod preflight;
mod quality;
mod quality_pages;
mod real_models;
mod recurrent;
mod rings;
mod run_output;
mod serve;
mod serve_page;
mod sizes;
mod speculation;
mod steps;
mod streams;
mod sweep;
mod terminal;
mod uniform;

/// Programs of their own, which stand in Cargo.toml.
const OTHERS: [&str; 2] = ["frontend", "quantizer"];

/// A file that is not in the list above would never run.
#[test]
fn every_file_is_in_the_list() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|it| it == "rs") && name != "all" && !OTHERS.contains(&name)
        {
            let line = format!("\nmod {name};\n");
            assert!(include_str!("all.rs").contains(&line), "`mod {name};` is missing in all.rs");
        }
    }
}
