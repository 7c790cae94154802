//! What a joined package says of itself.

use anemll_layout::anemll;
use coreml_proto::{Metadata, Model};

pub(crate) fn of(model: &Model) -> Metadata {
    model.description.as_ref().and_then(|d| d.metadata.clone()).unwrap_or_default()
}

/// Metadata of the joined package: everything that the parts say, the default function's first,
/// and the list of functions if the parts are ANEMLL's.
pub(crate) fn joined(parts: &[(&str, Metadata)], default: &str) -> Metadata {
    let first = parts.iter().filter(|(name, _)| *name == default);
    let others = parts.iter().filter(|(name, _)| *name != default);
    let mut result = Metadata::default();
    for (_, part) in first.chain(others) {
        for (mine, theirs) in [
            (&mut result.author, &part.author),
            (&mut result.version_string, &part.version_string),
            (&mut result.license, &part.license),
        ] {
            if mine.is_empty() {
                mine.clone_from(theirs);
            }
        }
        for (key, value) in &part.user_defined {
            result.user_defined.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    if result.user_defined.keys().any(|key| key.starts_with(anemll::KEYS)) {
        result.user_defined.insert(anemll::FUNCTIONS.to_owned(), names.join(","));
    }
    result.short_description = description(parts, default, &names);
    result
}

/// What the parts' descriptions begin with, up to a comma, else the default function's description;
/// and the functions.
fn description(parts: &[(&str, Metadata)], default: &str, names: &[&str]) -> String {
    let texts: Vec<&str> =
        parts.iter().map(|(_, part)| without_functions(&part.short_description)).collect();
    let first = texts.first().copied().unwrap_or_default();
    let same = texts.iter().fold(first.len(), |same, text| {
        let equal = first.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        same.min(equal)
    });
    let common = match first.get(..same) {
        Some(whole) if texts.iter().all(|text| text.len() == same) => whole,
        Some(begin) => begin.rfind(", ").map_or("", |comma| &begin[..comma]),
        None => "",
    };
    let of_default = parts.iter().find(|(name, _)| *name == default);
    let subject = match (common, of_default) {
        ("", Some((_, part))) => without_functions(&part.short_description),
        (common, _) => common,
    };
    with_functions(subject, names)
}

/// A description with the functions that a package holds behind it.
fn with_functions(subject: &str, names: &[&str]) -> String {
    let list = match names {
        [] => String::new(),
        [only] => format!("function {only}"),
        [others @ .., last] => format!("functions {} and {last}", others.join(", ")),
    };
    match (subject.is_empty(), list.is_empty()) {
        (true, _) => list,
        (_, true) => subject.to_owned(),
        _ => format!("{subject}, {list}"),
    }
}

/// A description without the lists of functions that joining and splitting put behind it.
fn without_functions(description: &str) -> &str {
    let mut rest = description;
    loop {
        let begin =
            [", functions ", ", function "].iter().filter_map(|list| rest.rfind(list)).max();
        match begin {
            Some(begin) if is_list(&rest[begin + 2..]) => rest = &rest[..begin],
            None | Some(_) => break,
        }
    }
    if is_list(rest) { "" } else { rest }
}

/// Whether a text is `function NAME` or `functions NAME, NAME and NAME`.
fn is_list(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
    };
    match (text.strip_prefix("function "), text.strip_prefix("functions ")) {
        (Some(name), _) => is_name(name),
        (_, Some(names)) => names
            .rsplit_once(" and ")
            .is_some_and(|(others, last)| others.split(", ").all(is_name) && is_name(last)),
        _ => false,
    }
}

/// Metadata of a package with one function of another: what that one says, but for its other
/// functions.
pub(crate) fn of_one(mut metadata: Metadata, function: &str) -> Metadata {
    metadata.user_defined.remove(anemll::FUNCTIONS);
    metadata.short_description =
        with_functions(without_functions(&metadata.short_description), &[function]);
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(description: &str, pairs: &[(&str, &str)]) -> Metadata {
        Metadata {
            short_description: description.to_owned(),
            user_defined: pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..Metadata::default()
        }
    }

    #[test]
    fn the_default_function_speaks_first() {
        let prefill = part(
            "Prefill",
            &[("com.anemll.batch_size", "64"), ("com.anemll.info", "p"), ("x", "1")],
        );
        let mut infer = part("FFN", &[("com.anemll.info", "i"), ("x", "2")]);
        infer.author = "someone".to_owned();
        let joined = joined(&[("prefill", prefill), ("infer", infer)], "infer");
        let pairs: Vec<_> =
            joined.user_defined.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("com.anemll.batch_size", "64"),
                ("com.anemll.functions", "prefill,infer"),
                ("com.anemll.info", "i"),
                ("x", "2"),
            ]
        );
        assert_eq!(joined.author, "someone");
        assert_eq!(joined.short_description, "FFN, functions prefill and infer");
    }

    #[test]
    fn lists_of_functions_do_not_pile_up() {
        let names = ["infer", "prefill"];
        let whole = part("llama layers 0 to 3 of 4, functions infer and prefill", &[]);
        let split = names.map(|name| (name, of_one(whole.clone(), name)));
        assert_eq!(split[1].1.short_description, "llama layers 0 to 3 of 4, function prefill");
        let again = joined(&split, "infer");
        assert_eq!(again.short_description, whole.short_description);
        assert_eq!(joined(&[("a", again.clone()), ("b", again)], "a").short_description, {
            "llama layers 0 to 3 of 4, functions a and b"
        });
        let piled = "x, function a, functions infer, b and prefill";
        assert_eq!(without_functions(piled), "x");
        for kept in ["x, function of time", "x, functions", "function", "", "x, functions a, b"] {
            assert_eq!(without_functions(kept), kept);
        }
        assert_eq!(without_functions("function main"), "");
    }

    #[test]
    fn packages_of_others_are_not_called_anemlls() {
        let joined = joined(&[("a", part("", &[("x", "1")]))], "a");
        assert_eq!(joined.user_defined.len(), 1);
        assert_eq!(joined.short_description, "function a");
    }

    #[test]
    fn what_the_descriptions_have_in_common_is_kept() {
        let text = |texts: &[&str]| {
            let parts: Vec<(&str, Metadata)> =
                ["a", "b", "c"].into_iter().zip(texts.iter().map(|text| part(text, &[]))).collect();
            joined(&parts, "b").short_description
        };
        assert_eq!(
            text(&["llama layers 1 to 4 of 8, one token", "llama layers 1 to 4 of 8, 64 tokens"]),
            "llama layers 1 to 4 of 8, functions a and b"
        );
        assert_eq!(text(&["same", "same", "same"]), "same, functions a, b and c");
        assert_eq!(text(&["ünter", "über"]), "über, functions a and b");
        assert_eq!(text(&["", "b"]), "b, functions a and b");
    }
}
