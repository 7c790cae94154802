//! Checking a description that others may have made.

use crate::description::{Description, Embedding, SCHEMA};
use anemll_plugin_api::data::{Joined, Pooling, RunStep};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// More packages, functions and calls than any conversion has.
const MOST: usize = 10_000;
/// More tokens of context than any model has.
const LONGEST: u64 = 1 << 22;
/// More elements than any vector has.
const LARGEST_DIMENSION: u64 = 1 << 24;
/// More bytes than a name of a value or function has.
const LONGEST_NAME: usize = 1000;

/// Checks a description as a whole.
///
/// # Errors
/// What is wrong, in a sentence.
pub(crate) fn check(description: &Description) -> Result<(), String> {
    if description.schema != SCHEMA {
        return Err(format!(
            "its schema is {}, and this program reads {SCHEMA}",
            description.schema
        ));
    }
    let entries = description.packages.iter().map(|package| package.functions.len() + 1);
    if entries.sum::<usize>() + description.calls().count() > MOST {
        return Err(format!("it lists more than {MOST} packages, functions and calls"));
    }
    let numbers = [("context", description.context), ("batch", description.batch)];
    for (key, number) in numbers {
        if number.is_some_and(|number| !(1..=LONGEST).contains(&number)) {
            return Err(format!("`{key}` is not a number from 1 to {LONGEST}"));
        }
    }
    let sizes = &description.head.sizes;
    let total = sizes.iter().try_fold(0_u64, |total, size| total.checked_add(*size));
    if sizes.len() > MOST || sizes.contains(&0) || total.is_none_or(|total| total > 1 << 32) {
        return Err("`head.sizes` are not numbers of tokens".to_owned());
    }
    values(description).try_for_each(|(key, name)| check_value(key, name))?;
    for (name, ring) in &description.rings {
        if !(1..=LONGEST).contains(&ring.positions) || !(1..=ring.positions).contains(&ring.window)
        {
            return Err(format!(
                "`rings` has {name:?} with a window of {} tokens in {} positions",
                ring.window, ring.positions
            ));
        }
    }
    let packages = packages(description)?;
    match (description.run.infer.is_empty(), description.run.embed.is_empty()) {
        (true, true) => return Err("`infer` calls no function".to_owned()),
        (false, false) => return Err("`infer` and `embed` cannot both call functions".to_owned()),
        (infer, _) if infer != description.embedding.is_some() => {
            return Err("`embedding` belongs to `embed`, and only to that".to_owned());
        }
        _ => {}
    }
    if let Some(embedding) = &description.embedding {
        check_embedding(embedding)?;
    }
    for call in description.calls() {
        check_call(call, &packages)?;
    }
    if let Some(joined) = &description.joined {
        check_joined(joined, &packages)?;
    }
    let parts = description.packages.iter().flat_map(|package| &package.functions);
    parts
        .filter_map(|function| function.part.as_ref())
        .try_for_each(|part| check_call(part, &packages))
}

/// Names that are there once, of functions that are listed.
fn check_joined(joined: &Joined, packages: &Packages<'_>) -> Result<(), String> {
    check_path(&joined.name)?;
    if joined.name.contains('/') || joined.functions.len() > MOST {
        return Err(format!("`joined` has the name {:?}, or too many functions", joined.name));
    }
    let mut names = BTreeSet::new();
    for function in &joined.functions {
        check_value("joined", &function.name)?;
        if !names.insert(function.name.as_str()) {
            return Err(format!("`joined` has two functions `{}`", function.name));
        }
        check_call(&RunStep::new(&function.package, &function.function), packages)?;
    }
    match names.is_empty() {
        true => Err("`joined` has no functions".to_owned()),
        false => Ok(()),
    }
}

fn check_embedding(embedding: &Embedding) -> Result<(), String> {
    if !(1..=LARGEST_DIMENSION).contains(&embedding.dimension) {
        return Err(format!("`embedding.dimension` is {}", embedding.dimension));
    }
    if embedding.pooling == Pooling::Unknown {
        return Err("`embedding.pooling` is none that this program knows".to_owned());
    }
    match &embedding.default_prompt {
        Some(name) if !embedding.prompts.contains_key(name) => {
            Err(format!("`embedding.default_prompt` is {name:?}, which no prompt is called"))
        }
        _ => Ok(()),
    }
}

/// Names of values, with the key that they stand under.
fn values(description: &Description) -> impl Iterator<Item = (&'static str, &String)> {
    let inputs = &description.inputs;
    let head = &description.head;
    let given = [&inputs.tokens, &inputs.positions, &inputs.position, &inputs.mask];
    let largest = head.largest.iter().flat_map(|names| [&names.index, &names.value]);
    let feeds = description.run.feeds.iter().flat_map(|(output, input)| [output, input]);
    given
        .into_iter()
        .map(|name| ("inputs", name))
        .chain(head.logits.iter().chain(largest).map(|name| ("head", name)))
        .chain(description.states.iter().map(|name| ("states", name)))
        .chain(description.recurrent.iter().map(|name| ("recurrent", name)))
        .chain(description.rings.keys().map(|name| ("rings", name)))
        .chain(feeds.map(|name| ("feeds", name)))
}

fn check_value(key: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(LONGEST_NAME).collect();
        return Err(format!("`{key}` has the name {shown:?}, which no value can have"));
    }
    Ok(())
}

type Packages<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The functions of each package.
fn packages(description: &Description) -> Result<Packages<'_>, String> {
    let mut found = Packages::new();
    let mut lower = BTreeSet::new();
    for package in &description.packages {
        check_path(&package.path)?;
        let twice = |what: &str| Err(format!("{what} of {:?} is there twice", package.path));
        if !lower.insert(package.path.to_lowercase()) {
            return twice("the name");
        }
        let mut functions = BTreeSet::new();
        for function in &package.functions {
            check_value("functions", &function.name)?;
            if !functions.insert(function.name.as_str()) {
                return twice(&format!("the function `{}`", function.name));
            }
        }
        if let Some(name) = &package.default_function
            && !functions.contains(name.as_str())
        {
            return Err(format!("{:?} has no function {name:?}", package.path));
        }
        found.insert(&package.path, functions);
    }
    Ok(found)
}

/// A path that stays in the directory on every system, and that a terminal can show.
fn check_path(path: &str) -> Result<(), String> {
    let inside = !path.is_empty()
        && path.len() <= LONGEST_NAME
        && !path.contains(['\\', ':', '\0'])
        && !path.chars().any(char::is_control)
        && !path.split('/').any(str::is_empty)
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if inside {
        return Ok(());
    }
    let shown: String = path.chars().take(LONGEST_NAME).collect();
    Err(format!("the package name {shown:?} is not the name of a file in the directory"))
}

fn check_call(call: &RunStep, packages: &Packages<'_>) -> Result<(), String> {
    match packages.get(call.package.as_str()) {
        None => Err(format!("the package {:?} is called, but not listed", call.package)),
        Some(functions) if !functions.contains(call.function.as_str()) => Err(format!(
            "the function {:?} of {:?} is called, but not listed",
            call.function, call.package
        )),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{FunctionEntry, Ring};
    use anemll_plugin_api::data::RunOrder;

    fn description() -> Description {
        let call = |package: &str, function: &str| RunStep::new(package, function);
        Description::of_run(
            RunOrder::default()
                .with_infer(vec![call("a", "main"), call("b", "infer")])
                .with_prefill(vec![call("b", "prefill")]),
        )
    }

    #[test]
    fn what_is_sound_passes_and_names_what_ships() {
        check(&description()).unwrap();
        assert_eq!(description().models(), ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        type Damage = fn(&mut Description);
        let ring = |description: &mut Description, positions, window| {
            description.rings.insert("cache".to_owned(), Ring { positions, window });
        };
        let mut sound = description();
        ring(&mut sound, 64, 64);
        check(&sound).unwrap();
        for (positions, window) in [(0, 0), (64, 0), (64, 65), (u64::MAX, 1)] {
            let mut description = description();
            ring(&mut description, positions, window);
            assert!(check(&description).unwrap_err().contains("`rings`"));
        }
        let damages: [(&str, Damage); 21] = [
            ("schema is 2", |one| one.schema = 2),
            ("context", |one| one.context = Some(0)),
            ("batch", |one| one.batch = Some(u64::MAX)),
            ("head.sizes", |one| one.head.sizes = vec![u64::MAX, 2]),
            ("head.sizes", |one| one.head.sizes = vec![0]),
            ("`inputs`", |one| one.inputs.mask.clear()),
            ("`head`", |one| one.head.logits.push("\u{1b}[2J".into())),
            ("`feeds`", |one| drop(one.run.feeds.insert("x".into(), String::new()))),
            ("name of a file in", |one| one.packages[0].path = "../a".into()),
            ("name of a file in", |one| one.packages[0].path = "/etc/a".into()),
            ("name of a file in", |one| one.packages[0].path = "c:a".into()),
            ("name of a file in", |one| one.packages[0].path = "x\\..\\a".into()),
            ("name of a file in", |one| one.packages[0].path = "x//a".into()),
            ("twice", |one| one.packages[1].path = "A".into()),
            ("not listed", |one| one.run.infer[0].package = "c".into()),
            ("not listed", |one| one.run.prefill[0].function = "main".into()),
            ("calls no function", |one| one.run.infer.clear()),
            ("name of a file in", |one| one.joined = Some(Joined::new("../x"))),
            ("no functions", |one| one.joined = Some(Joined::new("x"))),
            ("two functions", |one| {
                let joined = Joined::new("x").with_function("f", "a", "main");
                one.joined = Some(joined.with_function("f", "b", "infer"));
            }),
            ("not listed", |one| one.joined = Some(Joined::new("x").with_function("f", "a", "g"))),
        ];
        for (what, damage) in damages {
            let mut description = description();
            damage(&mut description);
            let error = check(&description).unwrap_err();
            assert!(error.contains(what), "{what}: {error}");
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
        let mut many = description();
        let function = |number: usize| FunctionEntry { name: number.to_string(), part: None };
        many.packages[0].functions = (0..=MOST).map(function).collect();
        assert!(check(&many).unwrap_err().contains("more than"));
    }
}
