//! The compiler against a stand-in for xcrun.
// Helpers of tests may unwrap as tests do; clippy knows only the latter.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anemll_compiler_coremlcompiler::{CoremlCompiler, CoremlCompilerPlugin, ID};
use anemll_plugin_api::data::Manifest;
use anemll_plugin_api::{
    Compiler as _, ComponentOptions, Host, HostServices, Level, Plugin as _, Result, codes,
};
use tempfile::TempDir;

fn calling(xcrun: &str) -> ComponentOptions {
    ComponentOptions::new().with("xcrun", xcrun)
}

fn fake_xcrun() -> ComponentOptions {
    calling(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake-xcrun"))
}

fn compiler() -> CoremlCompiler {
    CoremlCompiler::new(&fake_xcrun()).unwrap()
}

fn package(directory: &TempDir, name: &str, content: &str) -> PathBuf {
    let package = directory.path().join(name);
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("content"), content).unwrap();
    package
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Compiles a package of this name; also gives what is then in the output directory.
fn compiled(name: &str, host: &Host) -> (Result<PathBuf>, Vec<String>) {
    let directory = TempDir::new().unwrap();
    let package = package(&directory, name, "model");
    let output = directory.path().join("output");
    let result = compiler().compile(&package, &output, host);
    (result, names(&output))
}

#[test]
fn a_compiled_model_replaces_the_one_before() {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("output");
    for content in ["first", "second"] {
        let package = package(&directory, "good.mlpackage", content);
        let made = compiler().compile(&package, &output, &Host::quiet()).unwrap();
        assert_eq!(made, output.join("good.mlmodelc"));
        assert_eq!(fs::read_to_string(made.join("coremldata.bin")).unwrap(), content);
        assert_eq!(names(&output), ["good.mlmodelc"]);
    }
}

#[test]
fn a_refusal_says_what_the_compiler_said() {
    let (result, left) = compiled("bad.mlpackage", &Host::quiet());
    let error = result.unwrap_err();
    assert_eq!(error.code, codes::COMPILE_FAILED);
    assert!(error.at.unwrap().ends_with("bad.mlpackage"));
    assert_eq!(error.causes, ["coremlcompiler: error: the model cannot be compiled"]);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn endless_messages_are_cut_to_their_end() {
    let (result, _) = compiled("noisy.mlpackage", &Host::quiet());
    let error = result.unwrap_err();
    assert!(error.causes[0].len() <= 4000);
    assert!(error.causes[0].ends_with("the last line"));
    assert!(error.message.contains('3'), "the exit code: {}", error.message);
}

#[test]
fn success_without_a_model_is_a_failure() {
    let (result, left) = compiled("nothing.mlpackage", &Host::quiet());
    assert_eq!(result.unwrap_err().code, codes::COMPILE_FAILED);
    assert!(left.is_empty(), "{left:?}");
}

/// A host whose user has had enough at the third look.
struct Impatient(AtomicUsize);

impl HostServices for Impatient {
    fn log(&self, _: Level, _: &str, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: u64) -> bool {
        !self.cancelled()
    }
    fn cancelled(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) >= 2
    }
    fn threads(&self) -> usize {
        1
    }
    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }
    fn scratch_directory(&self) -> Result<PathBuf> {
        Ok(std::env::temp_dir())
    }
}

#[test]
fn cancelling_ends_the_program_and_leaves_nothing() {
    let host = Host::new(Arc::new(Impatient(AtomicUsize::new(0))));
    // The stand-in would sleep for ten minutes.
    let (result, left) = compiled("slow.mlpackage", &host);
    assert!(result.unwrap_err().is_cancelled());
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_package_must_be_there_and_be_one() {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("output");
    for name in ["missing.mlpackage", "model.mlmodel", "mlpackage", ".."] {
        let path = directory.path().join(name);
        let error = compiler().compile(&path, &output, &Host::quiet()).unwrap_err();
        assert_eq!(error.code, codes::PACKAGE_UNREADABLE, "{name}");
    }
}

#[test]
fn an_output_that_is_a_file_is_an_error() {
    let directory = TempDir::new().unwrap();
    let package = package(&directory, "good.mlpackage", "model");
    let output = directory.path().join("file");
    fs::write(&output, "").unwrap();
    let error = compiler().compile(&package, &output, &Host::quiet()).unwrap_err();
    assert_eq!(error.code, codes::OUTPUT_UNWRITABLE);
}

#[test]
fn availability_is_told_with_a_reason() {
    let answer = compiler().check().unwrap();
    assert!(answer.available, "{}", answer.reason);

    let missing = CoremlCompiler::new(&calling("/no/such/xcrun")).unwrap();
    let answer = missing.check().unwrap();
    assert!(!answer.available);
    assert!(answer.reason.contains("Xcode"), "{}", answer.reason);

    // `false` stands for an xcrun without Xcode behind it.
    let failing = CoremlCompiler::new(&calling("false")).unwrap();
    let answer = failing.check().unwrap();
    assert!(!answer.available);
    assert!(answer.reason.contains("failed"), "{}", answer.reason);
}

#[test]
fn a_missing_xcrun_is_an_error_of_compile() {
    let directory = TempDir::new().unwrap();
    let package = package(&directory, "good.mlpackage", "model");
    let output = directory.path().join("output");
    let missing = CoremlCompiler::new(&calling("/no/such/xcrun")).unwrap();
    let error = missing.compile(&package, &output, &Host::quiet()).unwrap_err();
    assert_eq!(error.code, codes::COMPILER_UNAVAILABLE);
    assert!(names(&output).is_empty());
}

#[test]
fn the_plugin_is_what_its_manifest_says() {
    let manifest: Manifest = serde_json::from_str(CoremlCompilerPlugin::MANIFEST).unwrap();
    assert_eq!(manifest.components[0].id, ID);
    assert!(CoremlCompilerPlugin::compiler(ID, &fake_xcrun()).is_ok());
    assert!(CoremlCompilerPlugin::compiler("other", &fake_xcrun()).is_err());
    for wrong in [ComponentOptions::new().with("xcrun", 1), calling("")] {
        let error = CoremlCompilerPlugin::compiler(ID, &wrong).err().unwrap();
        assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
    }
}
