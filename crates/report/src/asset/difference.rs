//! In what two assets differ.

use super::inspection::{AssetInspection, PortInspection, Ports};
use super::text::form;
use super::weights::AssetWeight;
use crate::diff::Change;
use anemll_aicode::asset::Asset;
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the JSON form; keys may be added within one.
const SCHEMA: u32 = 1;

/// In what two assets differ.
#[derive(Debug, Serialize)]
pub struct AssetDifference {
    schema: u32,
    equal: bool,
    pub(super) first: Side,
    pub(super) second: Side,
    /// Versions, and what the descriptions say.
    pub(super) asset: Vec<Change>,
    /// Functions that one of them lacks, and those that differ.
    pub(super) functions: Vec<FunctionChange>,
    pub(super) weights: WeightChange,
}

#[derive(Debug, Serialize)]
pub(super) struct Side {
    pub(super) path: String,
    pub(super) program_bytes: u64,
    pub(super) weight_bytes: u64,
}

/// A function that differs.
#[derive(Debug, Serialize)]
pub(super) struct FunctionChange {
    pub(super) name: String,
    /// `first` or `second`, where the other one lacks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) only_in: Option<&'static str>,
    /// Inputs, outputs, states, counts of operations.
    pub(super) changes: Vec<Change>,
    /// Whether its operations differ although their counts are the same.
    pub(super) other_operations: bool,
}

/// Weights by what they hold.
#[derive(Debug, Default, Serialize)]
pub(super) struct WeightChange {
    /// How many both have, byte for byte.
    pub(super) equal: usize,
    pub(super) only_in_first: Vec<WeightNamed>,
    pub(super) only_in_second: Vec<WeightNamed>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct WeightNamed {
    pub(super) key: String,
    pub(super) form: String,
    pub(super) shape: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) functions: Vec<String>,
}

impl AssetDifference {
    /// Whether there is none.
    pub fn is_equal(&self) -> bool {
        self.equal
    }
}

/// Compares two assets. Weights are the same where their blobs have the same keys and lengths: keys are
/// made of what blobs hold by writers that are known.
pub fn compare(first: &Asset, second: &Asset) -> AssetDifference {
    let sides = [AssetInspection::of(first, None), AssetInspection::of(second, None)];
    let asset = descriptions(&sides[0], &sides[1]);
    let mut functions = Vec::new();
    for one in &sides[0].functions {
        let Some(other) = sides[1].functions.iter().find(|other| other.name == one.name) else {
            functions.push(only_in("first", &one.name));
            continue;
        };
        let changes = ports(one, other);
        let body = |asset: &Asset| anemll_aicode::text(&asset.program, Some(&one.name));
        let without_version =
            |text: String| text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned());
        let other_operations =
            changes.is_empty() && without_version(body(first)) != without_version(body(second));
        if other_operations || !changes.is_empty() {
            let name = one.name.clone();
            functions.push(FunctionChange { name, only_in: None, changes, other_operations });
        }
    }
    for other in &sides[1].functions {
        if !sides[0].functions.iter().any(|one| one.name == other.name) {
            functions.push(only_in("second", &other.name));
        }
    }
    let weights = weights(&sides[0].weights, &sides[1].weights);
    let equal = asset.is_empty()
        && functions.is_empty()
        && weights.only_in_first.is_empty()
        && weights.only_in_second.is_empty();
    let [first, second] = sides.map(|side| Side {
        path: side.path,
        program_bytes: side.program_bytes,
        weight_bytes: side.weight_bytes,
    });
    AssetDifference { schema: SCHEMA, equal, first, second, asset, functions, weights }
}

fn only_in(side: &'static str, name: &str) -> FunctionChange {
    let (name, changes) = (name.to_owned(), Vec::new());
    FunctionChange { name, only_in: Some(side), changes, other_operations: false }
}

fn change(what: &str, first: String, second: String) -> Option<Change> {
    let value = |text: String| Some(text).filter(|text| !text.is_empty());
    (first != second).then(|| Change {
        what: what.to_owned(),
        first: value(first),
        second: value(second),
    })
}

fn descriptions(first: &AssetInspection, second: &AssetInspection) -> Vec<Change> {
    type Fact = fn(&AssetInspection) -> String;
    let facts: [(&str, Fact); 6] = [
        ("asset version", |one| one.asset_version.clone()),
        ("operations of", |one| one.dialect_version.to_string()),
        ("made by", |one| one.producer.clone()),
        ("description", |one| one.short_description.clone()),
        ("author", |one| one.author.clone()),
        ("license", |one| one.license.clone()),
    ];
    let mut changes: Vec<Change> =
        facts.iter().filter_map(|(what, of)| change(what, of(first), of(second))).collect();
    let keys: BTreeMap<&String, ()> =
        first.metadata.keys().chain(second.metadata.keys()).map(|key| (key, ())).collect();
    for key in keys.into_keys() {
        let text = |one: &AssetInspection| {
            one.metadata.get(key).map(|value| match value.as_str() {
                Some(text) => text.to_owned(),
                None => value.to_string(),
            })
        };
        let what = format!("metadata {key}");
        changes.extend(change(
            &what,
            text(first).unwrap_or_default(),
            text(second).unwrap_or_default(),
        ));
    }
    changes
}

fn ports(first: &Ports, second: &Ports) -> Vec<Change> {
    let mut changes = Vec::new();
    for (kind, one, other) in [
        ("input", &first.inputs, &second.inputs),
        ("output", &first.outputs, &second.outputs),
        ("state", &first.states, &second.states),
    ] {
        let names: BTreeMap<&String, ()> =
            one.iter().chain(other).map(|port| (&port.name, ())).collect();
        for name in names.into_keys() {
            let text = |ports: &[PortInspection]| {
                let port = ports.iter().find(|port| port.name == *name);
                port.map(|port| format!("{} {}", port.dtype, port.shape_text())).unwrap_or_default()
            };
            changes.extend(change(&format!("{kind} {name}"), text(one), text(other)));
        }
        let order = |ports: &[PortInspection]| {
            ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        if changes.is_empty() {
            changes.extend(change(&format!("order of {kind}s"), order(one), order(other)));
        }
    }
    let names: BTreeMap<&String, ()> =
        first.operations.keys().chain(second.operations.keys()).map(|name| (name, ())).collect();
    for name in names.into_keys() {
        let count = |ports: &Ports| ports.operations.get(name).map(u64::to_string);
        let what = format!("operation {name}");
        changes.extend(change(
            &what,
            count(first).unwrap_or_default(),
            count(second).unwrap_or_default(),
        ));
    }
    changes
}

fn weights(first: &[AssetWeight], second: &[AssetWeight]) -> WeightChange {
    type Content = (String, Vec<(String, u64)>, Vec<u64>);
    let content = |weight: &AssetWeight| -> Content {
        let parts = weight.parts.iter();
        let parts = parts.map(|part| (part.key.clone().unwrap_or_default(), part.bytes)).collect();
        (form(weight), parts, weight.shape.clone())
    };
    let contents =
        |weights: &[AssetWeight]| -> Vec<Content> { weights.iter().map(content).collect() };
    let (ours, theirs) = (contents(first), contents(second));
    let named = |weight: &AssetWeight| WeightNamed {
        key: weight.key.clone(),
        form: form(weight),
        shape: weight.shape.clone(),
        bytes: weight.bytes,
        functions: weight.functions.clone(),
    };
    let only = |weights: &[AssetWeight], other: &[Content]| {
        let other: std::collections::BTreeSet<&Content> = other.iter().collect();
        let missing = weights.iter().filter(|weight| !other.contains(&content(weight)));
        missing.map(named).collect::<Vec<_>>()
    };
    let only_in_first = only(first, &theirs);
    let equal = first.len() - only_in_first.len();
    WeightChange { equal, only_in_first, only_in_second: only(second, &ours) }
}
