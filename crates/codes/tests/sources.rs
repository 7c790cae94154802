//! What the sources of the workspace say about codes: each is raised somewhere, and a plugin's code
//! is all that a crate can name which plugins link.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Files below a folder whose names suit, without those of builds, tests and examples.
fn files(folder: &Path, suits: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !["target", "tests", "examples"].contains(&name) && !name.starts_with('.') {
                files(&path, suits, found);
            }
        } else if suits(name) {
            found.push(path);
        }
    }
}

/// The code of a file: what is not a comment, up to its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Names and codes of a list, read from its source.
fn listed(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let pairs = text.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" = \"")?;
        let code = rest.get(..5).filter(|code| anemll_codes::is_well_formed(code))?;
        Some((name.to_owned(), code.to_owned()))
    });
    pairs.collect()
}

#[test]
fn every_code_is_raised() {
    let root = workspace();
    let plugins = root.join("plugin-api/src/codes.rs");
    let host = root.join("crates/codes/src/lib.rs");
    let mut names = listed(&plugins);
    names.extend(listed(&host));
    let codes: BTreeSet<&str> = names.values().map(String::as_str).collect();
    let all: BTreeSet<&str> = anemll_codes::ALL.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, all);

    let mut sources = Vec::new();
    for folder in ["plugin-api", "crates", "plugins", "host"] {
        let is_code = |name: &str| name.ends_with(".rs") && name != "tests.rs";
        files(&root.join(folder), &is_code, &mut sources);
    }
    let mut used = BTreeSet::new();
    for path in sources {
        let text = code(&path);
        for (at, path) in text.match_indices("codes::") {
            let name = &text[at + path.len()..];
            let end = name.find(|letter: char| !letter.is_ascii_uppercase() && letter != '_');
            used.insert(name[..end.unwrap_or(name.len())].to_owned());
        }
    }
    let unused: Vec<&String> = names.keys().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "no one raises {unused:?}");
}

/// Packages of the workspace that a manifest's `[dependencies]` name.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.split(['.', ' ']).next())
        .filter(|name| name.starts_with("anemll-"))
}

#[test]
fn plugins_see_their_own_codes_only() {
    let root = workspace();
    let mut manifests = Vec::new();
    for folder in ["crates", "plugins"] {
        files(&root.join(folder), &|name| name == "Cargo.toml", &mut manifests);
    }
    let mut packages = BTreeMap::new();
    for path in &manifests {
        let text = fs::read_to_string(path).unwrap();
        let name = text.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap();
        let name = name.trim_end_matches('"').to_owned();
        packages.insert(name, (path.starts_with(root.join("plugins")), text));
    }
    let of_plugins = packages.iter().filter(|(_, (plugin, _))| *plugin);
    let mut waiting: Vec<&str> = of_plugins.map(|(name, _)| name.as_str()).collect();
    assert!(waiting.contains(&"anemll-runtime-cpu"), "{waiting:?}");
    let mut linked = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if linked.insert(name)
            && let Some((_, manifest)) = packages.get(name)
        {
            waiting.extend(dependencies(manifest));
        }
    }
    assert!(linked.contains("anemll-plugin-api") && linked.contains("anemll-mlpackage"));
    assert!(!linked.contains("anemll-codes"), "{linked:?}");
}
