//! The weights of an asset: constants, alone or decoded from indices, integers and what scales them.

use anemll_aicode::asset::Asset;
use anemll_aicode::{Attribute, Function, Operation, Program, TensorType, Type};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// From how many elements on a constant that stands in the program counts as a weight.
const LEAST_ELEMENTS: u64 = 64;

const CONSTANT: &str = "primitive.constant_v1";

/// A weight.
#[derive(Debug, Clone, Serialize)]
pub struct AssetWeight {
    /// The key of its largest blob, by which functions share it; empty where it stands in the
    /// program.
    pub key: String,
    /// How it is stored, such as `plain`, `4-bit palettized` or `int8 scaled`.
    pub form: String,
    /// Element type that operations see.
    pub dtype: String,
    /// Shape that the first operation sees.
    pub shape: Vec<u64>,
    /// Values.
    pub elements: u64,
    /// Bytes of all its parts.
    pub bytes: u64,
    /// Bits for each value.
    pub bits: f64,
    /// Tables of a palettized weight, or scales of one of integers; 0 for others.
    pub groups: u64,
    /// Values that an index stands for; 1 for all but vectors.
    pub vector: u64,
    /// Functions that use it.
    pub functions: Vec<String>,
    /// What it is stored in.
    pub parts: Vec<AssetPart>,
}

/// A part of a weight.
#[derive(Debug, Clone, Serialize)]
pub struct AssetPart {
    /// The operand that it is.
    pub what: &'static str,
    /// Element type.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<u64>,
    /// Stored bytes.
    pub bytes: u64,
    /// The key of its blob; absent where it stands in the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What a part is, whatever shape it is asked for in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Blob(u32),
    Inline(bool, Vec<u8>),
}

/// What two functions must agree in to share a weight.
type Identity = (String, Vec<Content>);

/// Every weight, in the order in which functions use them; of one function where it is named.
pub(super) fn weights(asset: &Asset, function: Option<&str>) -> Vec<AssetWeight> {
    let mut places: BTreeMap<Identity, usize> = BTreeMap::new();
    let mut found: Vec<AssetWeight> = Vec::new();
    for one in &asset.program.functions {
        for (identity, weight) in of_function(&asset.program, one) {
            let place = *places.entry(identity).or_insert_with(|| {
                found.push(weight);
                found.len() - 1
            });
            let functions = &mut found[place].functions;
            if !functions.contains(&one.name) {
                functions.push(one.name.clone());
            }
        }
    }
    found.retain(|weight| function.is_none_or(|name| weight.functions.iter().any(|f| f == name)));
    found
}

/// Bytes of blobs that no constant names.
pub(super) fn unused_bytes(program: &Program) -> u64 {
    let mut used = BTreeSet::new();
    for function in &program.functions {
        for operation in &function.body.operations {
            if let Some(Some(Attribute::Blob(index))) = operation.properties.first() {
                used.insert(*index as usize);
            }
        }
    }
    let unused = program.blobs.iter().enumerate().filter(|(place, _)| !used.contains(place));
    unused.fold(0_u64, |sum, (_, blob)| sum.saturating_add(blob.length))
}

/// Names of what decodes weights, and of their operands.
fn decoder(name: &str) -> Option<&'static [&'static str]> {
    let stem = name.rsplit('.').next().unwrap_or(name);
    let decodes = ["lut_to_dense", "blockwise_shift_scale", "dequantize", "lut_to_sparse"]
        .iter()
        .any(|known| stem.starts_with(known));
    anemll_aicode::find(name).filter(|_| decodes).map(|definition| definition.operands)
}

fn of_function(program: &Program, function: &Function) -> Vec<(Identity, AssetWeight)> {
    let mut constants: HashMap<u64, (&Operation, &TensorType)> = HashMap::new();
    // Constants that are parts of other weights, and those that anything else takes.
    let (mut parts, mut taken) = (BTreeSet::new(), BTreeSet::new());
    let mut next = function.body.arguments.len() as u64;
    for operation in &function.body.operations {
        if let (CONSTANT, Some(Type::Tensor(kind))) =
            (operation.name.as_str(), operation.results.first())
        {
            constants.insert(next, (operation, kind));
        }
        let set = if decoder(&operation.name).is_some() { &mut parts } else { &mut taken };
        set.extend(operation.operands.iter().copied());
        next += operation.results.len() as u64;
    }
    let mut found = Vec::new();
    let mut next = function.body.arguments.len() as u64;
    for operation in &function.body.operations {
        let weight = match (decoder(&operation.name), operation.results.first()) {
            (Some(names), Some(Type::Tensor(kind))) => {
                let parts = operation.operands.iter().zip(names);
                let parts: Option<Vec<_>> =
                    parts.map(|(value, name)| Some((*constants.get(value)?, *name))).collect();
                parts.and_then(|parts| weight(program, &operation.name, kind, &parts))
            }
            _ => constants.get(&next).and_then(|(constant, kind)| {
                let stored = constant.properties.first()?.as_ref()?;
                let large = kind.element_count().is_some_and(|count| count >= LEAST_ELEMENTS);
                let splat = matches!(stored, Attribute::Dense { splat: true, .. });
                let is_one = matches!(stored, Attribute::Blob(_)) || (large && !splat);
                let alone = !parts.contains(&next) || taken.contains(&next);
                let part = ((*constant, *kind), "value");
                (is_one && alone).then(|| weight(program, CONSTANT, kind, &[part]))?
            }),
        };
        found.extend(weight);
        next += operation.results.len() as u64;
    }
    found
}

fn sizes(kind: &TensorType) -> Vec<u64> {
    kind.shape.iter().map(|size| u64::try_from(*size).unwrap_or(0)).collect()
}

/// The weight that an operation makes of these constants; `None` where one has no value.
fn weight(
    program: &Program,
    operation: &str,
    kind: &TensorType,
    operands: &[((&Operation, &TensorType), &'static str)],
) -> Option<(Identity, AssetWeight)> {
    let (mut contents, mut parts) = (Vec::new(), Vec::new());
    for ((constant, stored), what) in operands {
        let (content, bytes, key) = match constant.properties.first()?.as_ref()? {
            Attribute::Blob(index) => {
                let blob = program.blobs.get(*index as usize)?;
                (Content::Blob(*index), blob.length, Some(blob.key.clone()))
            }
            Attribute::Dense { splat, bytes } => {
                (Content::Inline(*splat, bytes.clone()), bytes.len() as u64, None)
            }
            _ => return None,
        };
        contents.push(content);
        let (dtype, shape) = (stored.element.name().to_owned(), sizes(stored));
        parts.push(AssetPart { what, dtype, shape, bytes, key });
    }
    let elements = kind.element_count().unwrap_or(0);
    let bytes = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.bytes));
    let largest = parts.iter().filter(|part| part.key.is_some()).max_by_key(|part| part.bytes);
    let second = operands.get(1).map(|((_, kind), _)| sizes(kind));
    let (form, groups, vector) = form(operation, operands[0].0.1, second.as_deref());
    let weight = AssetWeight {
        key: largest.and_then(|part| part.key.clone()).unwrap_or_default(),
        form,
        dtype: kind.element.name().to_owned(),
        shape: sizes(kind),
        elements,
        bytes,
        bits: if elements == 0 { 0.0 } else { bytes as f64 * 8.0 / elements as f64 },
        groups,
        vector,
        functions: Vec::new(),
        parts,
    };
    Some(((operation.to_owned(), contents), weight))
}

/// The form in words, how many tables or scales there are, and values for each index.
fn form(operation: &str, stored: &TensorType, second: Option<&[u64]>) -> (String, u64, u64) {
    let product = |sizes: &[u64]| sizes.iter().fold(1_u64, |all, size| all.saturating_mul(*size));
    match (operation, second) {
        (CONSTANT, _) => ("plain".to_owned(), 0, 1),
        (name, Some(table)) if name.contains("lut_to") => {
            let tables = table.len().checked_sub(2).map_or(1, |rank| product(&table[..rank]));
            let vector = table.last().copied().unwrap_or(1);
            (format!("{}-bit palettized", stored.element.bits()), tables, vector)
        }
        (_, scale) => {
            let name = stored.element.name().replace("ui", "uint").replace("si", "int");
            (format!("{name} scaled"), scale.map_or(1, product), 1)
        }
    }
}

#[cfg(test)]
mod tests;
