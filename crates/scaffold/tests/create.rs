//! New plugins, written against an SDK that stands for the real one.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use anemll_codes as codes;
use anemll_plugin_api::data::Stage;
use anemll_plugin_api::{Error, VERSION};
use anemll_scaffold::{Created, Request, create, find_sdk};
use tempfile::TempDir;

/// An SDK of small files, of this version.
fn sdk(folder: &Path) -> PathBuf {
    let sdk = folder.join("sdk");
    let uses = [
        ("anemll-plugin-api", "[]"),
        ("anemll-decoder", r#"["anemll-mil", "anemll-plugin-api"]"#),
        ("anemll-mil", r#"["coreml-proto"]"#),
        ("coreml-proto", "[]"),
        ("anemll-layout", "[]"),
    ];
    let mut crates = Vec::new();
    for (name, uses) in uses {
        fs::create_dir_all(sdk.join(name).join("src")).unwrap();
        fs::create_dir_all(sdk.join(name).join("target")).unwrap();
        fs::write(sdk.join(name).join("Cargo.toml"), "").unwrap();
        fs::write(sdk.join(name).join("src/lib.rs"), name).unwrap();
        crates.push(format!("{name:?}: {uses}"));
    }
    for name in ["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"] {
        fs::write(sdk.join(name), name).unwrap();
    }
    about(&sdk, env!("CARGO_PKG_VERSION"), &crates.join(", "));
    sdk
}

fn about(sdk: &Path, version: &str, crates: &str) {
    let text =
        format!(r#"{{"version": {version:?}, "plugin_api": {VERSION:?}, "crates": {{{crates}}}}}"#);
    fs::write(sdk.join("sdk.json"), text).unwrap();
}

fn new(folder: &Path, name: &str, stage: Stage) -> Result<(PathBuf, Created), Error> {
    let sdk = find_sdk(Some(&folder.join("sdk")), None)?;
    let made = folder.join("made").join(name);
    let created = create(&Request { name, stage, sdk: &sdk, folder: &made })?;
    Ok((made, created))
}

fn names(folder: &Path) -> Vec<String> {
    let listing = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = listing.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_plugin_has_what_it_needs_of_the_sdk() {
    let folder = TempDir::new().unwrap();
    sdk(folder.path());
    let (made, created) = new(folder.path(), "moth", Stage::Arch).unwrap();
    let crates = ["anemll-decoder", "anemll-mil", "anemll-plugin-api", "coreml-proto"];
    let all: Vec<&str> = ["LICENSE-APACHE", "LICENSE-MIT"].into_iter().chain(crates).collect();
    assert_eq!(names(&made.join("sdk")), all);
    assert_eq!(created.sdk_files, 2 + 2 * crates.len());
    assert_eq!(names(&made.join("sdk/anemll-mil")), ["Cargo.toml", "src"]);
    assert_eq!(fs::read(made.join("Cargo.lock")).unwrap(), b"Cargo.lock");
    let config = fs::read_to_string(made.join("model/config.json")).unwrap();
    assert!(config.contains("\"model_type\": \"moth\""), "{config}");
    assert!(made.join("model/golden/logits.npy").is_file());
    let [test, build, trial] = &created.next;
    assert_eq!((test.as_str(), build.as_str()), ("cargo test", "cargo build --release"));
    assert!(trial.starts_with("anemll --plugin target") && trial.contains("moth"), "{trial}");
    // Of another stage, with the same model as a Llama.
    let (made, _) = new(folder.path(), "bee", Stage::Combiner).unwrap();
    let config = fs::read_to_string(made.join("model/config.json")).unwrap();
    assert!(config.contains("\"model_type\": \"llama\""), "{config}");
    assert_eq!(names(&folder.path().join("made")), ["bee", "moth"], "nothing else is left");
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let sdk = sdk(folder.path());
    let refused = |name: &str, code: &str, word: &str| {
        let error = new(folder.path(), name, Stage::Arch).unwrap_err();
        let text = format!("{error} {:?} {:?}", error.at, error.causes);
        assert!(error.code == code && text.contains(word), "{text}");
    };
    refused("fn", codes::NEW_PLUGIN_NAME, "reserved");
    fs::create_dir_all(folder.path().join("made/taken")).unwrap();
    refused("taken", codes::OUTPUT_EXISTS, "taken");
    fs::remove_dir_all(sdk.join("anemll-mil")).unwrap();
    refused("moth", codes::SDK_UNFIT, "anemll-mil");
    about(&sdk, env!("CARGO_PKG_VERSION"), r#""anemll-plugin-api": []"#);
    refused("moth", codes::SDK_UNFIT, "lacks the crate `anemll-decoder`");
    about(&sdk, env!("CARGO_PKG_VERSION"), r#""anemll-plugin-api": ["../../x"]"#);
    refused("moth", codes::SDK_UNFIT, "which is not a crate");
    about(&sdk, "99.0.0", "");
    refused("moth", codes::SDK_UNFIT, "99.0.0");
    fs::write(sdk.join("sdk.json"), "{").unwrap();
    refused("moth", codes::SDK_UNFIT, "cannot be read");
    fs::remove_file(sdk.join("sdk.json")).unwrap();
    refused("moth", codes::SDK_UNFIT, "no SDK");
    assert_eq!(names(&folder.path().join("made")), ["taken"]);
}

#[test]
fn the_sdk_is_found_beside_the_program() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("bin/anemll");
    fs::create_dir_all(folder.path().join("bin")).unwrap();
    fs::write(&program, "").unwrap();
    let error = find_sdk(None, Some(&program)).unwrap_err();
    assert_eq!(error.code, codes::SDK_UNFIT);
    assert!(error.hint.unwrap().contains("--sdk") && error.causes[0].contains("sdk"));
    sdk(folder.path());
    assert!(find_sdk(None, Some(&program)).unwrap().folder().ends_with("../sdk"));
    sdk(&folder.path().join("bin"));
    assert!(find_sdk(None, Some(&program)).unwrap().folder().ends_with("bin/sdk"));
}
