//! Which weights a model has, what each is stored in, and which functions share it.

use anemll_mil::literal::tensor_type;
use anemll_mil::references::{blob_of, values};
use anemll_mil::types::{Symbols, ValueType};
use anemll_mil::{DataType, TensorType, model, ops};
use coreml_proto::mil::argument::binding::Binding;
use coreml_proto::{Model, mil};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// From this many elements on, a constant that stands in the program itself counts as a weight.
const LARGE_IMMEDIATE: u64 = 64;

/// How many constexpr operations may stand in a row; real programs have two.
const MAXIMUM_DEPTH: usize = 8;

/// A weight: what a running operation sees, and all that it is stored in.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight<'a> {
    /// Name of the value in the first function of `functions`.
    pub name: &'a str,
    /// Operation that makes it: `const`, or a constexpr.
    pub operation: &'a str,
    /// Element type and shape as running operations see it; `None` where it is not declared.
    pub kind: Option<TensorType>,
    /// Functions that hold it, by name.
    pub functions: Vec<&'a str>,
    /// Function and value of each operation that holds it.
    pub places: Vec<(&'a str, &'a str)>,
    /// What it is stored in.
    pub parts: Vec<Part<'a>>,
}

/// A stored tensor that belongs to a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<'a> {
    /// The operation and the parameter that hold it, such as `constexpr_lut_to_dense.indices`;
    /// `const` for a plain weight. Operations in a row are joined by `/`.
    pub holder: String,
    /// Element type.
    pub data_type: DataType,
    /// Sizes; empty for a scalar.
    pub shape: Vec<u64>,
    /// Bytes.
    pub bytes: u64,
    /// The record; `None` for data that stand in the program itself.
    pub place: Option<Place<'a>>,
}

/// A record of a weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place<'a> {
    /// The file as the program names it.
    pub file: &'a str,
    /// Offset of the record's metadata.
    pub offset: u64,
}

impl Weight<'_> {
    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// Number of values; 0 where the type is not known.
    pub fn elements(&self) -> u64 {
        self.kind.as_ref().and_then(TensorType::element_count).unwrap_or(0)
    }
}

/// All operations of a block and of the blocks inside it, in order. The nesting of a decoded
/// message is bounded, and so is the recursion here.
pub(crate) fn operations(block: &mil::Block) -> Vec<&mil::Operation> {
    fn walk<'a>(block: &'a mil::Block, found: &mut Vec<&'a mil::Operation>) {
        for operation in &block.operations {
            found.push(operation);
            operation.blocks.iter().for_each(|inner| walk(inner, found));
        }
    }
    let mut found = Vec::new();
    walk(block, &mut found);
    found
}

fn is_constexpr(operation: &mil::Operation) -> bool {
    ops::is_constexpr(&operation.r#type)
}

/// Names that an operation is given.
pub(crate) fn names(operation: &mil::Operation) -> impl Iterator<Item = (&str, &str)> {
    operation.inputs.iter().flat_map(|(parameter, argument)| {
        argument.arguments.iter().filter_map(move |binding| match &binding.binding {
            Some(Binding::Name(name)) => Some((parameter.as_str(), name.as_str())),
            _ => None,
        })
    })
}

/// The weights of a model: constants that stand in weight files or are large, and what constexpr
/// operations make, each once, in the order in which the functions (by name) first hold them.
///
/// Two are the same weight when the same operation makes them of the same records (or of equal
/// immediate data). What only feeds constexpr operations is part of their weight.
pub fn list(model: &Model) -> Vec<Weight<'_>> {
    let functions = model::program(model).into_iter().flat_map(|program| &program.functions);
    let mut found: Vec<Weight<'_>> = Vec::new();
    let mut known: HashMap<u64, usize> = HashMap::new();
    for (function, body) in functions {
        let Ok(block) = model::block(body) else { continue };
        let all = operations(block);
        let inner = Uses::of(block, &all);
        let producers: HashMap<&str, &mil::Operation> = all
            .iter()
            .flat_map(|operation| {
                operation.outputs.iter().map(move |output| (output.name.as_str(), *operation))
            })
            .collect();
        for operation in all {
            let Some(output) = operation.outputs.last() else { continue };
            let constexpr = is_constexpr(operation);
            let is_inner = inner.holds(operation);
            if (!constexpr && operation.r#type != "const") || is_inner {
                continue;
            }
            let mut parts = Vec::new();
            let mut hasher = DefaultHasher::new();
            let mut collected = HashMap::from([(std::ptr::from_ref(operation), 0)]);
            collect(operation, &producers, "", &mut collected, &mut parts, &mut hasher);
            let weighs = constexpr
                || parts
                    .iter()
                    .any(|part| part.place.is_some() || elements(part) >= LARGE_IMMEDIATE);
            if parts.is_empty() || !weighs {
                continue;
            }
            let kind = output
                .r#type
                .as_ref()
                .and_then(|kind| ValueType::from_proto(kind, &Symbols::default()).ok())
                .and_then(|kind| kind.tensor().cloned());
            kind.as_ref().and_then(TensorType::fixed_shape).hash(&mut hasher);
            match known.entry(hasher.finish()) {
                Entry::Occupied(place) => {
                    let weight = &mut found[*place.get()];
                    weight.places.push((function, &output.name));
                    if weight.functions.last() != Some(&function.as_str()) {
                        weight.functions.push(function);
                    }
                }
                Entry::Vacant(place) => {
                    place.insert(found.len());
                    found.push(Weight {
                        name: &output.name,
                        operation: &operation.r#type,
                        kind,
                        functions: vec![function],
                        places: vec![(function, &output.name)],
                        parts,
                    });
                }
            }
        }
    }
    found
}

fn elements(part: &Part<'_>) -> u64 {
    anemll_mil::types::element_count(&part.shape).unwrap_or(u64::MAX)
}

/// Which values constexpr operations use, and which anything else does.
struct Uses<'a> {
    by_constexpr: HashSet<&'a str>,
    by_others: HashSet<&'a str>,
}

impl<'a> Uses<'a> {
    fn of(block: &'a mil::Block, all: &[&'a mil::Operation]) -> Self {
        let uses = |constexpr: bool| {
            all.iter()
                .filter(move |operation| is_constexpr(operation) == constexpr)
                .flat_map(|operation| names(operation))
                .map(|(_, name)| name)
        };
        let blocks = all.iter().flat_map(|operation| &operation.blocks).chain([block]);
        let given = blocks.flat_map(|block| &block.outputs).map(String::as_str);
        Self { by_constexpr: uses(true).collect(), by_others: uses(false).chain(given).collect() }
    }

    /// Whether an operation is a link of a chain: one of its results feeds a constexpr operation,
    /// and none anything else. The sparse forms give a mask, too, which may go nowhere.
    fn holds(&self, operation: &mil::Operation) -> bool {
        let uses = |known: &HashSet<&str>| {
            operation.outputs.iter().any(|output| known.contains(output.name.as_str()))
        };
        uses(&self.by_constexpr) && !uses(&self.by_others)
    }
}

/// The stored tensors of an operation and of those that feed it, each operation once (`collected`,
/// numbered in order); their identity goes to `hasher`.
fn collect<'a>(
    operation: &'a mil::Operation,
    producers: &HashMap<&'a str, &'a mil::Operation>,
    before: &str,
    collected: &mut HashMap<*const mil::Operation, usize>,
    parts: &mut Vec<Part<'a>>,
    hasher: &mut DefaultHasher,
) {
    operation.r#type.hash(hasher);
    for (parameter, value) in values(operation) {
        let Ok(kind) = tensor_type(value) else { continue };
        if parameter == "name" || kind.data_type == DataType::String {
            continue;
        }
        parameter.hash(hasher);
        kind.hash(hasher);
        let place = blob_of(value).map(|blob| Place { file: &blob.file_name, offset: blob.offset });
        match place {
            Some(place) => place.hash(hasher),
            None => anemll_mil::literal::tensor_bytes(value).map(|(_, data)| data).hash(hasher),
        }
        // Scalars and shapes that merely say how to decode are no part of the size.
        if place.is_none() && matches!(parameter, "shape" | "axis" | "vector_axis") {
            continue;
        }
        // The sparse forms name one mask at every link of a chain.
        if place.is_some() && parts.iter().any(|part| part.place == place) {
            continue;
        }
        let holder = match parameter {
            "val" => format!("{before}{}", operation.r#type),
            parameter => format!("{before}{}.{parameter}", operation.r#type),
        };
        parts.push(Part {
            holder,
            data_type: kind.data_type,
            shape: kind.fixed_shape().unwrap_or_default(),
            bytes: kind.byte_size().unwrap_or(0),
            place,
        });
    }
    if !is_constexpr(operation) {
        return;
    }
    for (parameter, name) in names(operation) {
        if let Some(source) = producers.get(name) {
            parameter.hash(hasher);
            // Both outputs of a sparse operation lead to one place; programs may have cycles.
            let number = collected.len();
            match collected.entry(std::ptr::from_ref(*source)) {
                Entry::Occupied(earlier) => {
                    earlier.get().hash(hasher);
                    continue;
                }
                Entry::Vacant(place) => place.insert(number),
            };
            if before.matches('/').count() < MAXIMUM_DEPTH {
                let before = format!("{before}{}.{parameter}/", operation.r#type);
                collect(source, producers, &before, collected, parts, hasher);
            }
        }
    }
}
