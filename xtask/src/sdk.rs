//! `sdk`: the crates that authors of plugins build against, outside of this workspace.
//!
//! Nothing is published yet, so `dist/sdk` holds the crates' sources: each in a folder of its name,
//! with a manifest that stands alone and depends on its neighbours by path, and nothing of its
//! tests. `Cargo.lock` has the versions of other crates with which all of it was tested, and
//! `sdk.json` says which version this is and which crates use each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::command::workspace_root;
use crate::folder::{files_below, read};
use crate::{Result, artifacts};

/// The crates that plugins use; what these use of ours comes along.
const CRATES: &[&str] = &[
    "anemll-plugin-api",
    "anemll-decoder",
    "anemll-mil",
    "anemll-layout",
    "anemll-palettize",
    "anemll-mlpackage",
    "anemll-mlmodelc",
    "anemll-weights",
];

/// Texts of the workspace that belong to the sources.
const TEXTS: &[&str] = &["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"];

/// The file of a package that cargo runs before it builds the package. It uses no crate.
const BUILD_SCRIPT: &str = "build.rs";

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let output = match arguments {
        [] => workspace_root()?.join("dist").join("sdk"),
        [flag, folder] if flag == "--output" => PathBuf::from(folder),
        _ => return Err("usage: cargo xtask sdk [--output DIR]".to_owned()),
    };
    let files = write(&output)?;
    println!("SDK: {} ({files} files)", output.display());
    Ok(())
}

/// Lays the SDK out in a folder, and gives the number of its files. What is there as it should be
/// stays untouched, so that nothing is built again.
pub(crate) fn write(output: &Path) -> Result<usize> {
    let files = files()?;
    for (name, bytes) in &files {
        let path = output.join(name);
        if fs::read(&path).is_ok_and(|found| found == *bytes) {
            continue;
        }
        let folder = path.parent().unwrap_or(output);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    for stale in files_below(output)? {
        if !files.contains_key(&stale) {
            let path = output.join(&stale);
            fs::remove_file(&path)
                .map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
        }
    }
    Ok(files.len())
}

/// The SDK's files, by path with forward slashes.
pub(crate) fn files() -> Result<BTreeMap<String, Vec<u8>>> {
    let root = workspace_root()?;
    let metadata = artifacts::metadata()?;
    let packages = packages(&metadata)?;
    let mut files = BTreeMap::new();
    for name in TEXTS {
        files.insert((*name).to_owned(), read(&root.join(name))?);
    }
    let mut crates = serde_json::Map::new();
    for (name, package) in &packages {
        let folder = folder_of(package)?;
        if has_build_script(package) {
            files.insert(format!("{name}/{BUILD_SCRIPT}"), read(&folder.join(BUILD_SCRIPT))?);
        }
        files.insert(format!("{name}/Cargo.toml"), manifest(package)?.into_bytes());
        for file in files_below(&folder.join("src"))? {
            if !is_test(&file) {
                let bytes = read(&folder.join("src").join(&file))?;
                files.insert(format!("{name}/src/{file}"), bytes);
            }
        }
        crates.insert(name.clone(), json!(own(package)));
    }
    let version = |name: &str| packages.get(name).map(|package| package["version"].clone());
    let about = json!({
        "version": version("anemll-mil"),
        "plugin_api": version("anemll-plugin-api"),
        "crates": crates,
    });
    files.insert("sdk.json".to_owned(), format!("{about:#}\n").into_bytes());
    Ok(files)
}

/// The packages of the SDK, by name: those of the list, and what they use.
fn packages(metadata: &Value) -> Result<BTreeMap<String, Value>> {
    let all = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let mut found = BTreeMap::new();
    let mut wanted: Vec<String> = CRATES.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = wanted.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let package = all
            .iter()
            .find(|package| package["name"] == name.as_str())
            .ok_or_else(|| format!("the workspace has no crate {name}"))?;
        wanted.extend(own(package));
        found.insert(name, package.clone());
    }
    Ok(found)
}

/// What a package needs to be built: no dependency of tests or of a build script.
fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.filter(|dependency| dependency["kind"].is_null())
}

fn has_build_script(package: &Value) -> bool {
    let targets = package["targets"].as_array();
    targets.into_iter().flatten().any(|target| target["kind"][0] == "custom-build")
}

/// The crates of ours that a package needs.
fn own(package: &Value) -> BTreeSet<String> {
    dependencies(package)
        .filter(|dependency| dependency["path"].is_string())
        .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
        .collect()
}

/// The manifest of a package that stands outside of the workspace.
fn manifest(package: &Value) -> Result<String> {
    let mut text = "[package]\n".to_owned();
    let keys = [
        ("name", "name"),
        ("version", "version"),
        ("edition", "edition"),
        ("rust-version", "rust_version"),
        ("license", "license"),
        ("description", "description"),
    ];
    for (key, name) in keys {
        let value = package[name].as_str().unwrap_or_default();
        put(&mut text, format_args!("{key} = {}\n", quoted(value)));
    }
    text.push_str("publish = false\n");
    let features = package["features"].as_object().into_iter().flatten();
    for (place, (name, needs)) in features.enumerate() {
        let head = if place == 0 { "\n[features]\n" } else { "" };
        put(&mut text, format_args!("{head}{name} = {needs}\n"));
    }
    // One table for each place where dependencies may stand.
    let mut tables: BTreeMap<String, String> = BTreeMap::new();
    for dependency in dependencies(package) {
        let table = match dependency["target"].as_str() {
            Some(target) => format!("target.{}.dependencies", quoted(target)),
            None => "dependencies".to_owned(),
        };
        tables.entry(table).or_default().push_str(&line(dependency)?);
    }
    for (table, lines) in tables {
        put(&mut text, format_args!("\n[{table}]\n{lines}"));
    }
    Ok(text)
}

/// The line of a dependency.
fn line(dependency: &Value) -> Result<String> {
    let text = |key: &str| dependency[key].as_str();
    let name = text("name").ok_or("a dependency has no name")?;
    if !dependency["registry"].is_null() {
        return Err(format!("{name} comes from a registry of its own"));
    }
    let mut parts = Vec::new();
    let key = match text("rename") {
        Some(other) => {
            parts.push(format!("package = {}", quoted(name)));
            other
        }
        None => name,
    };
    match dependency["path"].is_string() {
        true => parts.push(format!("path = {}", quoted(&format!("../{name}")))),
        false => parts.push(format!("version = {}", quoted(text("req").unwrap_or("*")))),
    }
    if dependency["uses_default_features"] == false {
        parts.push("default-features = false".to_owned());
    }
    if dependency["features"].as_array().is_some_and(|features| !features.is_empty()) {
        parts.push(format!("features = {}", dependency["features"]));
    }
    if dependency["optional"] == true {
        parts.push("optional = true".to_owned());
    }
    Ok(format!("{key} = {{ {} }}\n", parts.join(", ")))
}

/// A string of TOML; what cargo allows in these places needs no other escapes than those of JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(more);
}

fn folder_of(package: &Value) -> Result<PathBuf> {
    let manifest = package["manifest_path"].as_str().ok_or("cargo names no manifest")?;
    Ok(Path::new(manifest).parent().unwrap_or(Path::new("")).to_owned())
}

/// Whether a file below `src` is a module of tests.
fn is_test(file: &str) -> bool {
    file.split('/').any(|part| matches!(part, "tests" | "tests.rs") || part.ends_with("_tests.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_stand_alone() {
        let files = files().unwrap();
        let manifests = files.iter().filter(|(name, _)| name.ends_with("/Cargo.toml"));
        let mut names = Vec::new();
        for (name, bytes) in manifests {
            let text = String::from_utf8_lossy(bytes);
            for word in ["workspace", "[dev-", "[lints", "tempfile", "*\""] {
                assert!(!text.contains(word), "{name} has {word}: {text}");
            }
            for line in text.lines().filter(|line| line.contains("path = ")) {
                let (own, _) = line.split_once(" = ").unwrap();
                assert!(line.contains(&format!("\"../{own}\"")), "{line}");
                assert!(files.contains_key(&format!("{own}/Cargo.toml")), "{line}");
            }
            names.push(name.split_once('/').unwrap().0.to_owned());
        }
        for name in CRATES {
            assert!(names.contains(&(*name).to_owned()), "{names:?}");
            assert!(files.contains_key(&format!("{name}/src/lib.rs")), "{name}");
        }
        // No plugin, and nothing of the host.
        for name in ["anemll", "anemll-pipeline", "anemll-shipped", "anemll-arch-llama"] {
            assert!(!names.contains(&name.to_owned()), "{names:?}");
        }
        assert!(files.keys().all(|name| !name.contains("/tests")), "{:?}", files.keys());
    }

    #[test]
    fn a_second_layout_changes_what_differs_and_removes_what_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("sdk");
        let count = write(&output).unwrap();
        let kept = output.join("anemll-mil/src/lib.rs");
        let before = fs::metadata(&kept).unwrap().modified().unwrap();
        fs::write(output.join("anemll-mil/src/gone.rs"), "").unwrap();
        fs::write(output.join("sdk.json"), "other").unwrap();
        assert_eq!(write(&output).unwrap(), count);
        assert_eq!(files_below(&output).unwrap().len(), count);
        assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before);
        let about: Value =
            serde_json::from_slice(&read(&output.join("sdk.json")).unwrap()).unwrap();
        assert_eq!(about["crates"]["anemll-mil"], json!(["coreml-proto"]));
        assert_eq!(about["crates"]["coreml-proto"], json!([]));
    }

    #[test]
    fn lines_say_all_that_a_dependency_is() {
        let dependency = json!({
            "name": "half", "rename": "halves", "req": "^2.7", "uses_default_features": false,
            "features": ["std"], "optional": true, "registry": null,
        });
        let expected = "halves = { package = \"half\", version = \"^2.7\", default-features = \
                        false, features = [\"std\"], optional = true }\n";
        assert_eq!(line(&dependency).unwrap(), expected);
    }
}
