//! What the descriptions of two models say differently.

use super::Change;
use crate::inspect::features::{Feature, FunctionInspection};
use coreml_proto::Model;
use std::collections::BTreeMap;

/// Specification, metadata, the default function.
pub(super) fn model(first: &Model, second: &Model) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |what: &str, first: &str, second: &str| {
        if first != second {
            let value = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let (first, second) = (value(first), value(second));
            changes.push(Change { what: what.to_owned(), first, second });
        }
    };
    let version = |model: &Model| model.specification_version.to_string();
    add("specification", &version(first), &version(second));
    let description = |model: &Model| model.description.clone().unwrap_or_default();
    let (first, second) = (description(first), description(second));
    add("default function", &first.default_function_name, &second.default_function_name);
    let first = first.metadata.unwrap_or_default();
    let second = second.metadata.unwrap_or_default();
    add("description", &first.short_description, &second.short_description);
    add("version", &first.version_string, &second.version_string);
    add("author", &first.author, &second.author);
    add("license", &first.license, &second.license);
    let keys: BTreeMap<&String, ()> =
        first.user_defined.keys().chain(second.user_defined.keys()).map(|key| (key, ())).collect();
    for key in keys.into_keys() {
        let (first, second) = (first.user_defined.get(key), second.user_defined.get(key));
        if first != second {
            changes.push(Change {
                what: format!("metadata {key}"),
                first: first.cloned(),
                second: second.cloned(),
            });
        }
    }
    changes
}

/// Inputs, outputs and states, by name; another order is a change, too.
pub(super) fn function(first: &FunctionInspection, second: &FunctionInspection) -> Vec<Change> {
    let mut changes = Vec::new();
    if first.opset != second.opset {
        changes.push(Change {
            what: "opset".to_owned(),
            first: Some(first.opset.clone()),
            second: Some(second.opset.clone()),
        });
    }
    for (kind, first, second) in [
        ("input", &first.inputs, &second.inputs),
        ("output", &first.outputs, &second.outputs),
        ("state", &first.states, &second.states),
    ] {
        features(kind, first, second, &mut changes);
    }
    changes
}

fn features(kind: &str, first: &[Feature], second: &[Feature], changes: &mut Vec<Change>) {
    let text = |feature: &Feature| {
        let about = match feature.description.is_empty() {
            true => String::new(),
            false => format!(" ({})", feature.description),
        };
        format!("{} {}{about}", feature.dtype, feature.shape_text())
    };
    let find = |list: &'_ [Feature], name: &str| -> Option<usize> {
        list.iter().position(|feature| feature.name == name)
    };
    let what = |feature: &Feature| format!("{kind} {}", feature.name);
    for feature in first {
        let other = find(second, &feature.name).map(|place| &second[place]);
        if other != Some(feature) {
            let first = Some(text(feature));
            changes.push(Change { what: what(feature), first, second: other.map(text) });
        }
    }
    for feature in second {
        if find(first, &feature.name).is_none() {
            let second = Some(text(feature));
            changes.push(Change { what: what(feature), first: None, second });
        }
    }
    let names = |list: &[Feature], other: &[Feature]| -> Vec<String> {
        let both = list.iter().filter(|feature| find(other, &feature.name).is_some());
        both.map(|feature| feature.name.clone()).collect()
    };
    let (first, second) = (names(first, second), names(second, first));
    if first != second {
        changes.push(Change {
            what: format!("order of {kind}s"),
            first: Some(first.join(", ")),
            second: Some(second.join(", ")),
        });
    }
}
