//! What Apple's own runtime for Linux says of our Core AI assets: tiny models of every family against the
//! logits of transformers, bundles as Apple's apps use them, and every form of stored weights against numpy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::{environment, environment_of};
use crate::Result;
use crate::artifacts::Artifacts;
use crate::command::run as run_command;

/// A model of each family, below `tests/models`. Those that need it are converted for the context of their
/// golden logits.
const MODELS: &[&str] = &[
    "tiny-llama",
    "tiny-qwen2",
    "tiny-qwen3",
    "variants/cohere2",
    "variants/exaone4",
    "variants/gemma3",
    "variants/granite",
    "variants/lfm2",
    "variants/olmo2",
    "variants/phi3-short-factors",
    "variants/qwen3_5",
    "variants/smollm3",
    "variants/stablelm",
];

/// Models whose packages become one asset, and how many chunks they have; the first also without `--coreai`.
const JOINED: &[(&str, &str)] = &[("tiny-llama", "2"), ("variants/gemma3", "1")];

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// One model as one package, another as several, in half a minute.
    Small,
    /// All of it, in minutes.
    Whole,
}

/// Models of which bundles for Apple's apps are made, below `tests/models`, and their contexts, the largest of
/// which is run.
const BUNDLES: &[(&str, &str)] =
    &[("tiny-llama", "64"), ("tiny-llama", "64,256"), ("tiny-qwen3", "128,256")];

/// Models of which bundles of the dynamic form are made.
const DYNAMIC: &[&str] = &["tiny-llama", "tiny-qwen3"];

/// Models with windows shorter than the text, and none of a tokenizer: of these only the asset of that form is made.
const WINDOWS: &[&str] =
    &["gemma3", "mistral-short-window", "olmo3", "qwen3-short-window-in-one-layer"];

/// Context of the golden logits.
const CONTEXT: &str = "256";

/// Compiles and runs everything. Where there is no Python 3.11 with Apple's package, a line says so and nothing
/// is done: there are builds for few machines.
pub(super) fn run(
    (root, target): (&Path, &Path),
    built: &Artifacts,
    coremltools: &Path,
    part: Part,
) -> Result<()> {
    println!("\n== Core AI assets in Apple's runtime");
    let python = match python(root, target) {
        Ok(python) => python,
        Err(reason) => {
            println!("left out: no Python 3.11 with coreai-core can be had here: {reason}");
            return Ok(());
        }
    };
    let output = target.join("witness-coreai");
    if output.exists() {
        fs::remove_dir_all(&output)
            .map_err(|error| format!("cannot remove {}: {error}", output.display()))?;
    }
    let started = Instant::now();
    let told = |what: &str| println!("{what}: {} s so far", started.elapsed().as_secs());
    models(root, &output.join("models"), built, &python, part)?;
    told("models");
    if part == Part::Small {
        return Ok(());
    }
    bundles(root, &output.join("bundles"), built, &python)?;
    told("bundles");
    forms(root, &output.join("forms"), built, [coremltools, &python])?;
    told("forms of weights");
    Ok(())
}

/// The Python with Apple's package, made where it can be.
pub(super) fn python(root: &Path, target: &Path) -> Result<PathBuf> {
    let requirements = root.join("tests").join("witness").join("coreai-requirements.txt");
    let directory = target.join("coreai-venv");
    environment_of("python3.11".as_ref(), &directory, &requirements)
        .or_else(|_| environment(&directory, &requirements))
}

fn program(root: &Path, built: &Artifacts) -> Command {
    let mut command = Command::new(&built.host);
    command.current_dir(root);
    for plugin in &built.plugins {
        command.arg("--plugin").arg(plugin);
    }
    command
}

/// A script of the witness, which asks the program what is meant by an asset.
fn script(root: &Path, built: &Artifacts, python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command.current_dir(root).arg(root.join("tests").join("witness").join(name));
    command.env("ANEMLL_PROGRAM", &built.host);
    command
}

/// Every family, decoded token by token, and some whose packages became one asset.
fn models(root: &Path, output: &Path, built: &Artifacts, python: &Path, part: Part) -> Result<()> {
    let (whole, joined) = match part {
        Part::Whole => (MODELS, JOINED),
        Part::Small => (&MODELS[1..2], &JOINED[..1]),
    };
    let whole = whole.iter().map(|model| (*model, None));
    let joined = joined.iter().map(|(model, chunks)| (*model, Some(*chunks)));
    let tests = root.join("tests");
    let mut witness = script(root, built, python, "coreai_witness.py");
    for (model, chunks) in whole.chain(joined) {
        let directory = tests.join("models").join(model);
        let name = model.rsplit('/').next().unwrap_or(model);
        let made = output.join(if chunks.is_some() { "joined" } else { "whole" }).join(name);
        let mut command = program(root, built);
        command.args(["--quiet", "convert", "--model"]).arg(&directory).arg("--output").arg(&made);
        match chunks {
            None => command.args(["--combiner", "monolithic"]),
            Some(chunks) => command.args(["--combiner", "chunked", "--chunk", chunks]),
        };
        command.args(["--compiler", "coreai", "--lut", "none"]);
        command.args(["--context", CONTEXT, "--no-tokenizer", "--runtime", "none"]);
        run_command(&mut command)?;
        let own = directory.join("golden");
        let golden =
            if own.is_dir() { own } else { tests.join("models").join("golden").join(name) };
        witness.arg(asset(&made)?).arg(golden);
    }
    run_command(&mut witness)
}

/// Bundles, used as Apple's apps use them.
fn bundles(root: &Path, output: &Path, built: &Artifacts, python: &Path) -> Result<()> {
    let tests = root.join("tests");
    let mut witness = script(root, built, python, "coreai_bundle.py");
    for (model, contexts) in BUNDLES {
        let made = output.join(format!("{model}-{contexts}"));
        let directory = tests.join("models").join(model);
        let mut command = program(root, built);
        command.args(["--quiet", "convert", "--model"]).arg(&directory).arg("--output").arg(&made);
        command.args(["--combiner", "coreai-bundle", "--lut", "none", "--runtime", "none"]);
        command.args(["--contexts", contexts, "--queries", "1,8,32"]);
        run_command(&mut command)?;
        witness.arg(&made).arg(tests.join("models").join("golden").join(model));
    }
    for model in DYNAMIC {
        let made = output.join(format!("{model}-dynamic"));
        let directory = tests.join("models").join(model);
        let mut command = program(root, built);
        command.args(["--quiet", "convert", "--model"]).arg(&directory).arg("--output").arg(&made);
        command.args(["--combiner", "coreai-bundle", "--lut", "none", "--runtime", "none"]);
        command.args(["-O", "coreai-bundle.form=dynamic", "--context", CONTEXT]);
        run_command(&mut command)?;
        witness.arg(&made).arg(tests.join("models").join("golden").join(model));
    }
    for model in WINDOWS {
        let made = output.join(format!("{model}-dynamic"));
        let directory = tests.join("models").join("variants").join(model);
        let mut command = program(root, built);
        command.args(["--quiet", "convert", "--model"]).arg(&directory).arg("--output").arg(&made);
        command.args(["--combiner", "coreai-bundle", "--lut", "none", "--runtime", "none"]);
        command.args(["-O", "coreai-bundle.form=dynamic", "--context", CONTEXT]);
        command.args(["--no-tokenizer", "--compiler", "none"]);
        run_command(&mut command)?;
        let mut command = program(root, built);
        run_command(command.args(["--quiet", "compile", "--compiler", "coreai"]).arg(&made))?;
        witness.arg(asset(&made)?).arg(directory.join("golden"));
    }
    run_command(&mut witness)
}

/// The asset of a conversion.
fn asset(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "aimodel"))
        .ok_or_else(|| format!("{} has no asset", folder.display()))
}

/// Every form of weights: packages of coremltools, compiled here.
fn forms(
    root: &Path,
    output: &Path,
    built: &Artifacts,
    [coremltools, python]: [&Path; 2],
) -> Result<()> {
    let part = |python: &Path, part: &str| {
        let mut command = script(root, built, python, "coreai_forms.py");
        command.arg(part).arg(output);
        command
    };
    run_command(&mut part(coremltools, "make"))?;
    let entries = fs::read_dir(output)
        .map_err(|error| format!("cannot read {}: {error}", output.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let packages = paths.filter(|path| path.extension().is_some_and(|e| e == "mlpackage"));
    let mut compile = program(root, built);
    compile.args(["--quiet", "compile", "--compiler", "coreai"]).args(packages);
    run_command(&mut compile)?;
    run_command(&mut part(python, "run"))
}
