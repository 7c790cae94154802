//! `frozen`: a plugin of the frozen ABI, in the program of today.
//!
//! `tests/abi/v1` is built by itself, with its own lock file and nothing but the frozen types, and its
//! quantizer makes a conversion; the other stages answer. The same plugin is then added, and loaded
//! with the lock file's consent.

use std::path::Path;
use std::process::{Command, Output};

use crate::command::{cargo, run as run_command, shown, workspace_root};
use crate::{Result, artifacts, no_arguments};

/// The package, seen from the workspace's folder.
const PACKAGE: &str = "tests/abi/v1";
/// Its stages, all under one id.
const STAGES: [&str; 5] = ["arch", "quantizer", "combiner", "compiler", "runtime"];

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let root = workspace_root()?;
    let folder = artifacts::target_directory()?.join("frozen");
    let library = folder.join("debug").join(artifacts::library_file_name("frozen"));
    run_command(
        cargo()
            .current_dir(root.join(PACKAGE))
            // Nobody debugs it.
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .args(["build", "--locked", "--target-dir"])
            .arg(&folder),
    )?;
    let built = artifacts::build("dev")?;
    let data = folder.join("data");
    let anemll = |plugins: &[&Path]| {
        let mut command = Command::new(&built.host);
        for plugin in plugins {
            command.arg("--plugin").arg(plugin);
        }
        command.env("ANEMLL_DATA", &data).env_remove("ANEMLL_PLUGIN_PATH").env("NO_COLOR", "1");
        command
    };

    let list = succeed(anemll(&[&library]).args(["plugin", "list", "--json"]))?;
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&list.stdout)
        .map_err(|error| format!("`plugin list` gives no JSON: {error}"))?;
    for stage in STAGES {
        let is_it = |row: &&serde_json::Value| row["plugin"] == "frozen" && row["stage"] == stage;
        let status = rows.iter().find(is_it).map(|row| row["status"].clone());
        if status != Some("ok".into()) {
            return Err(format!("the frozen {stage} is not usable: {status:?}"));
        }
    }

    let model = root.join("tests/models/tiny-llama");
    let output = folder.join("out");
    if output.exists() {
        std::fs::remove_dir_all(&output)
            .map_err(|error| format!("cannot remove {}: {error}", output.display()))?;
    }
    let shipped: Vec<&Path> = built.plugins.iter().map(|path| &**path).collect();
    let all = [&shipped[..], &[&*library]].concat();
    let converted = succeed(
        anemll(&all)
            .args(["convert", "--no-tokenizer", "--context", "64", "--batch", "8"])
            .args(["--combiner", "monolithic", "--quantizer", "frozen", "--output"])
            .arg(&output)
            .arg(&model),
    )?;
    let told = String::from_utf8_lossy(&converted.stderr);
    expect(&told, "4 layers, one table for a matrix", "the scheme of the frozen quantizer")?;
    let health = succeed(anemll(&all).arg("doctor"))?;
    let health = String::from_utf8_lossy(&health.stdout);
    expect(&health, "it has been frozen", "what the frozen compiler and runtime say")?;

    let mut lone = anemll(&shipped);
    succeed(anemll(&[]).args(["plugin", "add"]).arg(&library))?;
    let list = succeed(lone.args(["plugin", "list", "--stage", "runtime"]))?;
    expect(&String::from_utf8_lossy(&list.stdout), "runs nothing", "the added plugin")?;
    succeed(anemll(&[]).args(["plugin", "remove", "frozen"]))?;
    println!("a plugin of the frozen ABI 1 converts with the program of today");
    Ok(())
}

/// Runs to the end; an error with what was said when it fails.
fn succeed(command: &mut Command) -> Result<Output> {
    let line = shown(command);
    let output = command.output().map_err(|error| format!("`{line}` did not start: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{line}` failed ({})\n{said}", output.status))
}

fn expect(text: &str, part: &str, what: &str) -> Result<()> {
    match text.contains(part) {
        true => Ok(()),
        false => Err(format!("{what}: `{part}` is missing in\n{text}")),
    }
}
