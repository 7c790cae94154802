//! `witness`: what coremltools says of our packages.
//!
//! Converts every shipped model that a plugin takes, in several layouts, and runs
//! `tests/witness/witness.py` over the results in a virtual environment of its own. Packages that
//! coremltools made are combined, split and compared by `tests/witness/combine_witness.py`, and OpenAI's
//! client asks servers of small conversions (`tests/witness/openai_client.py`). With
//! `--coreai`, Core AI assets of all kinds go through Apple's own runtime instead, which takes minutes; two do in any
//! case, where that can be had. `--environment` only makes the virtual environments.

mod coreai;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::artifacts::Artifacts;
use crate::command::{cargo, run as run_command, run_all, workspace_root};
use crate::{Result, artifacts, no_arguments};
use coreai::Part;

/// The layouts: a name, and the flags of `convert`. The first is enough for most models.
const LAYOUTS: &[(&str, &[&str])] = &[
    // The context that every variant was made for.
    ("chunked-2", &["--combiner", "chunked", "--chunk", "2", "--context", "256", "--lut", "none"]),
    ("chunked-1", &["--combiner", "chunked", "--chunk", "1", "--lut", "none"]),
    ("chunked-2-argmax", &["--combiner", "chunked", "--chunk", "2", "--argmax", "--lut", "none"]),
    ("monolithic", &["--combiner", "monolithic", "--lut", "none"]),
    ("monolithic-argmax", &["--combiner", "monolithic", "--argmax", "--lut", "none"]),
    ("lut-4-6", &["--combiner", "chunked", "--lut", "4", "--lut3", "6", "--lut1", "8,tensor"]),
    ("lut-1-2", &["--combiner", "chunked", "--lut", "1", "--lut3", "2,16"]),
    (
        "lut-groups",
        &["--combiner", "chunked", "--lut", "2,1", "--lut3", "6,7", "--lut1", "3,tensor"],
    ),
    ("lut-3", &["--combiner", "monolithic", "--lut", "3,4", "--lut-lmhead", "8"]),
    ("lut-scale", &["--combiner", "chunked", "--lut", "4,scale", "--lut3", "6,scale"]),
    ("lut-vector", &["--combiner", "chunked", "--lut", "2,vector", "--lut3", "3,vector"]),
    ("defaults", &[]),
    (
        "other-sizes",
        &[
            "--combiner",
            "chunked",
            "--chunk",
            "2",
            "--context",
            "96",
            "--batch",
            "32",
            "--lut",
            "none",
        ],
    ),
];

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let only_coreai = arguments == ["--coreai"];
    let only_environment = arguments == ["--environment"];
    if !only_coreai && !only_environment {
        no_arguments(arguments)?;
    }
    let root = workspace_root()?;
    let target = artifacts::target_directory()?;
    let witness = root.join("tests").join("witness");
    let python = environment(&target.join("witness-venv"), &witness.join("requirements.txt"))?;
    if only_environment {
        if let Err(reason) = coreai::python(&root, &target) {
            println!("left out: no Python 3.11 with coreai-core can be had here: {reason}");
        }
        return Ok(());
    }

    let built = artifacts::build("dev")?;
    if only_coreai {
        return coreai::run((&root, &target), &built, &python, Part::Whole);
    }
    let output = target.join("witness-packages");
    if output.exists() {
        fs::remove_dir_all(&output)
            .map_err(|error| format!("cannot remove {}: {error}", output.display()))?;
    }
    let mut conversions = Vec::new();
    let model_types = model_types(&root.join("plugins").join("arch"))?;
    for model in models(&root.join("tests").join("models"), &model_types)? {
        // A model with a tokenizer is one that users could have: all layouts. The others stand for
        // one key of the configuration each.
        let layouts = if model.join("tokenizer.json").is_file() { LAYOUTS } else { &LAYOUTS[..1] };
        for (layout, flags) in layouts {
            let name = model.file_name().unwrap_or_default();
            let mut command = Command::new(&built.host);
            command.current_dir(&root);
            for plugin in &built.plugins {
                command.arg("--plugin").arg(plugin);
            }
            command.args(["convert", "--model"]).arg(&model);
            command.arg("--output").arg(output.join(name).join(layout)).args(*flags);
            command.arg("--no-tokenizer");
            conversions.push(command);
        }
    }
    if conversions.is_empty() {
        return Err("no plugin takes any model of tests/models".to_owned());
    }
    let converted = conversions.len();
    run_all(conversions)?;
    println!("\n== {converted} conversions for the witness");
    run_command(
        Command::new(&python).current_dir(&root).arg(witness.join("witness.py")).arg(&output),
    )?;
    compare_palettes(&root, &target, &python, &output)?;
    combine_foreign(&root, &target, &python, &built.host)?;
    ask_servers(&root, &target, &python, &built)?;
    coreai::run((&root, &target), &built, &python, Part::Small)
}

/// Servers of small conversions, asked by OpenAI's own client.
fn ask_servers(root: &Path, target: &Path, python: &Path, built: &Artifacts) -> Result<()> {
    println!("\n== servers, asked by OpenAI's client");
    let script = root.join("tests").join("witness").join("openai_client.py");
    let mut command = Command::new(python);
    command.current_dir(root).arg(script).arg("--output").arg(target.join("witness-served"));
    command.arg("--").arg(&built.host);
    for plugin in &built.plugins {
        command.arg("--plugin").arg(plugin);
    }
    run_command(&mut command)
}

/// Packages that coremltools makes, combined and split by the program.
fn combine_foreign(root: &Path, target: &Path, python: &Path, program: &Path) -> Result<()> {
    println!("\n== packages of coremltools, combined");
    let (packages, folder) = (target.join("witness-combined"), root.join("tests").join("witness"));
    let mut combine = Command::new(python);
    combine.current_dir(root).arg(folder.join("combine_witness.py"));
    run_command(combine.arg("--anemll").arg(program).arg("--output").arg(&packages))?;
    let script = folder.join("witness.py");
    run_command(Command::new(python).current_dir(root).arg(script).arg(packages.join("combined")))
}

/// What the cpu runtime makes of tables and indices, against numpy, bit by bit.
fn compare_palettes(root: &Path, target: &Path, python: &Path, packages: &Path) -> Result<()> {
    let decoded = target.join("witness-decoded");
    if decoded.exists() {
        fs::remove_dir_all(&decoded)
            .map_err(|error| format!("cannot remove {}: {error}", decoded.display()))?;
    }
    println!("\n== palettized weights, as the cpu runtime and as numpy decode them");
    let mut decode = cargo();
    decode.current_dir(root).args(["run", "--quiet", "--package", "anemll-runtime-cpu"]);
    run_command(decode.args(["--example", "decode", "--"]).arg(packages).arg(&decoded))?;
    let script = root.join("tests").join("witness").join("palettes.py");
    run_command(Command::new(python).current_dir(root).arg(script).arg(packages).arg(&decoded))
}

/// The Python of a virtual environment that has these requirements; made anew when they change.
pub(crate) fn environment(directory: &Path, requirements: &Path) -> Result<PathBuf> {
    let system = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    environment_of(&system, directory, requirements)
}

/// The same, made by this Python.
fn environment_of(system: &OsStr, directory: &Path, requirements: &Path) -> Result<PathBuf> {
    let wanted = fs::read_to_string(requirements)
        .map_err(|error| format!("cannot read {}: {error}", requirements.display()))?;
    let python = if cfg!(windows) {
        directory.join("Scripts").join("python.exe")
    } else {
        directory.join("bin").join("python")
    };
    // Written last, so that an interrupted installation is done again.
    let stamp = directory.join("requirements-installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && python.is_file() {
        return Ok(python);
    }
    run_command(Command::new(system).args(["-m", "venv", "--clear"]).arg(directory))
        .map_err(|error| format!("{error}; the witness needs Python 3.11 with its module venv"))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run_command(Command::new(&python).args(pip).arg(requirements))?;
    fs::write(&stamp, wanted)
        .map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    Ok(python)
}

/// The values of `model_type` that the manifests of the arch frontends name.
fn model_types(plugins: &Path) -> Result<Vec<String>> {
    let mut types = Vec::new();
    for plugin in directories(plugins)? {
        let path = plugin.join("anemll-plugin.json");
        let manifest = read_json(&path)?;
        let components = manifest["components"].as_array().into_iter().flatten();
        let named = components
            .flat_map(|component| component["model_types"].as_array().into_iter().flatten())
            .filter_map(Value::as_str);
        types.extend(named.map(str::to_owned));
    }
    Ok(types)
}

/// The model directories below `directory` whose configuration has one of these types, sorted.
fn models(directory: &Path, model_types: &[String]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for candidate in directories(directory)? {
        let config = candidate.join("config.json");
        if !config.is_file() {
            found.extend(models(&candidate, model_types)?);
            continue;
        }
        let config = read_json(&config)?;
        let model_type = config["model_type"].as_str().unwrap_or_default();
        if model_types.iter().any(|known| known == model_type) {
            found.push(candidate);
        } else {
            println!("left out: {} ({model_type}: no plugin yet)", candidate.display());
        }
    }
    Ok(found)
}

fn directories(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| format!("cannot read {}: {error}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_their_type() {
        let models_directory = workspace_root().unwrap().join("tests").join("models");
        let llama = models(&models_directory, &["llama".to_owned()]).unwrap();
        assert!(llama.contains(&models_directory.join("tiny-llama")), "{llama:?}");
        assert!(llama.contains(&models_directory.join("variants").join("tied")), "{llama:?}");
        assert!(!llama.contains(&models_directory.join("tiny-qwen2")), "{llama:?}");
        assert!(models(&models_directory, &[]).unwrap().is_empty());
    }

    #[test]
    fn layouts_have_names_of_their_own() {
        for (index, (name, _)) in LAYOUTS.iter().enumerate() {
            assert!(LAYOUTS[..index].iter().all(|(earlier, _)| earlier != name), "{name}");
        }
    }
}
