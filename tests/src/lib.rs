//! What the tests across crates share: finding models, the program and the plugin libraries.

pub mod browser;
mod conversions;
pub mod measures;
pub mod server;

pub use conversions::{converted, copy_of_converted};

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// The plugins that the project ships, by library name: each has the name of its folder
/// `plugins/KIND/NAME`.
pub static PLUGINS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let folders = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut folders: Vec<_> = entries.map(|entry| entry.path()).collect();
        folders.sort();
        folders
    };
    let kinds = folders(&workspace().join("plugins"));
    let plugins = kinds.iter().flat_map(|kind| folders(kind));
    let names = plugins.filter(|plugin| plugin.join("plugin/Cargo.toml").is_file());
    names.filter_map(|plugin| Some(&*plugin.file_name()?.to_str()?.to_owned().leak())).collect()
});

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap_or_default()
}

/// A model directory below tests/models.
pub fn model(name: &str) -> PathBuf {
    workspace().join("tests/models").join(name)
}

/// The folder with `ids.npy` and `logits.npy` of a model.
pub fn golden(name: &str) -> PathBuf {
    let inside = model(name).join("golden");
    if inside.is_dir() { inside } else { workspace().join("tests/models/golden").join(name) }
}

/// The folder that cargo builds into: this test program is in its subfolder `deps`.
pub fn build_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}

/// The program, which `cargo xtask test` builds before the tests.
pub fn program() -> PathBuf {
    built(&format!("anemll{}", std::env::consts::EXE_SUFFIX))
}

/// A plugin's library; cargo writes its name with `_`.
pub fn library(name: &str) -> PathBuf {
    let name = name.replace('-', "_");
    built(&format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX))
}

/// The library of an example plugin in `tests/examples`, of which nothing in the workspace knows.
pub fn example(name: &str) -> PathBuf {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    built(&format!("examples/{DLL_PREFIX}{name}{DLL_SUFFIX}"))
}

fn built(file: &str) -> PathBuf {
    let path = build_folder().join(file);
    assert!(path.exists(), "{} is not built: run `cargo xtask test`", path.display());
    path
}

/// The program with all shipped plugins named, as users type it.
pub fn anemll() -> Command {
    let mut command = Command::new(program());
    for plugin in PLUGINS.iter() {
        command.arg("--plugin").arg(library(plugin));
    }
    // What the terminal of a developer is must not matter, and calibrations stay out of their cache.
    command.env("NO_COLOR", "1").env_remove("COLUMNS").env("ANEMLL_CACHE", cache());
    without_own_plugins(&mut command);
    command
}

/// Plugins of a developer must not matter: the program looks for those of users in a folder that is
/// not there.
pub fn without_own_plugins(command: &mut Command) -> &mut Command {
    command.env_remove("ANEMLL_PLUGIN_PATH").env("ANEMLL_DATA", build_folder().join("anemll-data"))
}

/// Where the program keeps calibrations.
pub fn cache() -> PathBuf {
    build_folder().join("anemll-cache")
}

/// Runs a command; panics with its standard error when it fails.
pub fn succeed(command: &mut Command) -> Output {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command.
pub fn run(command: &mut Command) -> Output {
    match command.output() {
        Ok(output) => output,
        Err(source) => panic!("{command:?} cannot be started: {source}"),
    }
}

/// What a command that must succeed prints as JSON.
pub fn json(command: &mut Command) -> Value {
    let output = succeed(command);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// What a command that must fail, or refuse its arguments, says on standard error.
pub fn refusal(command: &mut Command) -> String {
    let output = run(command);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Converts `model` into `output`, with further arguments; see [`convert_command`].
pub fn convert(model: &Path, output: &Path, arguments: &[&str]) -> Output {
    succeed(&mut convert_command(model, output, arguments))
}

/// The command that converts `model` into `output`, with further arguments. Where they say nothing
/// else: chunked, in 16-bit floats, and without a demand for a tokenizer, which the random models
/// do not have.
pub fn convert_command(model: &Path, output: &Path, arguments: &[&str]) -> Command {
    let mut command = anemll();
    command.arg("convert").arg("--model").arg(model).arg("--output").arg(output);
    command.arg("--no-tokenizer").args(arguments);
    let says = |flag: &str| arguments.iter().any(|argument| argument.starts_with(flag));
    if !says("--combiner") {
        command.args(["--combiner", "chunked"]);
    }
    if !says("--lut") && !says("--quantizer") {
        command.args(["--lut", "none"]);
    }
    command
}

/// `eval --json` of a conversion.
pub fn evaluate(output: &Path, golden: &Path, reference: &str, arguments: &[&str]) -> Value {
    let mut command = anemll();
    command
        .arg("eval")
        .arg("--meta")
        .arg(output.join("meta.yaml"))
        .arg("--tokens")
        .arg(golden.join("ids.npy"))
        .arg("--reference")
        .arg(golden.join(reference))
        .arg("--json")
        .args(arguments);
    let printed = succeed(&mut command).stdout;
    match serde_json::from_slice(&printed) {
        Ok(value) => value,
        Err(source) => panic!("no JSON: {source}\n{}", String::from_utf8_lossy(&printed)),
    }
}

/// Compares what a user reads with a snapshot in tests/tests/snapshots, after putting words in place
/// of what differs from run to run and from machine to machine: paths, times, sums.
/// `INSTA_UPDATE=always cargo xtask test` writes new ones, which are to be read before they are
/// committed.
#[track_caller]
pub fn assert_told(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(workspace().join("tests/tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let (workspace, temporary) = (workspace(), std::env::temp_dir());
    for (path, word) in [(workspace.as_path(), "WORKSPACE"), (temporary.as_path(), "TEMPORARY")] {
        let pattern = path.to_string_lossy().replace('.', "\\.");
        settings.add_filter(&pattern, word);
    }
    settings.add_filter(r"(TEMPORARY/)?\.tmp\w{6}", "FOLDER");
    settings.add_filter(r"anemll-error-\w+", "anemll-error-ID");
    settings.add_filter(r"done in [^:\n]+:", "done in TIME:");
    // What is measured differs in its last digits from processor to processor.
    settings.add_filter(r"quality: KL [^\n]+", "quality: MEASURED");
    // A slow machine tells how far it is.
    settings.add_filter(r"(?m)^[a-z 0-9]+: \d+ % of [^\n]*\n", "");
    settings.add_filter(r"\b[0-9a-f]{64}\b", "SHA256");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Every file below a folder with its bytes, sorted by name.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(listing) = std::fs::read_dir(&next) else { continue };
        for entry in listing.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let (Ok(name), Ok(bytes)) = (path.strip_prefix(folder), std::fs::read(&path))
            {
                found.push((name.to_owned(), bytes));
            }
        }
    }
    found.sort();
    found
}
