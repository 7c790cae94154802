//! The plugin folder beside the program: damaged, incomplete, missing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use anemll_tests::{PLUGINS, library, model, program, run, without_own_plugins};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An installation of its own.
struct Installation(tempfile::TempDir);

impl Installation {
    fn new(plugins: &[&str]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.put(&program(), &place.0.path().join("anemll"));
        std::fs::create_dir(place.0.path().join("plugins")).unwrap();
        for name in plugins {
            place.put(&library(name), &place.library(name));
        }
        place
    }

    fn put(&self, from: &Path, to: &Path) {
        // The temporary folder may be on another disk.
        if std::fs::hard_link(from, to).is_err() {
            std::fs::copy(from, to).unwrap();
        }
    }

    fn library(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("plugins/lib{name}.so"))
    }

    /// Cuts a library short: it says nothing of itself any more.
    fn cut(&self, name: &str) {
        let bytes = std::fs::read(library(name)).unwrap();
        std::fs::remove_file(self.library(name)).unwrap();
        std::fs::write(self.library(name), &bytes[..bytes.len() / 2]).unwrap();
    }

    /// Makes a library ask for another that no system has: it can be read, but not opened.
    fn estrange(&self, name: &str) {
        let mut bytes = std::fs::read(library(name)).unwrap();
        let needed = b"libc.so.6\0";
        let places: Vec<usize> =
            (0..bytes.len() - needed.len()).filter(|at| bytes[*at..].starts_with(needed)).collect();
        for at in places {
            bytes[at..at + 4].copy_from_slice(b"libZ");
        }
        std::fs::remove_file(self.library(name)).unwrap();
        std::fs::write(self.library(name), bytes).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0.path().join("anemll"));
        command.args(arguments).env("NO_COLOR", "1");
        without_own_plugins(&mut command);
        command
    }

    fn convert(&self, name: &str) -> Output {
        let flags = ["convert", "--no-tokenizer", "--lut", "none", "--combiner", "monolithic"];
        let mut command = self.command(&flags);
        command.args(["--context", "64", "--batch", "8", "--model"]).arg(model(name));
        run(command.arg("--output").arg(self.output()))
    }

    fn output(&self) -> PathBuf {
        self.0.path().join("out")
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_damaged_compiler_is_an_error_and_not_a_conversion_without_compiled_models() {
    type Damage = fn(&Installation);
    let damages: [(Damage, &str); 2] = [
        (|place| place.cut("mlmodelc"), "error[A0122]"),
        (|place| place.estrange("mlmodelc"), "error[A0108]"),
    ];
    for (damage, code) in damages {
        let place = Installation::new(&PLUGINS);
        damage(&place);
        let output = place.convert("tiny-llama");
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(code) && text.contains("libmlmodelc.so"), "{text}");
        assert!(!place.output().exists(), "{text}");
    }
}

#[test]
fn what_a_command_does_not_need_does_not_stop_it() {
    let place = Installation::new(&PLUGINS);
    place.estrange("qwen3");
    let output = place.convert("tiny-llama");
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("qwen3"), "a library that nobody asks for stays closed:\n{text}");
    assert!(place.output().join("llama_monolithic_combined.mlmodelc").is_dir());
    let list = run(&mut place.command(&["plugin", "list"]));
    let listed = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.status.success() && listed.contains("A0108"), "{listed}");
    let text = stderr(&place.convert("tiny-qwen3"));
    assert!(text.contains("error[A0108]") && text.contains("libqwen3.so"), "{text}");
    // One that says nothing of itself is one warning, and none where no plugin is needed.
    place.cut("qwen3");
    let output = place.convert("tiny-llama");
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("warning: the plugin ").count(), 1, "{text}");
    assert!(text.contains("libqwen3.so cannot be used"), "{text}");
    let package = place.output().join("llama_monolithic_combined.mlpackage");
    let output = run(place.command(&["inspect", "--json"]).arg(package));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn two_plugins_with_one_id_stop_only_who_asks_for_it() {
    let place = Installation::new(&PLUGINS);
    place.put(&library("llama"), &place.library("other"));
    let text = stderr(&place.convert("tiny-llama"));
    assert!(text.contains("error[A0123]") && text.contains("libother.so"), "{text}");
    let list = run(&mut place.command(&["plugin", "list"]));
    let listed = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.status.success() && listed.matches("llama ").count() >= 2, "{listed}");
}

#[test]
fn a_program_without_its_plugins_says_where_it_looked() {
    let place = Installation::new(&[]);
    let folder = place.0.path().canonicalize().unwrap().join("plugins");
    let text = stderr(&place.convert("tiny-llama"));
    let told = format!("looked for plugins in {}, which has 0 libraries", folder.display());
    assert!(text.contains(&told), "{text}");
    std::fs::remove_dir(&folder).unwrap();
    let told = format!("looked for plugins in {}, which does not exist", folder.display());
    assert!(stderr(&place.convert("tiny-llama")).contains(&told));
    let mut chat = place.command(&["chat", "--prompt", "Hi", "--meta"]);
    let text = stderr(&run(chat.arg(place.0.path().join("none/meta.yaml"))));
    assert!(text.contains("error["), "{text}");
    let list = run(&mut place.command(&["plugin", "list"]));
    assert!(String::from_utf8_lossy(&list.stdout).contains(&told));
}

#[test]
fn names_in_the_plugin_folder_do_not_reach_the_terminal_raw() {
    let place = Installation::new(&["llama"]);
    let evil = place.0.path().join("plugins/lib\u{1b}]0;evil\u{7}.so");
    std::fs::write(evil, "no library").unwrap();
    for arguments in [&["plugin", "list"][..], &["doctor"], &["check", "--model", "nowhere"]] {
        let output = run(&mut place.command(arguments));
        for stream in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(stream);
            assert!(!text.contains(['\u{1b}', '\u{7}']), "{arguments:?}: {text:?}");
        }
    }
}
