//! `circles`: no files of a crate and no crates use each other in a circle.
//!
//! A file uses another when it names something that is defined there, also through what a third
//! hands on with `pub use`. To declare a module is no use of it, and neither is handing names on.
//! What a module holds for the modules in it, they may use: only a circle that closes without such
//! an arrow up counts.
//! Circles that stand in `xtask/circles.txt` are known; that list may only become shorter.

mod connected;
mod source;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::command::workspace_root;
use crate::{Result, artifacts, no_arguments};

/// The list of known circles, seen from the workspace's folder.
const KNOWN: &str = "xtask/circles.txt";

/// What uses what, by name, each with one of the names that it uses.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let root = workspace_root()?;
    let text = std::fs::read_to_string(root.join(KNOWN))
        .map_err(|error| format!("cannot read {KNOWN}: {error}"))?;
    let metadata = artifacts::metadata()?;
    let mut files = Uses::new();
    for package in list(&metadata["packages"]) {
        for target in list(&package["targets"]) {
            let path = target["src_path"].as_str().unwrap_or_default();
            add_files(&mut files, Path::new(path), &root)?;
        }
    }
    let crates = uses_of_crates(&metadata);
    let found: Vec<_> = [&files, &crates].into_iter().flat_map(circles).collect();
    let complaints = compare(&found, &known(&text), &[&files, &crates]);
    if complaints.is_empty() {
        let circles = match found.len() {
            0 => "no circle".to_owned(),
            count => format!("{count} circles, all of them known"),
        };
        println!("{} files, {} crates: {circles}", files.len(), crates.len());
        return Ok(());
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    Err(format!("{} circles are not as {KNOWN} has them", complaints.len()))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Adds the files of a crate, by their paths below `root`.
fn add_files(uses: &mut Uses, crate_root: &Path, root: &Path) -> Result<()> {
    let tree = tree::Tree::read(crate_root)?;
    let shown = |file: usize| {
        let path: &Path = &tree.files[file];
        path.strip_prefix(root).unwrap_or(path).display().to_string().replace('\\', "/")
    };
    for (file, arrows) in tree.arrows().into_iter().enumerate() {
        let targets = arrows.into_iter().map(|(target, name)| (shown(target), name));
        // Test programs may share a file.
        uses.entry(shown(file)).or_default().extend(targets);
    }
    Ok(())
}

/// The crates of the workspace with those that they depend on, for whatever.
fn uses_of_crates(metadata: &Value) -> Uses {
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let own: BTreeSet<String> = list(&metadata["packages"]).map(name).collect();
    let mut uses = Uses::new();
    for package in list(&metadata["packages"]) {
        let needed = list(&package["dependencies"]).filter(|needed| own.contains(&name(needed)));
        let needed = needed.map(|needed| {
            let kind = needed["kind"].as_str().unwrap_or("normal");
            (name(needed), format!("a {kind} dependency"))
        });
        uses.insert(name(package), needed.collect());
    }
    uses
}

/// All circles, each sorted.
fn circles(uses: &Uses) -> Vec<BTreeSet<String>> {
    let names: Vec<&String> = uses.keys().collect();
    let index: BTreeMap<&String, usize> =
        names.iter().enumerate().map(|(index, &name)| (name, index)).collect();
    let arrows: Vec<Vec<usize>> = uses
        .values()
        .map(|targets| targets.keys().filter_map(|name| index.get(name).copied()).collect())
        .collect();
    connected::circles(&arrows)
        .into_iter()
        .map(|circle| circle.into_iter().map(|index| names[index].clone()).collect())
        .collect()
}

/// Reads the list of known circles: names one a line, an empty line between two circles.
fn known(text: &str) -> Vec<BTreeSet<String>> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.is_empty())
        .filter(|circle| !circle.is_empty())
        .map(|circle| circle.iter().map(|&name| name.to_owned()).collect())
        .collect()
}

/// What is wrong: circles that are new or have grown, and known ones that are gone or have shrunk.
fn compare(found: &[BTreeSet<String>], known: &[BTreeSet<String>], uses: &[&Uses]) -> Vec<String> {
    let mut complaints = Vec::new();
    for circle in found.iter().filter(|circle| !known.iter().any(|known| circle.is_subset(known))) {
        let mut text = format!("new: a circle of {}:", circle.len());
        for name in circle {
            for (target, why) in uses.iter().filter_map(|uses| uses.get(name)).flatten() {
                if circle.contains(target) {
                    text.push_str(&format!("\n    {name} -> {target}: {why}"));
                }
            }
        }
        complaints.push(text);
    }
    for circle in known.iter().filter(|circle| !found.contains(circle)) {
        let names: Vec<&str> = circle.iter().map(String::as_str).collect();
        complaints.push(format!(
            "no longer so, take it out of {KNOWN} or make it shorter there:\n    {}",
            names.join("\n    ")
        ));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate of these files, with the text of each.
    fn uses(files: &[(&str, &str)]) -> Uses {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut uses = Uses::new();
        add_files(&mut uses, &folder.path().join("lib.rs"), folder.path()).unwrap();
        uses
    }

    fn shown(uses: &Uses) -> Vec<String> {
        uses.iter()
            .flat_map(|(file, targets)| {
                targets.keys().map(move |target| format!("{file}>{target}"))
            })
            .collect()
    }

    #[test]
    fn names_lead_to_the_file_that_defines_them() {
        let uses = uses(&[
            ("lib.rs", "mod a; mod b; pub use a::One; pub use b::*;"),
            ("a.rs", "use crate::Two; pub struct One; fn f() { super::b::inner::three() }"),
            ("b/mod.rs", "pub mod inner; pub struct Two; pub use inner::three as four;"),
            ("b/inner.rs", "pub fn three() { std::mem::drop(1) }"),
        ]);
        // The root only hands names on, and so does `b` with `four`.
        assert_eq!(shown(&uses), ["a.rs>b/inner.rs", "a.rs>b/mod.rs"]);
        assert!(circles(&uses).is_empty());
    }

    #[test]
    fn circles_are_found_through_handed_on_names_globs_and_macros() {
        let uses = uses(&[
            ("lib.rs", "mod a; mod b; mod c; pub use a::One;"),
            ("a.rs", "use super::b::*; pub struct One(Two);"),
            ("b.rs", "pub struct Two; fn f() { vec![crate::c::three()]; }"),
            ("c.rs", "pub fn three() -> crate::One { crate::One }"),
        ]);
        let circle: Vec<String> = circles(&uses).remove(0).into_iter().collect();
        assert_eq!(circle, ["a.rs", "b.rs", "c.rs"]);
    }

    #[test]
    fn parts_may_use_what_the_whole_holds_but_not_close_a_circle_by_it() {
        let parent = "mod a; mod b; pub struct Shared; pub use b::SIZE; fn f() { a::g() }";
        let child = "use super::{SIZE, Shared}; pub fn g() {}";
        let inner = "pub const SIZE: u8 = 1; fn h() { crate::a::g() }";
        let files = [("lib.rs", parent), ("a.rs", child), ("b.rs", inner)];
        let uses = uses(&files);
        assert_eq!(shown(&uses), ["a.rs>b.rs", "b.rs>a.rs", "lib.rs>a.rs"]);
    }

    #[test]
    fn the_list_may_only_become_shorter() {
        let set = |names: &str| names.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
        let listed = known("# why\na\nb\n\nc\nd\ne\n");
        assert_eq!(listed, [set("a b"), set("c d e")]);
        assert!(compare(&[set("a b"), set("c d e")], &listed, &[]).is_empty());
        let complaints = |found: &[BTreeSet<String>]| compare(found, &listed, &[]).len();
        // gone, shrunk, new, grown
        assert_eq!(complaints(&[set("a b")]), 1);
        assert_eq!(complaints(&[set("a b"), set("c d")]), 1);
        assert_eq!(complaints(&[set("a b"), set("c d e"), set("f g")]), 1);
        assert_eq!(complaints(&[set("a b f"), set("c d e")]), 2);
    }
}
