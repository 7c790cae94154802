//! A real library, through the loader. Cargo builds it as an example together with the tests; when
//! this file is tested alone it may be missing, and the tests say so.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;

use anemll_codes as codes;
use anemll_plugin_api::data::*;
use anemll_plugin_api::testing::{TestHost, check_plugin};
use anemll_plugin_api::*;
use anemll_plugin_host::{Snapshot, manifest_of_file, open};

fn library() -> Option<PathBuf> {
    let program = std::env::current_exe().unwrap();
    let directory = program.ancestors().nth(2).unwrap().join("examples");
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let path = directory.join(format!("{prefix}misbehaving{suffix}"));
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not built", path.display());
    None
}

fn function(id: &str) -> FunctionSpec {
    FunctionSpec::new(id, Purpose::Infer).with_embedding(true).with_head(true)
}

#[test]
fn a_library_is_read_opened_and_used() {
    let Some(path) = library() else { return };
    let manifest = manifest_of_file(&path).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("misbehaving", "1.2.3"));
    let plugin = open(&path).unwrap();
    assert_eq!(plugin.manifest(), &manifest);
    check_plugin(&plugin).unwrap();
    // A second time it is the same library, and works as well.
    check_plugin(&open(&path).unwrap()).unwrap();

    let (told, host) = TestHost::new();
    let frontend = plugin.arch_frontend("misbehaving", &ComponentOptions::new()).unwrap();
    let model = frontend.open(&ModelInput::default(), &host).unwrap();
    let answer = model.lower(&function("works"), &host).unwrap();
    assert_eq!(answer, b"works");
    assert_eq!(told.lines(), [(Level::Info, "hello from a library".to_owned())]);
    told.cancel();
    let error = model.lower(&function("works"), &host).unwrap_err();
    assert!(error.is_cancelled());
}

#[test]
fn what_was_looked_at_is_what_is_loaded() {
    let Some(path) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let copies = ["one", "two"].map(|name| folder.path().join(name));
    for copy in &copies {
        std::fs::copy(&path, copy).unwrap();
    }
    let snapshots = copies.each_ref().map(|copy| Snapshot::of(copy).unwrap());
    assert_eq!(snapshots[0].identity().sha256, snapshots[1].identity().sha256);
    // Whatever becomes of the files now has no part in it, on systems where it can become of them.
    for copy in &copies {
        if let Ok(mut file) = std::fs::File::options().write(true).truncate(true).open(copy) {
            std::io::Write::write_all(&mut file, b"something else").unwrap();
        }
    }
    for snapshot in snapshots {
        assert_eq!(snapshot.identity().bytes, std::fs::metadata(&path).unwrap().len());
        let mut bytes = Vec::new();
        snapshot.copy_to(&mut bytes).unwrap();
        assert!(bytes == std::fs::read(&path).unwrap());
        assert_eq!(snapshot.identity().manifest.name, "misbehaving");
        check_plugin(&snapshot.open().unwrap()).unwrap();
    }
}

#[test]
fn panics_of_a_library_are_errors() {
    let Some(path) = library() else { return };
    let plugin = open(&path).unwrap();
    let frontend = plugin.arch_frontend("misbehaving", &ComponentOptions::new()).unwrap();
    let (_, host) = TestHost::new();
    let model = frontend.open(&ModelInput::default(), &host).unwrap();
    let errors = [
        (frontend.accepts("panic").unwrap_err(), "arch.accepts`: boom in a library"),
        (frontend.accepts("index").unwrap_err(), "arch.accepts`: index out of bounds"),
        (
            model.lower(&function("panic"), &host).unwrap_err(),
            "model.lower`: parallel call 0 panicked: boom in call 0",
        ),
    ];
    for (error, text) in errors {
        assert_eq!(error.code, codes::PLUGIN_PANICKED);
        let start = format!("plugin `misbehaving` panicked in `{text}");
        assert!(error.message.starts_with(&start), "{error}");
        assert!(error.at.as_ref().unwrap().contains("misbehaving.rs:"), "{error:?}");
    }
}

#[test]
fn panics_of_a_library_are_not_printed() {
    if library().is_none() {
        return;
    }
    // Looks at what a process of its own prints.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "panics_of_a_library_are_errors", "--nocapture"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!printed.contains("boom") && !printed.contains("panicked"), "{printed}");
}
