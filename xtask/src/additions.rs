//! `additions`: what adding an architecture costs, by adding one to a copy of the workspace.
//!
//! The newcomer is the plugin `llama` under another name. Its folder and one line in the list of
//! shipped plugins must do: the program that is built lists it, and converts a model of its type.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{cargo, run as run_command, workspace_root};
use crate::{Result, artifacts, no_arguments};

/// The plugin that is copied, seen from the workspace's folder, and the folder of the copy.
const ORIGINAL: &str = "plugins/arch/llama";
const NEWCOMER: &str = "plugins/arch/oryx";

/// What the newcomer has other names for.
const NAMES: [(&str, &str); 6] = [
    ("llama", "oryx"),
    ("Llama", "Oryx"),
    ("LLAMA", "ORYX"),
    ("mistral", "oryx2"),
    ("Mistral", "Oryx2"),
    ("MISTRAL", "ORYX2"),
];

/// The list of shipped plugins, and the only line that is added to a file that is there.
const LIST: &str = "crates/shipped/Cargo.toml";
const LINE: &str =
    "anemll-arch-oryx = { path = \"../../plugins/arch/oryx\", features = [\"builtin\"] }\n";

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let root = workspace_root()?;
    let folder = artifacts::target_directory()?.join("additions");
    let copy = folder.join("workspace");
    for file in tracked(&root)? {
        place(&copy.join(&file), &read(&root.join(&file))?)?;
    }
    let files = add(&copy)?;

    let build = folder.join("build");
    run_command(
        cargo()
            .current_dir(&copy)
            .args(["build", "--package", "anemll", "--features", "builtin"])
            .args(["--package", "anemll-arch-oryx-plugin", "--target-dir"])
            .arg(&build),
    )?;
    let program = build.join("debug").join(format!("anemll{}", std::env::consts::EXE_SUFFIX));
    let list = Command::new(&program)
        .args(["plugin", "list"])
        .output()
        .map_err(|error| format!("{} did not start: {error}", program.display()))?;
    if !String::from_utf8_lossy(&list.stdout).contains("oryx") {
        return Err("the program that was built does not list the newcomer".to_owned());
    }
    let model = folder.join("model");
    let original = root.join("tests/models/variants/tied");
    for entry in entries(&original)?.into_iter().filter(|entry| entry.is_file()) {
        let name = entry.file_name().unwrap_or_default();
        place(&model.join(name), &renamed_in(read(&entry)?, name == "config.json"))?;
    }
    let output = folder.join("out");
    remove(&output)?;
    run_command(
        Command::new(&program)
            .args(["convert", "--no-tokenizer", "--lut", "none", "--compiler", "none"])
            .arg(&model)
            .arg("--output")
            .arg(&output),
    )?;
    println!(
        "adding an architecture took its folder ({files} files) and 1 line in {LIST}; to test it, its \
         model takes a line in tests/tests/logits.rs"
    );
    Ok(())
}

/// Adds the newcomer to a copy of the workspace; how many files it has.
fn add(copy: &Path) -> Result<usize> {
    let target = copy.join(NEWCOMER);
    remove(&target)?;
    let mut files = 0;
    let mut folders = vec![copy.join(ORIGINAL)];
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder)? {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let inside = entry.strip_prefix(copy.join(ORIGINAL)).unwrap_or(&entry);
            // Its tests speak of models that only the original has.
            if !inside.starts_with("tests") {
                place(&target.join(inside), &renamed_in(read(&entry)?, true))?;
                files += 1;
            }
        }
    }
    let list = copy.join(LIST);
    let text = String::from_utf8_lossy(&read(&list)?).into_owned();
    let Some((before, after)) = text.split_once("[dependencies]\n") else {
        return Err(format!("{LIST} has no dependencies"));
    };
    place(&list, format!("{before}[dependencies]\n{LINE}{after}").as_bytes())?;
    Ok(files)
}

/// A file's bytes with the newcomer's names, where `renamed` says so.
fn renamed_in(bytes: Vec<u8>, renamed: bool) -> Vec<u8> {
    match String::from_utf8(bytes) {
        Ok(text) if renamed => {
            NAMES.iter().fold(text, |text, (old, new)| text.replace(old, new)).into_bytes()
        }
        Ok(text) => text.into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// The files of the workspace, also those that are not committed yet.
fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new("git");
    command.current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let output = command.output().map_err(|error| format!("git did not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("git lists no files: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // One that is deleted and not committed is listed too.
    Ok(names.filter(|name| root.join(name).is_file()).collect())
}

/// What is in a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = fs::read_dir(folder)
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut entries: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    Ok(entries)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Writes a file, unless it is there as it should be: then it is not built again.
fn place(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder)
        .map_err(|error| format!("cannot remove {}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newcomer_is_a_folder_and_a_line() {
        let root = workspace_root().unwrap();
        let copy = tempfile::tempdir().unwrap();
        for file in tracked(&root).unwrap() {
            if file.starts_with("plugins") || file.starts_with("crates/shipped") {
                place(&copy.path().join(&file), &read(&root.join(&file)).unwrap()).unwrap();
            }
        }
        assert!(add(copy.path()).unwrap() >= 5);
        let manifest = copy.path().join(NEWCOMER).join("plugin/Cargo.toml");
        let text = fs::read_to_string(manifest).unwrap();
        assert!(text.contains("anemll-arch-oryx") && !text.contains("llama"), "{text}");
        let list = fs::read_to_string(copy.path().join(LIST)).unwrap();
        let original = fs::read_to_string(root.join(LIST)).unwrap();
        assert_eq!(list.replace(LINE, ""), original);
    }
}
