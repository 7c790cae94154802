//! `bench plugins`: what it costs that plugins are libraries: loading them, a call across, and a whole
//! conversion beside the program that has them inside.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::command::{cargo, run as run_command, shown, workspace_root};
use crate::{Result, artifacts};

/// What can be typed.
struct Arguments {
    profile: String,
    pairs: usize,
    model: PathBuf,
}

impl Arguments {
    fn parse(arguments: &[String]) -> Result<Self> {
        let usage = "usage: cargo xtask bench plugins [--profile NAME] [--pairs N] [--model DIR]";
        let mut parsed = Self {
            profile: "release".to_owned(),
            pairs: 15,
            model: workspace_root()?.join("tests/models/tiny-llama"),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or(usage)?;
            match word.as_str() {
                "--profile" => parsed.profile = value.clone(),
                "--pairs" => parsed.pairs = value.parse().map_err(|_| usage)?,
                "--model" => parsed.model = PathBuf::from(value),
                _ => return Err(usage.to_owned()),
            }
        }
        if parsed.pairs == 0 { Err(usage.to_owned()) } else { Ok(parsed) }
    }
}

/// Measures, and prints a row for each measure.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let arguments = Arguments::parse(arguments)?;
    let built = artifacts::build(&arguments.profile)?;
    let examples = ["--example", "boundary_speed", "--example", "misbehaving"];
    run_command(
        cargo()
            .current_dir(workspace_root()?)
            .args(["build", "--profile", &arguments.profile, "--package", "anemll-plugin-host"])
            .args(examples),
    )?;
    let single = artifacts::build_single(&arguments.profile)?;
    let folder = built.host.parent().unwrap_or(Path::new("")).join("examples");
    let speed = folder.join(format!("boundary_speed{}", std::env::consts::EXE_SUFFIX));
    let misbehaving = folder.join(artifacts::library_file_name("misbehaving"));

    let (mut loads, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..arguments.pairs {
        let mut command = Command::new(&speed);
        let said = output_of(command.args(&built.plugins))?;
        loads.push(numbers(&said, "load").iter().sum());
        calls.extend(numbers(&output_of(Command::new(&speed).arg(&misbehaving))?, "call"));
    }
    println!("| what | goal | median of {} |", arguments.pairs);
    println!("|---|---|---|");
    let count = built.plugins.len();
    println!("| load {count} plugins, layouts checked | 10 ms | {:.2} ms |", median(&mut loads));
    println!("| a call across | 1000 ns | {:.0} ns |", median(&mut calls));

    let mut lists = Vec::new();
    for _ in 0..arguments.pairs {
        let list = wall(with_plugins(&built.host, &built.plugins).args(["plugin", "list"]))?;
        lists.push(list - wall(with_plugins(&built.host, &[]).arg("--version"))?);
    }
    println!("| `plugin list` beyond `--version`, wall | 10 ms | {:.2} ms |", median(&mut lists));

    let mut ratios = Vec::new();
    let mut seconds = [Vec::new(), Vec::new()];
    for pair in 0..arguments.pairs {
        let mut spent = [0.0; 2];
        // Whichever comes second finds warm files: they take turns.
        for turn in 0..2 {
            let which = (pair + turn) % 2;
            spent[which] = match which {
                0 => conversion(&built.host, &built.plugins, &arguments.model)?,
                _ => conversion(&single, &[], &arguments.model)?,
            };
            seconds[which].push(spent[which]);
        }
        ratios.push(spent[0] / spent[1]);
    }
    let [libraries, inside] = &mut seconds;
    println!(
        "| convert through libraries: user CPU beside the program with plugins inside | 1.03 | {:.3} \
         ({:.3} s, {:.3} s) |",
        median(&mut ratios),
        median(libraries),
        median(inside)
    );
    Ok(())
}

/// The numbers at the end of lines that begin with a word.
fn numbers(text: &str, word: &str) -> Vec<f64> {
    let lines = text.lines().filter(|line| line.starts_with(word));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

fn output_of(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command.output().map_err(|error| format!("`{line}` did not start: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("`{line}` failed ({})\n{said}", output.status))
        }
    }
}

/// The program with plugins and none of the user's.
fn with_plugins(host: &Path, plugins: &[PathBuf]) -> Command {
    let mut command = Command::new(host);
    for plugin in plugins {
        command.arg("--plugin").arg(plugin);
    }
    command.env("ANEMLL_DATA", host.with_extension("none")).env_remove("ANEMLL_PLUGIN_PATH");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Milliseconds that a command takes.
fn wall(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    run_quietly(command)?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

/// Seconds of user CPU that a conversion takes.
fn conversion(host: &Path, plugins: &[PathBuf], model: &Path) -> Result<f64> {
    let output = artifacts::target_directory()?.join("bench-plugins");
    if output.exists() {
        std::fs::remove_dir_all(&output)
            .map_err(|error| format!("cannot remove {}: {error}", output.display()))?;
    }
    let mut command = with_plugins(host, plugins);
    command.args(["convert", "--no-tokenizer", "--lut", "4", "--quantizer", "lut"]);
    command.args(["--skip-quality", "--combiner", "chunked", "--output"]).arg(&output).arg(model);
    let before = user_seconds()?;
    run_quietly(&mut command)?;
    Ok(user_seconds()? - before)
}

fn run_quietly(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command.status().map_err(|error| format!("`{line}` did not start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed ({status})")) }
}

/// User CPU of all processes that this one has waited for.
#[cfg(unix)]
#[allow(unsafe_code)]
fn user_seconds() -> Result<f64> {
    // SAFETY: all of it is numbers, for which zeros are values.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the system fills in what the pointer leads to.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) } != 0 {
        return Err("the system does not say how much CPU was used".to_owned());
    }
    Ok(usage.ru_utime.tv_sec as f64 + usage.ru_utime.tv_usec as f64 / 1e6)
}

#[cfg(not(unix))]
fn user_seconds() -> Result<f64> {
    Err("`bench plugins` measures user CPU on Unix systems only".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_the_middle_is_found() {
        let said = "load llama 0.5\nload lut 1.5\ncall reset 95\n";
        assert_eq!(numbers(said, "load"), [0.5, 1.5]);
        assert_eq!(numbers(said, "call"), [95.0]);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
