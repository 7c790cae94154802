//! Building the program and the plugin libraries, and finding what was built.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::Result;
use crate::command::{cargo, shown, workspace_root};

/// What one build made.
pub(crate) struct Artifacts {
    /// The program `anemll`.
    pub host: PathBuf,
    /// The plugin libraries, sorted by name.
    pub plugins: Vec<PathBuf>,
}

impl Artifacts {
    /// The plugin library whose name, without the system's prefix and suffix, is `name`.
    pub(crate) fn plugin(&self, name: &str) -> Result<&Path> {
        let file = library_file_name(name);
        self.plugins
            .iter()
            .find(|path| path.file_name().is_some_and(|found| found == file.as_str()))
            .map(PathBuf::as_path)
            .ok_or_else(|| format!("the workspace has no plugin library {file}"))
    }
}

/// The file name of a library on this system: `libllama.so`, `libllama.dylib`, `llama.dll`.
pub(crate) fn library_file_name(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// Builds the program and every plugin of the workspace.
pub(crate) fn build(profile: &str) -> Result<Artifacts> {
    let wanted = wanted_packages(&metadata()?)?;
    let mut arguments = vec!["--profile".to_owned(), profile.to_owned()];
    for package in wanted {
        arguments.extend(["--package".to_owned(), package]);
    }
    build_with(&arguments)
}

/// Builds the program with all plugins inside, apart from all other builds of it, and gives where
/// it is.
pub(crate) fn build_single(profile: &str) -> Result<PathBuf> {
    let folder = target_directory()?.join("single");
    let arguments = ["--profile", profile, "--package", "anemll", "--features", "builtin"];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
    arguments.extend(["--target-dir".to_owned(), folder.display().to_string()]);
    // No plugin is built as a library here.
    let messages = build_messages(&arguments)?;
    Ok(found(&messages)?.host)
}

/// The program and the plugins that an earlier build left in a folder.
pub(crate) fn in_folder(folder: &Path) -> Result<Artifacts> {
    let host = folder.join(format!("anemll{}", std::env::consts::EXE_SUFFIX));
    if !host.is_file() {
        return Err(format!("{} is not there; build it first", host.display()));
    }
    let mut plugins = Vec::new();
    for package in list(&metadata()?["packages"]) {
        for target in list(&package["targets"]).filter(|target| has(&target["kind"], "cdylib")) {
            let name = target["name"].as_str().unwrap_or_default();
            let path = folder.join(library_file_name(name));
            if !path.is_file() {
                return Err(format!("{} is not there; build it first", path.display()));
            }
            plugins.push(path);
        }
    }
    plugins.sort();
    Ok(Artifacts { host, plugins })
}

/// The packages that hold the program or a plugin library.
pub(crate) fn packages() -> Result<Vec<String>> {
    wanted_packages(&metadata()?)
}

/// Builds everything that the tests of the workspace link or open.
pub(crate) fn build_for_tests() -> Result<Artifacts> {
    // Not xtask: it is what runs now, and some systems refuse to write to a running program.
    let arguments = ["--workspace", "--exclude", "xtask", "--all-targets"];
    build_with(&arguments.map(str::to_owned))
}

fn build_with(arguments: &[String]) -> Result<Artifacts> {
    found(&build_messages(arguments)?)
}

/// Builds, and gives the messages that cargo prints.
fn build_messages(arguments: &[String]) -> Result<String> {
    let mut command = cargo();
    command
        .current_dir(workspace_root()?)
        .arg("build")
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let line = shown(&command);
    eprintln!("$ {line}");
    let output = command.output().map_err(|error| format!("`{line}` did not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("the build failed ({})", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads the paths from the messages that cargo prints, one JSON object a line.
fn found(messages: &str) -> Result<Artifacts> {
    let mut host = None;
    let mut plugins = Vec::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] == true {
            continue;
        }
        let target = &message["target"];
        if has(&target["kind"], "bin") && target["name"] == "anemll" {
            host = message["executable"].as_str().map(PathBuf::from);
        }
        if has(&target["kind"], "cdylib") {
            // On some systems an import library or symbols lie beside it.
            plugins.extend(
                strings(&message["filenames"])
                    .map(PathBuf::from)
                    .filter(|path| has_library_suffix(path)),
            );
        }
    }
    plugins.sort();
    plugins.dedup();
    let host = host.ok_or("the build made no program `anemll`")?;
    Ok(Artifacts { host, plugins })
}

fn has_library_suffix(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn has(list: &Value, word: &str) -> bool {
    strings(list).any(|found| found == word)
}

/// The packages that hold the program or a plugin library.
fn wanted_packages(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let mut names: Vec<String> = packages
        .iter()
        .filter(|package| {
            let targets = package["targets"].as_array().into_iter().flatten();
            targets.into_iter().any(|target| {
                has(&target["kind"], "cdylib")
                    || (has(&target["kind"], "bin") && target["name"] == "anemll")
            })
        })
        .filter_map(|package| package["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// What cargo knows of the workspace's own packages.
pub(crate) fn metadata() -> Result<Value> {
    let mut command = cargo();
    command.current_dir(workspace_root()?).args([
        "metadata",
        "--no-deps",
        "--format-version=1",
        "--quiet",
    ]);
    let output = command.output().map_err(|error| format!("cargo did not start: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "`cargo metadata` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("`cargo metadata` printed no JSON: {error}"))
}

/// The folder in which cargo builds.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata = metadata()?;
    let path = metadata["target_directory"].as_str().ok_or("cargo names no target directory")?;
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_read_from_cargo_messages() {
        let library = library_file_name("llama");
        let messages = [
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"anemll_host"},"filenames":["/t/libanemll_host.rlib"],"executable":null}"#.to_owned(),
            r#"{"reason":"compiler-artifact","profile":{"test":true},"target":{"kind":["bin"],"name":"anemll"},"filenames":["/t/deps/anemll-1"],"executable":"/t/deps/anemll-1"}"#.to_owned(),
            r#"{"reason":"compiler-artifact","profile":{"test":false},"target":{"kind":["bin"],"name":"anemll"},"filenames":["/t/anemll"],"executable":"/t/anemll"}"#.to_owned(),
            format!(r#"{{"reason":"compiler-artifact","target":{{"kind":["cdylib"],"name":"llama"}},"filenames":["/t/{library}","/t/llama.notes"],"executable":null}}"#),
            "not json".to_owned(),
        ]
        .join("\n");
        let artifacts = found(&messages).unwrap();
        assert_eq!(artifacts.host, Path::new("/t/anemll"));
        assert_eq!(artifacts.plugins, [Path::new("/t").join(&library)]);
        assert!(artifacts.plugin("llama").is_ok());
        assert!(artifacts.plugin("missing").is_err_and(|message| message.contains("missing")));
    }

    #[test]
    fn a_build_without_the_program_is_an_error() {
        assert!(found("").is_err());
    }

    #[test]
    fn the_workspace_has_the_program_and_plugins() {
        let packages = wanted_packages(&metadata().unwrap()).unwrap();
        assert!(packages.contains(&"anemll".to_owned()), "{packages:?}");
        assert!(packages.contains(&"anemll-combiner-chunked-plugin".to_owned()), "{packages:?}");
        assert!(!packages.contains(&"anemll-mil".to_owned()), "{packages:?}");
    }
}
