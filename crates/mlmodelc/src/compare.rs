//! Where two compiled models differ, beyond what two compilers may do differently.
//!
//! Allowed are: the versions that a compiler writes of itself, the ids of enumerated shapes, the
//! order of the metadata's map entries, and the order and form of the JSON.

use crate::compiled::read;
use crate::coremldata::with_sorted_entries;
use crate::{Analytics, CoremlData, files};
use anemll_mlpackage::{PackageError, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// Most differences that are told of one file.
const MOST: usize = 20;
/// Most characters that are shown of each side.
const SHOWN: usize = 120;
/// Keys of `buildInfo` that say which compiler it was.
const COMPILER_KEYS: [&str; 2] = ["coremlc-component-MIL", "coremlc-version"];
/// What begins the list of enumerated shapes in the text of a program.
const ENUMERATED: &str = "(\"EnumeratedShapes\", {";

/// One place where two compiled models differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Line, key or field.
    pub place: String,
    /// What the first has.
    pub left: String,
    /// What the second has.
    pub right: String,
}

/// How one file of two compiled models compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Byte for byte.
    Equal,
    /// But for what compilers may do differently.
    Equivalent,
    /// The first places where they differ.
    Different(Vec<Difference>),
}

/// Compares two compiled models file by file; the names are relative to their folders.
///
/// # Errors
/// Folders that cannot be listed, and files that cannot be read.
pub fn compare(left: &Path, right: &Path) -> Result<Vec<(PathBuf, Comparison)>> {
    let mut names = BTreeSet::new();
    for folder in [left, right] {
        if !folder.is_dir() {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(PackageError::reading(folder, "cannot open", &error));
        }
        list(folder, Path::new(""), &mut names)?;
    }
    let mut compared = Vec::new();
    for name in names {
        let comparison = match (left.join(&name).is_file(), right.join(&name).is_file()) {
            (true, true) => compare_file(left, right, &name)?,
            (there, _) => {
                let told = |there: bool| if there { "there" } else { "missing" }.to_owned();
                Comparison::Different(vec![Difference {
                    place: "the file".to_owned(),
                    left: told(there),
                    right: told(!there),
                }])
            }
        };
        compared.push((name, comparison));
    }
    Ok(compared)
}

fn list(folder: &Path, inner: &Path, names: &mut BTreeSet<PathBuf>) -> Result<()> {
    let failed = |error: std::io::Error| PackageError::reading(folder, "cannot list", &error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let inner = inner.join(entry.file_name());
        match entry.file_type().map_err(failed)?.is_dir() {
            true => list(&entry.path(), &inner, names)?,
            false => {
                names.insert(inner);
            }
        }
    }
    Ok(())
}

fn compare_file(left: &Path, right: &Path, name: &Path) -> Result<Comparison> {
    let text = name.to_string_lossy().replace('\\', "/");
    let first = first_difference(&left.join(name), &right.join(name))?;
    let Some(first) = first else { return Ok(Comparison::Equal) };
    let pair = || Ok::<_, PackageError>((read(left, &text)?, read(right, &text)?));
    let differences = match text.as_str() {
        files::PROGRAM => {
            let (left, right) = pair()?;
            programs(&String::from_utf8_lossy(&left), &String::from_utf8_lossy(&right))
        }
        files::DESCRIPTION => {
            let (left, right) = pair()?;
            descriptions(&left, &right)
        }
        files::METADATA => {
            let (left, right) = pair()?;
            match (serde_json::from_slice(&left), serde_json::from_slice(&right)) {
                (Ok(left), Ok(right)) => {
                    let mut found = Vec::new();
                    values(&left, &right, "", &mut found);
                    found
                }
                _ => vec![at_offset(first)],
            }
        }
        files::ANALYTICS => {
            let (left, right) = pair()?;
            match (Analytics::from_bytes(&left), Analytics::from_bytes(&right)) {
                (Ok(left), Ok(right)) => debug_lines(&left, &right),
                _ => vec![at_offset(first)],
            }
        }
        _ => vec![at_offset(first)],
    };
    Ok(match differences.is_empty() {
        true => Comparison::Equivalent,
        false => Comparison::Different(differences),
    })
}

/// Offset of the first byte that differs; a shorter file differs where it ends.
pub(crate) fn first_difference(left: &Path, right: &Path) -> Result<Option<u64>> {
    let open = |path: &Path| {
        anemll_files::open(path)
            .map(|file| BufReader::with_capacity(1 << 18, file))
            .map_err(|error| PackageError::reading(path, "cannot open", &error))
    };
    let (mut one, mut two) = (open(left)?, open(right)?);
    let mut offset = 0;
    loop {
        let failed =
            |path: &Path, error: std::io::Error| PackageError::reading(path, "cannot read", &error);
        let left = one.fill_buf().map_err(|error| failed(left, error))?;
        let right = two.fill_buf().map_err(|error| failed(right, error))?;
        if left.is_empty() && right.is_empty() {
            return Ok(None);
        }
        let common = left.len().min(right.len());
        let differing = left.iter().zip(right).position(|(left, right)| left != right);
        if differing.is_some() || common == 0 {
            return Ok(Some(offset + differing.unwrap_or_default() as u64));
        }
        offset += common as u64;
        one.consume(common);
        two.consume(common);
    }
}

fn at_offset(offset: u64) -> Difference {
    Difference {
        place: format!("byte {offset}"),
        left: "one value".to_owned(),
        right: "another".to_owned(),
    }
}

/// Line by line, without what may differ.
fn programs(left: &str, right: &str) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut function = String::new();
    let (mut left, mut right) = (left.split('\n'), right.split('\n'));
    for number in 1_usize.. {
        let pair = (left.next(), right.next());
        let (one, two) = match pair {
            (None, None) => break,
            (Some(one), Some(two)) if one == two => {
                name_function(one, &mut function);
                continue;
            }
            (one, two) => (one.map(normalised), two.map(normalised)),
        };
        if let Some(line) = pair.0 {
            name_function(line, &mut function);
        }
        if one == two {
            continue;
        }
        if found.len() == MOST {
            break;
        }
        let ended = || "the text has ended".to_owned();
        let (left, right) = excerpts(&one.unwrap_or_else(ended), &two.unwrap_or_else(ended));
        let inside = if function.is_empty() { "" } else { ", function " };
        found.push(Difference { place: format!("line {number}{inside}{function}"), left, right });
    }
    found
}

fn name_function(line: &str, function: &mut String) {
    if let Some(rest) = line.strip_prefix("    func ") {
        *function = rest.split('<').next().unwrap_or_default().to_owned();
    }
}

/// A line of a program without compiler versions and without ids of enumerated shapes.
fn normalised(line: &str) -> String {
    let mut text = line.to_owned();
    if line.starts_with("[buildInfo") {
        for key in COMPILER_KEYS {
            let begin = format!("{{\"{key}\", \"");
            if let Some(start) = text.find(&begin)
                && let Some(length) = text[start..].find("\"}")
            {
                text.replace_range(start..start + length + 2, key);
            }
        }
    }
    if let Some(start) = text.find(ENUMERATED).map(|start| start + ENUMERATED.len())
        && let Some((shapes, length)) = shapes_without_ids(&text[start..])
    {
        text.replace_range(start..start + length, &shapes.join(", "));
    }
    text
}

/// The entries `{"id", {…}}` at the front of a text without their ids, in order, and the number of
/// bytes that they take.
fn shapes_without_ids(text: &str) -> Option<(Vec<&str>, usize)> {
    let mut shapes = Vec::new();
    let mut position = 0;
    loop {
        let rest = &text[position..];
        if rest.starts_with('}') {
            shapes.sort_unstable();
            return Some((shapes, position));
        }
        let rest = rest.strip_prefix(", ").unwrap_or(rest);
        let entry = balanced(rest)?;
        // Skips the brace, the id in quotes, and the comma.
        let id = entry.strip_prefix("{\"")?;
        shapes.push(id[id.find('"')? + 1..].strip_prefix(", ")?.strip_suffix('}')?);
        position = text.len() - rest.len() + entry.len();
    }
}

/// The bracketed expression at the front of a text.
fn balanced(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return text.get(..=position).filter(|text| text.starts_with('{'));
        }
    }
    None
}

fn descriptions(left: &[u8], right: &[u8]) -> Vec<Difference> {
    let sorted = (with_sorted_entries(left), with_sorted_entries(right));
    if let (Some(one), Some(two)) = &sorted
        && one == two
    {
        return Vec::new();
    }
    let lines = match (CoremlData::from_bytes(left), CoremlData::from_bytes(right)) {
        (Ok(left), Ok(right)) => debug_lines(&left, &right),
        _ => Vec::new(),
    };
    if !lines.is_empty() {
        return lines;
    }
    let (one, two) = (sorted.0.as_deref().unwrap_or(left), sorted.1.as_deref().unwrap_or(right));
    let offset = one.iter().zip(two).position(|(one, two)| one != two);
    vec![at_offset(offset.unwrap_or(one.len().min(two.len())) as u64)]
}

fn debug_lines(left: &impl std::fmt::Debug, right: &impl std::fmt::Debug) -> Vec<Difference> {
    let (left, right) = (format!("{left:#?}"), format!("{right:#?}"));
    let (mut left, mut right) = (left.lines(), right.lines());
    let mut found = Vec::new();
    let mut field = String::new();
    while found.len() < MOST {
        match (left.next(), right.next()) {
            (None, None) => break,
            (one, two) if one == two => {
                if let Some((name, _)) = one.and_then(|line| line.split_once(':')) {
                    name.trim().clone_into(&mut field);
                }
            }
            (one, two) => {
                let told = |line: Option<&str>| line.map_or("nothing", str::trim).to_owned();
                found.push(Difference {
                    place: format!("at or after `{field}`"),
                    left: told(one),
                    right: told(two),
                });
            }
        }
    }
    found
}

fn values(left: &Value, right: &Value, place: &str, found: &mut Vec<Difference>) {
    if left == right || found.len() >= MOST {
        return;
    }
    match (left, right) {
        (Value::Object(one), Value::Object(two)) => {
            let keys: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
            for key in keys {
                let missing = Value::Null;
                let pair = (one.get(key).unwrap_or(&missing), two.get(key).unwrap_or(&missing));
                values(pair.0, pair.1, &format!("{place}/{key}"), found);
            }
        }
        (Value::Array(one), Value::Array(two)) if one.len() == two.len() => {
            for (index, (one, two)) in one.iter().zip(two).enumerate() {
                values(one, two, &format!("{place}/{index}"), found);
            }
        }
        _ => {
            let told = |value: &Value| match value {
                Value::Null => "nothing".to_owned(),
                value => value.to_string(),
            };
            let (left, right) = excerpts(&told(left), &told(right));
            found.push(Difference { place: place.to_owned(), left, right });
        }
    }
}

/// Both texts, long ones from shortly before the place where they begin to differ.
fn excerpts(left: &str, right: &str) -> (String, String) {
    let common = left.chars().zip(right.chars()).take_while(|(one, two)| one == two).count();
    let cut = |text: &str| {
        if text.chars().count() <= SHOWN {
            return text.trim().to_owned();
        }
        let shown: String =
            text.chars().skip(common.saturating_sub(SHOWN / 3)).take(SHOWN).collect();
        format!("…{}…", shown.trim())
    };
    (cut(left), cut(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_versions_and_ids_may_differ() {
        let text = |version: &str, ids: [&str; 2], order: [usize; 2]| {
            let shapes = ["{{\"input\", [1]}}", "{{\"input\", [2]}}"];
            let entry = |index: usize| format!("{{\"{}\", {}}}", ids[index], shapes[order[index]]);
            format!(
                "program(1.3)\n[buildInfo = dict<string, string>({{{{\"coremlc-version\", \
                 \"{version}\"}}, {{\"tool\", \"1\"}}}})]\n    func main<ios18>(x) \
                 [Flexible = ((\"EnumeratedShapes\", {{{}, {}}}))] {{",
                entry(0),
                entry(1)
            )
        };
        let one = text("1", ["aa", "bb"], [0, 1]);
        let two = text("2", ["cc", "dd"], [1, 0]);
        assert_eq!(programs(&one, &two), []);
        let found = programs(&one, &one.replace("[2]", "[3]"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "line 3, function main");
        let found = programs(&one, &one.replace("\"tool\", \"1\"", "\"tool\", \"2\""));
        assert_eq!(found[0].place, "line 2");
        let found = programs(&one, &format!("{one}\n"));
        assert_eq!(found[0].left, "the text has ended");
    }

    #[test]
    fn json_differences_are_named_by_their_place() {
        let left = serde_json::json!([{ "a": 1, "b": { "c": [1, 2] }, "same": 0 }]);
        let right = serde_json::json!([{ "b": { "c": [1, 3] }, "same": 0, "d": "x" }]);
        let mut found = Vec::new();
        values(&left, &right, "", &mut found);
        let places: Vec<&str> = found.iter().map(|one| one.place.as_str()).collect();
        assert_eq!(places, ["/0/a", "/0/b/c/1", "/0/d"]);
        assert_eq!(found[2].left, "nothing");
    }

    #[test]
    fn folders_are_compared_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("one/weights/a", "same");
        write("two/weights/a", "same");
        write("one/weights/b", "12345");
        write("two/weights/b", "12x45");
        write("one/metadata.json", "{\"a\": 1, \"b\": 2}");
        write("two/metadata.json", "{ \"b\": 2, \"a\": 1 }");
        write("two/extra", "");
        let compared = compare(&folder.path().join("one"), &folder.path().join("two")).unwrap();
        let told: Vec<(String, Comparison)> = compared
            .into_iter()
            .map(|(name, one)| (name.to_string_lossy().replace('\\', "/"), one))
            .collect();
        assert_eq!(told[0].0, "extra");
        assert!(matches!(&told[0].1, Comparison::Different(all) if all[0].left == "missing"));
        assert_eq!(told[1], ("metadata.json".to_owned(), Comparison::Equivalent));
        assert_eq!(told[2], ("weights/a".to_owned(), Comparison::Equal));
        assert!(matches!(&told[3].1, Comparison::Different(all) if all[0].place == "byte 2"));
        assert!(compare(folder.path(), &folder.path().join("none")).is_err());
    }
}
