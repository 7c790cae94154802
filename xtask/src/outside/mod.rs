//! `outside`: plugins as strangers make them, outside of this workspace.
//!
//! The guide for authors of arch plugins is followed, with the program and the SDK as they are handed
//! out: a plugin from `plugin new` is tested, built for release with a lock file of its own, loaded,
//! and converts its reference model to the very bytes that the built-in plugin gives; then it becomes
//! one for another architecture, which is converted, compared with transformers' logits, and answers.
//! With `--all`, plugins are optimized as their authors' are, a host as it is released loads the first,
//! and the guide for quantizers, the templates of all stages and the examples follow.

mod guide;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::artifacts::{self, library_file_name};
use crate::command::{run as run_command, workspace_root};
use crate::folder::{copy, files_below, read};
use crate::{Result, dist, sdk};
use guide::Step;

const USAGE: &str = "usage: cargo xtask outside [--all] [--built DIR | --program PATH]";

/// Guides that are followed, and the folder that each makes.
const ARCH_GUIDE: &str = "docs/guide/plugin-author.md";
const QUANTIZER_GUIDE: &str = "docs/guide/quantizer-author.md";

/// Stages of which a new plugin is tried out with `--all`; those of the guides are tried out there.
const STAGES: &[&str] = &["combiner", "compiler", "runtime"];

/// A smaller cosine of the logits than this is another model.
const LEAST_COSINE: f64 = 0.9999;

/// Examples below `examples/plugins`: what they convert, which is their own model or tiny-llama, and
/// the least cosine of its logits.
const EXAMPLES: &[(&str, &[&str], f64)] = &[
    ("starcoder2", &["model", "--lut", "none"], LEAST_COSINE),
    ("mpt", &["model", "--lut", "none", "--no-tokenizer"], LEAST_COSINE),
    // 256 values for all of a matrix.
    ("uniform", &[TINY_LLAMA, "--quantizer", "uniform", "-O", "levels=256"], 0.99),
    ("pairs", &[TINY_LLAMA, "--lut", "none", "--combiner", "pairs"], LEAST_COSINE),
];

/// A model of the workspace, with logits in a folder of their own.
const TINY_LLAMA: &str = "tiny-llama";

/// Where things are.
struct Place {
    /// The workspace's folder.
    root: PathBuf,
    /// The folder of the program under test, its plugins and its SDK.
    installed: PathBuf,
    /// The folder in which plugins are made.
    work: PathBuf,
    /// Whether plugins are optimized, though each is tried out once.
    optimized: bool,
}

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut all, mut source) = (false, Source::Build);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--all" => all = true,
            "--built" => source = Source::Built(words.next().ok_or(USAGE)?.into()),
            "--program" => source = Source::Program(words.next().ok_or(USAGE)?.into()),
            _ => return Err(format!("`outside` does not know `{word}`; {USAGE}")),
        }
    }
    let other_host = !matches!(source, Source::Program(_));
    let place = prepare(source, all)?;
    let plugin = follow_arch_guide(&place)?;
    if all {
        if other_host {
            load_by_release_host(&place, &plugin)?;
        }
        follow_guide(&place, QUANTIZER_GUIDE, &|_| Ok(()))?;
        for stage in STAGES {
            try_stage(&place, stage)?;
        }
        for (name, convert, least) in EXAMPLES {
            try_example(&place, name, convert, *least)?;
        }
    }
    println!("plugins outside of the workspace are built, loaded, and convert as they should");
    Ok(())
}

/// Which program is tried out.
enum Source {
    /// One that is built for it.
    Build,
    /// The program and the plugins that an earlier build left in a folder.
    Built(PathBuf),
    /// This one, with the plugins beside it.
    Program(PathBuf),
}

/// Lays out the program, or takes the one that is named, with the SDK beside it.
fn prepare(source: Source, optimized: bool) -> Result<Place> {
    let root = workspace_root()?;
    let folder = artifacts::target_directory()?.join("outside");
    let installed = match source {
        Source::Program(program) => {
            let program = program
                .canonicalize()
                .map_err(|error| format!("cannot find {}: {error}", program.display()))?;
            program.parent().ok_or("the program lies nowhere")?.to_owned()
        }
        Source::Build => lay_out(&artifacts::build("dev")?, &folder)?,
        Source::Built(built) => lay_out(&artifacts::in_folder(&built)?, &folder)?,
    };
    sdk::write(&installed.join("sdk"))?;
    // What the examples name.
    sdk::write(&root.join("dist").join("sdk"))?;
    let work = folder.join("work");
    copy(&root.join("examples"), &work.join("examples"))?;
    Ok(Place { root, installed, work, optimized })
}

/// Puts the program and its plugins where they are found, and gives that folder.
fn lay_out(built: &artifacts::Artifacts, folder: &Path) -> Result<PathBuf> {
    let installed = folder.join("installed");
    dist::fill(built, &installed)?;
    Ok(installed)
}

impl Place {
    /// What commands of a guide are given: the program is found by its name, and builds are their own.
    fn prepare(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = [self.installed.clone()].into_iter().chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(folders) {
            // For the program that is started, and for what it starts.
            command.env("PATH", path);
        }
        for (name, _) in std::env::vars_os() {
            let cargo = name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_"));
            if cargo || ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR"].iter().any(|it| name == *it) {
                command.env_remove(name);
            }
        }
        command.env("NO_COLOR", "1").env("ANEMLL_CACHE", self.work.join("cache"));
        // Nobody debugs it.
        command.env("CARGO_PROFILE_DEV_DEBUG", "false");
        if !self.optimized {
            command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
        }
    }

    fn anemll(&self, folder: &Path, words: &[&str]) -> Command {
        let program = self.installed.join(format!("anemll{}", std::env::consts::EXE_SUFFIX));
        let mut command = Command::new(program);
        command.current_dir(folder).args(words);
        self.prepare(&mut command);
        command
    }

    fn cargo(&self, folder: &Path, words: &[&str]) -> Result<()> {
        let mut command = crate::command::cargo();
        command.current_dir(folder).args(words);
        self.prepare(&mut command);
        run_command(&mut command)
    }
}

/// Follows the guide for arch plugins. The plugin is first converted with as it was made.
fn follow_arch_guide(place: &Place) -> Result<PathBuf> {
    let folder = follow_guide(place, ARCH_GUIDE, &|folder| same_as_builtin(place, folder))?;
    check_logits(place, &folder, &folder.join("model/golden"), LEAST_COSINE)?;
    Ok(folder)
}

/// The program above has checks and no optimization across crates. A host as it is released, which
/// does nothing but load and check layouts, must take the plugin too.
fn load_by_release_host(place: &Place, plugin: &Path) -> Result<()> {
    println!("\n== the plugin in a host that is built for release");
    let words = ["--release", "--package", "anemll-plugin-host", "--example", "boundary_speed"];
    run_command(
        crate::command::cargo().current_dir(&place.root).args(["build", "--locked"]).args(words),
    )?;
    let example = format!("release/examples/boundary_speed{}", std::env::consts::EXE_SUFFIX);
    let mut command = Command::new(artifacts::target_directory()?.join(example));
    let name = plugin.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
    run_command(command.arg(plugin.join("target/release").join(library_file_name(&name))))
}

/// Follows a guide, and gives the folder where it ended. What comes after the first conversion is
/// done there and then.
fn follow_guide(
    place: &Place,
    guide: &str,
    after_conversion: &dyn Fn(&Path) -> Result<()>,
) -> Result<PathBuf> {
    println!("\n== {guide}");
    let path = place.root.join(guide);
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let steps = guide::steps(&text);
    let runs = |word: &str| {
        let place = steps.iter().position(
            |step| matches!(step, Step::Run(words) if words.iter().any(|found| found == word)),
        );
        place.ok_or_else(|| format!("{guide} has no command with `{word}`"))
    };
    let (made, converted) = (runs("new")?, runs("convert")?);
    let Some(Step::Run(words)) = steps.get(made) else { return Err(guide.to_owned()) };
    let plugin = place.work.join(words.get(3).ok_or("the new plugin has no name")?);
    clear(&plugin)?;
    let mut folder = place.work.clone();
    let prepare = |command: &mut Command| place.prepare(command);
    guide::follow(&steps[..=made], &mut folder, &prepare)?;
    take_back(&plugin)?;
    guide::follow(&steps[made + 1..=converted], &mut folder, &prepare)?;
    after_conversion(&folder)?;
    guide::follow(&steps[converted + 1..], &mut folder, &prepare)?;
    Ok(folder)
}

/// Where stands what cargo built in a plugin's folder, while that is made anew.
fn aside(folder: &Path) -> PathBuf {
    folder.with_extension("built")
}

/// Removes a folder that an earlier run made, but puts aside what cargo built in it.
fn clear(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let target = folder.join("target");
    if target.exists() && !aside(folder).exists() {
        rename(&target, &aside(folder))?;
    }
    fs::remove_dir_all(folder)
        .map_err(|error| format!("cannot remove {}: {error}", folder.display()))
}

/// Puts back what cargo built.
fn take_back(folder: &Path) -> Result<()> {
    match aside(folder).exists() {
        true => rename(&aside(folder), &folder.join("target")),
        false => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| format!("cannot rename {}: {error}", from.display()))
}

/// A plugin as the arch template has it is a Granite model without factors: its conversion has the
/// bytes of that by the built-in plugin.
fn same_as_builtin(place: &Place, folder: &Path) -> Result<()> {
    let model = folder.join("granite");
    copy(&folder.join("model"), &model)?;
    let config = model.join("config.json");
    let mut value = read_json(&config)?;
    let number = |key: &str| value[key].as_f64().ok_or_else(|| format!("config.json lacks {key}"));
    let scale = (number("hidden_size")? / number("num_attention_heads")?).sqrt().recip();
    let prefix = value["model_type"].as_str().unwrap_or_default().replace('-', "_");
    value["model_type"] = "granite".into();
    value["architectures"] = serde_json::json!(["GraniteForCausalLM"]);
    value["attention_multiplier"] = scale.into();
    fs::write(&config, value.to_string())
        .map_err(|error| format!("cannot write {}: {error}", config.display()))?;
    let words = ["convert", "granite", "-o", "out-granite", "--no-tokenizer", "--prefix", &prefix];
    run_command(&mut place.anemll(folder, &words))?;
    let (ours, theirs) = (folder.join("out-granite"), folder.join("out"));
    let mut compared = 0;
    for name in files_below(&ours)? {
        // Records, reports and metadata name the model and the plugins.
        let bytes = ["weight.bin", "model.mil"].iter().any(|end| name.ends_with(end));
        if !bytes {
            continue;
        }
        if read(&ours.join(&name))? != read(&theirs.join(&name))? {
            return Err(format!("{name} is another one than that of the built-in plugin"));
        }
        compared += 1;
    }
    if compared < 2 {
        return Err(format!("{} has neither weights nor programs", ours.display()));
    }
    println!(
        "{compared} files of weights and programs are those of the built-in plugin, to the byte"
    );
    Ok(())
}

/// The logits of a conversion in `out` are those of transformers, which lie in the folder `golden`.
fn check_logits(place: &Place, folder: &Path, golden: &Path, least: f64) -> Result<()> {
    let mut command = place.anemll(folder, &["eval", "out", "--json", "--tokens"]);
    command.arg(golden.join("ids.npy")).arg("--reference").arg(golden.join("logits.npy"));
    let output = command.output().map_err(|error| format!("anemll did not start: {error}"))?;
    let told: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("anemll eval: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    match told["cosine_min"].as_f64() {
        Some(cosine) if cosine >= least => {
            println!("the logits are those of transformers: the smallest cosine is {cosine}");
            Ok(())
        }
        cosine => Err(format!(
            "{}: the smallest cosine with transformers' logits is {cosine:?}",
            folder.display()
        )),
    }
}

/// Makes a plugin of a stage, and does what `plugin new` says is next.
fn try_stage(place: &Place, stage: &str) -> Result<()> {
    println!("\n== plugin new --stage {stage}");
    let name = format!("moth-{stage}");
    let folder = place.work.join(&name);
    clear(&folder)?;
    let mut new = place.anemll(&place.work, &["plugin", "new", &name, "--stage", stage]);
    let output = new.output().map_err(|error| format!("anemll did not start: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    take_back(&folder)?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let next: String = told
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .map(|line| format!("    {line}\n"))
        .collect();
    let mut here = folder;
    guide::follow(&guide::steps(&next), &mut here, &|command| place.prepare(command))
}

/// Tests, builds and uses a plugin of `examples`.
fn try_example(place: &Place, name: &str, convert: &[&str], least: f64) -> Result<()> {
    println!("\n== examples/plugins/{name}");
    let folder = place.root.join("examples/plugins").join(name);
    // The crates of the SDK are built once for all of them.
    let target = place.work.join("target");
    let shown = target.to_string_lossy();
    place.cargo(&folder, &["test", "--locked", "--target-dir", &shown])?;
    place.cargo(&folder, &["build", "--locked", "--release", "--target-dir", &shown])?;
    clear(&folder.join("out"))?;
    let models = place.root.join("tests/models");
    let (model, golden) = match convert.contains(&TINY_LLAMA) {
        true => (models.join(TINY_LLAMA), models.join("golden").join(TINY_LLAMA)),
        false => (folder.join("model"), folder.join("model/golden")),
    };
    let library = target.join("release").join(library_file_name(name));
    let mut command = place.anemll(&folder, &["--plugin"]);
    command.arg(library).args(["convert", "-o", "out"]).arg(model).args(&convert[1..]);
    run_command(&mut command)?;
    check_logits(place, &folder, &golden, least)
}

fn read_json(path: &Path) -> Result<Value> {
    serde_json::from_slice(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guide shows of an example is the example.
    #[test]
    fn guides_show_the_examples() {
        let root = workspace_root().unwrap();
        for (guide, example) in [(ARCH_GUIDE, "starcoder2"), (QUANTIZER_GUIDE, "uniform")] {
            let text = fs::read_to_string(root.join(guide)).unwrap();
            let mut files = 0;
            for step in guide::steps(&text) {
                if let Step::Write(path, text) = step {
                    let example = root.join("examples/plugins").join(example).join(&path);
                    assert_eq!(text, fs::read_to_string(example).unwrap(), "{guide}: {path}");
                    files += 1;
                }
            }
            assert!(files > 0, "{guide} shows no file");
        }
    }

    #[test]
    fn every_example_is_tried_out() {
        let root = workspace_root().unwrap().join("examples/plugins");
        let mut names: Vec<String> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| root.join(name).is_dir())
            .collect();
        names.sort();
        let mut known: Vec<&str> = EXAMPLES.iter().map(|(name, ..)| *name).collect();
        known.sort_unstable();
        assert_eq!(names, known);
        for name in names {
            assert!(root.join(name).join("Cargo.lock").is_file());
        }
    }
}
