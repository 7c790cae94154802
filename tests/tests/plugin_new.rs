//! `plugin new` as users meet it. That what it makes is built and works outside of the workspace is
//! shown by `cargo xtask outside`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, build_folder, refusal, run, succeed};
use std::path::Path;

fn new(folder: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = anemll();
    command.current_dir(folder).args(["plugin", "new"]).args(arguments);
    command
}

#[test]
fn a_plugin_of_every_stage_is_made_and_the_next_commands_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for stage in ["arch", "quantizer", "combiner", "compiler", "runtime"] {
        let name = format!("moth-{stage}");
        let output = succeed(&mut new(folder.path(), &[&name, "--stage", stage]));
        let told = String::from_utf8(output.stdout).unwrap();
        for line in ["  cargo test\n", "  cargo build --release\n", "  anemll --plugin target"] {
            assert!(told.contains(line), "{told}");
        }
        let made = folder.path().join(&name);
        assert!(made.join("Cargo.lock").is_file() && made.join(".gitignore").is_file());
        let manifest = std::fs::read_to_string(made.join("Cargo.toml")).unwrap();
        // What the manifest names is there.
        for path in manifest.split("path = \"").skip(1) {
            let path = path.split('"').next().unwrap();
            assert!(made.join(path).join("src/lib.rs").is_file(), "{path}");
        }
    }
}

#[test]
fn what_is_in_the_way_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let sdk = build_folder().join("sdk");
    let sdk = sdk.to_str().unwrap();
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    for (arguments, words) in [
        (&["fn", "--stage", "arch"][..], &["error[A0141]", "reserved"][..]),
        (&["../x", "--stage", "arch"], &["error[A0141]", "'.'"]),
        (&["taken", "--stage", "arch"], &["error[A0805]", "taken", "--output"]),
        (&["x", "--stage", "arch", "--sdk", "taken"], &["error[A0142]", "taken", "sdk.json"]),
        (&["x", "--stage", "arch", "--sdk", sdk, "--output", "taken"], &["error[A0805]"]),
        (&["x", "--stage", "shipping"], &["shipping", "arch, quantizer, combiner"]),
        (&["x"], &["--stage"]),
    ] {
        let told = refusal(&mut new(folder.path(), arguments));
        for word in words {
            assert!(told.contains(word), "{arguments:?}: {told}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let made = run(&mut new(folder.path(), &["x", "--stage", "runtime", "-o", "a/b"]));
    assert!(made.status.success() && folder.path().join("a/b/Cargo.toml").is_file());
}
