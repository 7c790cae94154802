//! The licences of all that is linked into the program and the plugins.

use crate::Result;
use crate::command::{cargo, workspace_root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// How files begin that hold a licence or what it wants to be passed on.
const NAMES: [&str; 6] = ["license", "licence", "copying", "notice", "unlicense", "copyright"];
/// A text beyond this is no licence.
const LARGEST: u64 = 1 << 20;

/// The text of THIRD-PARTY.md: every crate with its licence, then each text once.
pub(crate) fn text(target: &str, roots: &[String]) -> Result<String> {
    let metadata = metadata(target)?;
    let packages: BTreeMap<&str, &Value> = list(&metadata["packages"])
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let mut crates: Vec<&Value> = linked(&metadata, roots)
        .into_iter()
        .filter_map(|id| packages.get(id).copied())
        .filter(|package| !package["source"].is_null())
        .collect();
    let key = |package: &&Value| {
        (text_of(package, "name").to_owned(), text_of(package, "version").to_owned())
    };
    crates.sort_by_key(key);
    let mut made = format!(
        "# Third-party software\n\nThe program and its plugins for {target} contain these crates, and \
         Rust's standard library (MIT OR Apache-2.0).\n\n| crate | licence | texts |\n|---|---|---|\n"
    );
    let mut texts: Vec<String> = Vec::new();
    for package in &crates {
        let mut numbers = BTreeSet::new();
        for found in license_texts(package)? {
            let number = texts.iter().position(|known| *known == found).unwrap_or_else(|| {
                texts.push(found);
                texts.len() - 1
            });
            numbers.insert(number + 1);
        }
        let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
        let license = package["license"].as_str().unwrap_or("see its text");
        let _ = writeln!(
            made,
            "| {} {} | {license} | {} |",
            text_of(package, "name"),
            text_of(package, "version"),
            if numbers.is_empty() { "none in the crate".to_owned() } else { numbers.join(", ") }
        );
    }
    for (index, text) in texts.iter().enumerate() {
        let _ = write!(made, "\n## Text {}\n\n", index + 1);
        for line in text.lines() {
            let _ = writeln!(made, "    {line}");
        }
    }
    Ok(made)
}

fn metadata(target: &str) -> Result<Value> {
    let mut command = cargo();
    command.current_dir(workspace_root()?).args([
        "metadata",
        "--locked",
        "--format-version=1",
        "--filter-platform",
        target,
    ]);
    let output = command.output().map_err(|error| format!("cargo did not start: {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`cargo metadata` failed: {}", error.trim()));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("`cargo metadata` printed no JSON: {error}"))
}

/// Ids of all packages that the roots link, not those that only build or test them.
fn linked<'a>(metadata: &'a Value, roots: &[String]) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let mut waiting: Vec<&str> = list(&metadata["packages"])
        .filter(|package| package["source"].is_null())
        .filter(|package| roots.iter().any(|root| package["name"] == root.as_str()))
        .filter_map(|package| package["id"].as_str())
        .collect();
    let mut found = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !found.insert(id) {
            continue;
        }
        for dependency in nodes.get(id).into_iter().flat_map(|node| list(&node["deps"])) {
            if list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null()) {
                waiting.extend(dependency["pkg"].as_str());
            }
        }
    }
    found
}

/// The licence texts in a crate's folder, with the ends of lines as here.
fn license_texts(package: &Value) -> Result<Vec<String>> {
    let Some(folder) = Path::new(text_of(package, "manifest_path")).parent() else {
        return Ok(Vec::new());
    };
    let named = package["license_file"].as_str();
    let failed = |error: std::io::Error| super::failed("read", folder, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let wanted = NAMES.iter().any(|start| name.to_ascii_lowercase().starts_with(start))
            || named == Some(name.as_str());
        let metadata = entry.metadata().map_err(failed)?;
        if wanted && metadata.is_file() && metadata.len() <= LARGEST {
            files.push(entry.path());
        }
    }
    files.sort();
    let mut texts = Vec::new();
    for path in files {
        let bytes = fs::read(&path).map_err(|error| super::failed("read", &path, &error))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let text = lines.join("\n").trim_matches('\n').to_owned();
        if !text.is_empty() && !texts.contains(&text) {
            texts.push(text);
        }
    }
    Ok(texts)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_linked_counts() {
        let dependency =
            |id: &str, kind: Value| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                { "id": "p", "name": "program", "source": null },
                { "id": "o", "name": "other", "source": null },
            ],
            "resolve": { "nodes": [
                { "id": "p", "deps": [
                    dependency("a", Value::Null), dependency("b", json!("build")), dependency("d", json!("dev")),
                ] },
                { "id": "a", "deps": [dependency("c", Value::Null), dependency("p", Value::Null)] },
                { "id": "o", "deps": [dependency("x", Value::Null)] },
            ] },
        });
        let found: Vec<&str> = linked(&metadata, &["program".to_owned()]).into_iter().collect();
        assert_eq!(found, ["a", "c", "p"]);
    }
}
