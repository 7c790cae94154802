//! `dist`: the program and its plugins as users get them.
//!
//! `dist/anemll` beside `dist/plugins/`, where the program looks for plugins by itself, with
//! `dist/completions/` for shells and `dist/man/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::artifacts;
use crate::command::workspace_root;

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let profile = match arguments {
        [] => "release",
        [flag, profile] if flag == "--profile" => profile,
        [flag] => flag.strip_prefix("--profile=").ok_or_else(|| unknown(flag))?,
        [other, ..] => return Err(unknown(other)),
    };
    let dist = make(profile)?;
    texts(&dist.host)?;
    println!("program: {}", dist.host.display());
    for plugin in &dist.plugins {
        println!("plugin:  {}", plugin.display());
    }
    Ok(())
}

fn unknown(argument: &str) -> String {
    format!("`dist` does not know `{argument}`; usage: cargo xtask dist [--profile NAME]")
}

/// Builds with the profile and fills `dist/`; the paths are those of the copies.
pub(crate) fn make(profile: &str) -> Result<artifacts::Artifacts> {
    let built = artifacts::build(profile)?;
    let dist = workspace_root()?.join("dist");
    let plugins = dist.join("plugins");
    // A library of a plugin that no longer exists would be found and loaded.
    if plugins.exists() {
        fs::remove_dir_all(&plugins).map_err(|error| failed("remove", &plugins, &error))?;
    }
    fs::create_dir_all(&plugins).map_err(|error| failed("make", &plugins, &error))?;
    let host = copy(&built.host, &dist)?;
    let plugins =
        built.plugins.iter().map(|plugin| copy(plugin, &plugins)).collect::<Result<_>>()?;
    Ok(artifacts::Artifacts { host, plugins })
}

/// Has the program write its manual and its completions beside itself.
fn texts(program: &Path) -> Result<()> {
    let dist = program.parent().ok_or("the program lies nowhere")?;
    let completions = dist.join("completions");
    fs::create_dir_all(&completions).map_err(|error| failed("make", &completions, &error))?;
    let shells = [
        ("bash", "anemll.bash"),
        ("zsh", "_anemll"),
        ("fish", "anemll.fish"),
        ("powershell", "anemll.ps1"),
        ("elvish", "anemll.elv"),
    ];
    for (shell, name) in shells {
        let script = answer(program, &["completions", shell])?;
        let path = completions.join(name);
        fs::write(&path, script).map_err(|error| failed("write", &path, &error))?;
    }
    let man = dist.join("man");
    // A page of a command that no longer exists would stay.
    if man.exists() {
        fs::remove_dir_all(&man).map_err(|error| failed("remove", &man, &error))?;
    }
    answer(program, &["man", "--output", &man.to_string_lossy()]).map(drop)
}

/// What the program prints.
fn answer(program: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| failed("start", program, &error))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!(
            "`anemll {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Copies beside the final name and renames, since a running program's file cannot be written to.
fn copy(from: &Path, directory: &Path) -> Result<PathBuf> {
    let name = from.file_name().ok_or("a built file has no name")?;
    let to = directory.join(name);
    let mut unfinished = name.to_owned();
    unfinished.push(".new");
    let unfinished = directory.join(unfinished);
    fs::copy(from, &unfinished).map_err(|error| failed("write", &unfinished, &error))?;
    fs::rename(&unfinished, &to).map_err(|error| failed("write", &to, &error))?;
    Ok(to)
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_replace_and_leave_nothing_beside() {
        let directory = artifacts::target_directory()
            .unwrap()
            .join(format!("xtask-copy-{}", std::process::id()));
        let out = directory.join("out");
        fs::create_dir_all(&out).unwrap();
        fs::write(directory.join("file"), b"new").unwrap();
        fs::write(out.join("file"), b"old").unwrap();
        let copied = copy(&directory.join("file"), &out).unwrap();
        assert_eq!(fs::read(&copied).unwrap(), b"new");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn unknown_flags_are_refused_before_anything_is_built() {
        let message = run(&["--fast".to_owned()]).unwrap_err();
        assert!(message.contains("--fast"), "{message}");
    }
}
