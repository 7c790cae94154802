//! All that is found out about an asset. `docs/reference/inspect.md` describes its JSON form.

use super::faults::{Fault, faults};
use super::weights::{self, AssetWeight};
use crate::inspect::open::{Part, list};
use anemll_aicode::asset::Asset;
use anemll_aicode::{DYNAMIC, Function, Port, Type};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Version of the JSON form; keys may be added within one.
const SCHEMA: u32 = 1;

/// What is shown of an asset.
#[derive(Debug, Serialize)]
pub struct AssetInspection {
    schema: u32,
    /// The path as given.
    pub path: String,
    /// `asset`, beside the forms of models of Core ML.
    pub form: &'static str,
    /// Version of the asset's description; empty where it has none.
    pub asset_version: String,
    /// Version of the dialect that the program needs, a date as a number.
    pub dialect_version: u32,
    /// The oldest systems that load it.
    pub minimum_system: &'static str,
    /// What wrote it.
    pub producer: String,
    /// What it is.
    pub short_description: String,
    /// Author.
    pub author: String,
    /// License.
    pub license: String,
    /// Metadata of the asset's author.
    pub metadata: Map<String, Value>,
    /// All files.
    pub files: Vec<Part>,
    /// Bytes of the program's file without its blobs.
    pub program_bytes: u64,
    /// Bytes of all blobs.
    pub weight_bytes: u64,
    /// Bytes of blobs that no function uses.
    pub unused_bytes: u64,
    /// Number of values of all weights.
    pub elements: u64,
    /// Bits for each value of all weights.
    pub bits: f64,
    /// Bytes that the weights would take if every function had its own.
    pub unshared_bytes: u64,
    /// Functions in the order of the program.
    pub functions: Vec<Ports>,
    /// Which functions share how many weights, in the order in which they use them.
    pub sharing: Vec<SharedInspection>,
    /// Weights in the order in which functions use them.
    pub weights: Vec<AssetWeight>,
    /// What loaders would not like.
    pub faults: Vec<Fault>,
}

/// A function, with what goes in and comes out.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// Name.
    pub name: String,
    /// Whether callers from outside do not see it.
    pub private: bool,
    /// What takes values.
    pub inputs: Vec<PortInspection>,
    /// What gives values.
    pub outputs: Vec<PortInspection>,
    /// What calls change in place.
    pub states: Vec<PortInspection>,
    /// How often each operation stands in it, without its version; constants are not counted.
    pub operations: BTreeMap<String, u64>,
}

/// An input, output or state.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct PortInspection {
    /// Name.
    pub name: String,
    /// Element type, as Core AI names it.
    pub dtype: String,
    /// Sizes; null where one is known only at run time.
    pub shape: Vec<Option<u64>>,
    /// Whether it must lie in memory in a way of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub laid_out: bool,
}

/// Functions that use the same weights, and no others do.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct SharedInspection {
    /// Names of the functions.
    pub functions: Vec<String>,
    /// How many weights.
    pub weights: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl PortInspection {
    fn of(port: &Port) -> Option<Self> {
        let (Type::Tensor(tensor) | Type::State(tensor)) = &port.kind else { return None };
        let size = |size: &i64| u64::try_from(*size).ok().filter(|_| *size != DYNAMIC);
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            dtype: tensor.element.name().to_owned(),
            shape: tensor.shape.iter().map(size).collect(),
            laid_out: tensor.layout.is_some(),
        })
    }

    /// The shape in words.
    pub(super) fn shape_text(&self) -> String {
        let sizes = self.shape.iter().map(|size| match size {
            Some(size) => size.to_string(),
            None => "?".to_owned(),
        });
        let shape = match self.shape.as_slice() {
            [] => "scalar".to_owned(),
            _ => sizes.collect::<Vec<_>>().join(" × "),
        };
        if self.laid_out { format!("{shape}, laid out for the hardware") } else { shape }
    }
}

impl Ports {
    pub(super) fn of(function: &Function) -> Self {
        let is_state = |port: &&Port| matches!(port.kind, Type::State(_));
        let of = |port: &Port| PortInspection::of(port);
        let mut operations = BTreeMap::new();
        for operation in &function.body.operations {
            let stem = operation.name.rsplit('.').next().unwrap_or_default();
            let (stem, _) = stem.rsplit_once("_v").unwrap_or((stem, ""));
            if stem != "constant" && stem != "output" {
                *operations.entry(stem.to_owned()).or_default() += 1;
            }
        }
        Self {
            name: function.name.clone(),
            private: function.private || function.composite.is_some(),
            inputs: function.inputs.iter().filter(|port| !is_state(port)).filter_map(of).collect(),
            outputs: function.outputs.iter().filter_map(of).collect(),
            states: function.inputs.iter().filter(is_state).filter_map(of).collect(),
            operations,
        }
    }
}

impl AssetInspection {
    /// Looks at an asset; with a function, at what is that function's alone.
    pub fn of(asset: &Asset, function: Option<&str>) -> Self {
        let program = &asset.program;
        let weights = weights::weights(asset, function);
        let text = |key: &str| {
            asset.metadata.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let weight_bytes =
            program.blobs.iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.length));
        let sum = |of: fn(&AssetWeight) -> u64| {
            weights.iter().fold(0_u64, |sum, weight| sum.saturating_add(of(weight)))
        };
        let (elements, bytes) = (sum(|weight| weight.elements), sum(|weight| weight.bytes));
        let mut files = Vec::new();
        list(asset.path(), "", 0, &mut files);
        files.sort_by(|first, second| first.name.cmp(&second.name));
        let metadata = asset.metadata.get("creatorDefinedMetadata").and_then(Value::as_object);
        let wanted = |one: &&Function| function.is_none_or(|name| one.name == name);
        Self {
            schema: SCHEMA,
            path: asset.path().display().to_string(),
            form: "asset",
            asset_version: text("assetVersion"),
            dialect_version: program.version,
            minimum_system: "iOS 27, macOS 27",
            producer: text("producer"),
            short_description: text("description"),
            author: text("author"),
            license: text("license"),
            metadata: metadata.cloned().unwrap_or_default(),
            files,
            program_bytes: asset.size.saturating_sub(weight_bytes),
            weight_bytes,
            unused_bytes: weights::unused_bytes(program),
            elements,
            bits: if elements == 0 { 0.0 } else { bytes as f64 * 8.0 / elements as f64 },
            unshared_bytes: sum(|weight| {
                weight.bytes.saturating_mul(weight.functions.len() as u64)
            }),
            functions: program.functions.iter().filter(wanted).map(Ports::of).collect(),
            sharing: sharing(&weights),
            weights,
            faults: faults(asset),
        }
    }

    /// Bytes of everything.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

/// Weights by the functions that use them. A blob of several weights counts once in each.
fn sharing(weights: &[AssetWeight]) -> Vec<SharedInspection> {
    let mut found: Vec<SharedInspection> = Vec::new();
    let mut counted: BTreeSet<(usize, &str)> = BTreeSet::new();
    for weight in weights {
        let place = found.iter().position(|group| group.functions == weight.functions);
        let place = place.unwrap_or_else(|| {
            let functions = weight.functions.clone();
            found.push(SharedInspection { functions, weights: 0, bytes: 0 });
            found.len() - 1
        });
        found[place].weights += 1;
        for part in &weight.parts {
            let new = part.key.as_deref().is_none_or(|key| counted.insert((place, key)));
            if new {
                found[place].bytes = found[place].bytes.saturating_add(part.bytes);
            }
        }
    }
    found
}
