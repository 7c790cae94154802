//! Layouts as they come from combiners, checked as a whole.

use crate::EVALUATE_DIRECTORY;
use anemll_plugin_api::data::{Layout, PackageKind, PackageSpec, Purpose, RunStep};
use anemll_plugin_api::{Error, Result, codes};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Deref;

/// Most bytes of a stem or an id that becomes a file name: with the longest ending it stays below
/// the 255 that file systems allow.
const LONGEST_NAME: usize = 200;
/// Stems that are names of other files of an output directory, or that Windows keeps to itself.
const RESERVED: [&str; 12] = [
    "meta.yaml",
    "anemll-report.json",
    "anemll-run.json",
    "config.json",
    "tokenizer.json",
    "conversion",
    "journal",
    "lock",
    "con",
    "nul",
    "prn",
    "aux",
];

/// A layout that can be carried out: every name it gives stays in the output directory and is there
/// once, on file systems that tell no capitals apart too; every function, weight file and package
/// that it mentions is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedLayout(Layout);

impl CheckedLayout {
    /// Checks what a combiner answered.
    ///
    /// # Errors
    /// [`codes::LAYOUT_INVALID`].
    pub fn new(layout: Layout) -> Result<Self> {
        check(&layout)?;
        Ok(Self(layout))
    }
}

impl Deref for CheckedLayout {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.0
    }
}

/// The error of a layout that `what`.
pub fn layout_error(what: impl Display) -> Error {
    Error::new(codes::LAYOUT_INVALID, format!("the combiner's layout {what}"))
        .with_hint("this is a bug in the combiner plugin; please report it to its author, or choose another --combiner")
}

fn check(layout: &Layout) -> Result<()> {
    let functions = unique("function", layout.functions.iter().map(|function| &function.id))?;
    for function in &layout.functions {
        if function.purpose == Purpose::Unknown {
            return Err(unknown("the function", &function.id, "purpose"));
        }
    }
    unique("weight file", layout.weight_files.iter().map(|file| &file.id))?;
    unique("package", layout.packages.iter().map(|package| &package.stem))?;
    let mut members: BTreeMap<&str, &[String]> = BTreeMap::new();
    for file in &layout.weight_files {
        check_file_name("the weight file", &file.id)?;
        let owner = format!("the weight file {:?}", file.id);
        unique(&format!("function of {owner}"), &file.functions)?;
        for id in &file.functions {
            refuse_unknown(&owner, "function", id, functions.contains(id.as_str()))?;
        }
        members.insert(&file.id, &file.functions);
    }
    if let Some(bundle) = &layout.bundle {
        bundle.files.keys().try_for_each(|name| check_file_name("a file of the bundle", name))?;
        unique("file of the bundle", bundle.files.keys())?;
        if bundle.compiler.is_empty() {
            return Err(layout_error("is a bundle, but names no compiler"));
        }
    }
    let last = layout.steps.len() as u32;
    if layout.steps.is_empty() || !layout.steps.iter().map(|step| step.number).eq(1..=last) {
        return Err(layout_error("does not number its steps from 1"));
    }
    for package in &layout.packages {
        if package.kind == PackageKind::Unknown {
            return Err(unknown("the package", &package.stem, "kind"));
        }
        check_package(package, &members)?;
        if package.kind != PackageKind::Evaluate && !(1..=last).contains(&package.step) {
            return Err(layout_error(format!(
                "makes {:?} in step {}, which is not one of its steps",
                package.stem, package.step
            )));
        }
    }
    if let Some(step) = layout.steps.iter().find(|step| step.title.chars().any(char::is_control)) {
        return Err(layout_error(format!(
            "gives a step the title {:?}, which has control characters",
            step.title
        )));
    }
    let packages: BTreeMap<String, &PackageSpec> =
        layout.packages.iter().map(|package| (package.path(), package)).collect();
    let run = &layout.run;
    let prompts = run.infer.iter().chain(&run.prefill);
    for step in prompts.chain(&run.verify).chain(&run.evaluate).chain(&run.embed) {
        check_run_step(step, &packages)?;
    }
    if run.infer.is_empty() && run.embed.is_empty() {
        return Err(layout_error("calls no function for a token"));
    }
    if !run.infer.is_empty() && !run.embed.is_empty() {
        return Err(layout_error("calls functions for logits, and others for vectors"));
    }
    let ends = |(output, input): (&String, &String)| output.is_empty() || input.is_empty();
    if run.feeds.iter().any(ends) {
        return Err(layout_error("feeds an output or an input without a name"));
    }
    Ok(())
}

/// Something of a kind or purpose that came with a later version.
fn unknown(what: &str, name: &str, of: &str) -> Error {
    layout_error(format!("gives {what} {name:?} a {of} that this version does not know"))
        .with_hint("update anemll, or use an older build of the combiner")
}

fn check_package(package: &PackageSpec, members: &BTreeMap<&str, &[String]>) -> Result<()> {
    let PackageSpec { stem, directory, weight_file, functions, .. } = package;
    check_file_name("the package", stem)?;
    if !directory.is_empty() && directory != EVALUATE_DIRECTORY {
        return Err(layout_error(format!(
            "puts the package {stem:?} into the directory {directory:?}; it may be empty or \
             {EVALUATE_DIRECTORY:?}"
        )));
    }
    let owner = format!("the package {stem:?}");
    let Some(members) = members.get(weight_file.as_str()) else {
        return refuse_unknown(&owner, "weight file", weight_file, false);
    };
    if functions.is_empty() {
        return Err(layout_error(format!("has no function in {owner}")));
    }
    let names = functions.iter().map(|function| &function.name);
    let names = unique(&format!("function of {owner}"), names)?;
    for function in functions {
        refuse_unknown(&owner, "function", &function.id, members.contains(&function.id))?;
        if function.name.is_empty() || function.name.chars().any(char::is_control) {
            return Err(layout_error(format!(
                "gives a function of {owner} the name {:?}, which is empty or has control characters",
                function.name
            )));
        }
    }
    match &package.default_function {
        Some(name) => {
            refuse_unknown(&owner, "default function", name, names.contains(name.as_str()))
        }
        None => Ok(()),
    }
}

fn check_run_step(step: &RunStep, packages: &BTreeMap<String, &PackageSpec>) -> Result<()> {
    let owner = "the order of the calls";
    let Some(package) = packages.get(&step.package) else {
        return refuse_unknown(owner, "package", &step.package, false);
    };
    let known = package.functions.iter().any(|function| function.name == step.function);
    refuse_unknown(owner, "function", &step.function, known)
}

fn refuse_unknown(owner: &str, kind: &str, name: &str, known: bool) -> Result<()> {
    if known {
        return Ok(());
    }
    Err(layout_error(format!("names the {kind} {name:?} in {owner}, but does not define it")))
}

fn check_file_name(kind: &str, name: &str) -> Result<()> {
    let Some(problem) = file_name_problem(name) else { return Ok(()) };
    let shown: String = name.chars().take(LONGEST_NAME).collect();
    Err(layout_error(format!("gives {kind} {shown:?} {problem}")))
}

/// Why a name is not that of a package, on some system or in an output directory: it completes "a
/// name that" or the like. A good one has the characters that a prefix may have.
pub fn file_name_problem(name: &str) -> Option<&'static str> {
    let legal = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    let lower = name.to_ascii_lowercase();
    let first = lower.split('.').next().unwrap_or_default();
    if name.is_empty() {
        Some("a name that is empty")
    } else if name.len() > LONGEST_NAME {
        Some("a name that is too long")
    } else if !name.chars().all(legal) {
        Some("a name with characters other than letters, digits, `_`, `-` and `.`")
    } else if name.starts_with(['.', '-']) || name.ends_with('.') {
        Some("a name that begins or ends with a mark")
    } else if RESERVED.contains(&lower.as_str()) || RESERVED.contains(&first) {
        Some("a name that is taken")
    } else {
        None
    }
}

/// The names, each of which may be there only once, whatever its capitals are.
fn unique<'a>(
    kind: &str,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<BTreeSet<&'a str>> {
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    for name in names {
        if !seen.insert(name.to_lowercase()) {
            return Err(layout_error(format!("has the {kind} {name:?} twice")));
        }
        found.insert(name.as_str());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{combined, evaluation};
    use anemll_plugin_api::Value;
    use anemll_plugin_api::data::{Bundle, FunctionSpec, RunOrder, WeightFile};

    fn function(id: &str) -> FunctionSpec {
        FunctionSpec::new(id, Purpose::Infer)
    }

    fn layout() -> Layout {
        let packages = vec![
            combined(
                1,
                "x_both".into(),
                "w",
                [("one", "infer"), ("two", "prefill")],
                String::new(),
                BTreeMap::new(),
            ),
            evaluation("x_evaluate".into(), "w", "one", String::new(), BTreeMap::new()),
        ];
        let run = RunOrder::default()
            .with_infer(vec![packages[0].call("infer")])
            .with_evaluate(vec![packages[1].call("main")])
            .with_feeds(BTreeMap::from([("y".into(), "x".into())]));
        Layout::new("x", "x")
            .with_steps(["make"])
            .with_functions(vec![function("one"), function("two")])
            .with_weight_files(vec![WeightFile::new("w", ["one", "two"])])
            .with_packages(packages)
            .with_run(run)
    }

    #[test]
    fn a_sound_layout_passes() {
        assert_eq!(CheckedLayout::new(layout()).unwrap().packages.len(), 2);
    }

    #[test]
    fn layouts_that_cannot_be_carried_out_are_refused() {
        type Damage = fn(&mut Layout);
        let damages: [(&str, Damage); 36] = [
            ("\"../x\"", |layout| layout.packages[0].stem = "../x".into()),
            ("\"/x\"", |layout| layout.packages[0].stem = "/x".into()),
            ("a\\\\b", |layout| layout.packages[0].stem = "a\\b".into()),
            ("c:x", |layout| layout.packages[0].stem = "c:x".into()),
            ("empty", |layout| layout.packages[0].stem.clear()),
            (".anemll", |layout| layout.packages[0].stem = ".anemll".into()),
            ("taken", |layout| layout.packages[0].stem = "Meta.yaml".into()),
            ("NUL.x", |layout| layout.packages[0].stem = "NUL.x".into()),
            ("too long", |layout| layout.packages[0].stem = "x".repeat(201)),
            ("u{1b}", |layout| layout.packages[0].stem = "x\u{1b}[2J".into()),
            ("twice", |layout| layout.packages[1].stem = "X_BOTH".into()),
            ("\"..\"", |layout| layout.packages[0].directory = "..".into()),
            ("\"/tmp\"", |layout| layout.packages[0].directory = "/tmp".into()),
            ("evaluate/..", |layout| layout.packages[1].directory = ".anemll/evaluate/..".into()),
            ("\"../w\"", |layout| layout.weight_files[0].id = "../w".into()),
            ("twice", |layout| layout.weight_files.push(WeightFile::new("W", ["one"]))),
            ("\"v\"", |layout| layout.packages[0].weight_file = "v".into()),
            ("\"three\"", |layout| layout.weight_files[0].functions.push("three".into())),
            ("\"three\"", |layout| layout.packages[1].functions[0].id = "three".into()),
            ("twice", |layout| layout.functions.push(function("one"))),
            ("no function", |layout| layout.packages[0].functions.clear()),
            ("default", |layout| layout.packages[0].default_function = Some("other".into())),
            ("\"x_none\"", |layout| layout.run.infer[0].package = "x_none".into()),
            ("\"other\"", |layout| layout.run.infer[0].function = "other".into()),
            ("number", |layout| layout.steps.clear()),
            ("number", |layout| layout.steps[0].number = 2),
            ("step 2", |layout| layout.packages[0].step = 2),
            ("step 0", |layout| layout.packages[0].step = 0),
            ("no function", |layout| layout.run.infer.clear()),
            ("without a name", |layout| drop(layout.run.feeds.insert("z".into(), String::new()))),
            ("a purpose that", |layout| layout.functions[0].purpose = Purpose::Unknown),
            ("a kind that", |layout| layout.packages[0].kind = PackageKind::Unknown),
            ("has control characters", |layout| layout.steps[0].title = "\u{1b}[2J".into()),
            ("\"../t\"", |layout| {
                layout.bundle = Some(Bundle::new("x").with_file("../t", Value::Null));
            }),
            ("twice", |layout| {
                let bundle = Bundle::new("x").with_file("t.json", Value::Null);
                layout.bundle = Some(bundle.with_file("T.json", Value::Null));
            }),
            ("no compiler", |layout| layout.bundle = Some(Bundle::new(""))),
        ];
        for (what, damage) in damages {
            let mut layout = layout();
            damage(&mut layout);
            let error = CheckedLayout::new(layout).unwrap_err();
            assert_eq!(error.code, codes::LAYOUT_INVALID, "{what}");
            assert!(error.message.contains(what), "{what}: {}", error.message);
            assert!(!error.message.chars().any(char::is_control));
        }
    }
}
