//! In which operations two programs differ.
//!
//! Operations are matched by what they do, to what, and in which order, not by their names: type,
//! settings, kinds of operands and results. Constants are part of the operations that use them; whether
//! weights have equal values is asked elsewhere. Matched operations whose operands come from
//! operations that are not matched with each other count as changed.

use super::align::align;
use super::{Change, signature};
use crate::inspect::features::{self, FunctionInspection};
use anemll_mil::types::{Symbols, ValueType};
use anemll_mil::{Elements, Literal, model, ops};
use coreml_proto::mil::argument::binding::Binding;
use coreml_proto::{Model, mil};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// In what a function differs.
#[derive(Debug, Default, Serialize)]
pub(super) struct FunctionDifference {
    /// Name; of both, where two models of one function each name it differently: `a → b`.
    pub(super) name: String,
    /// `both`, `first` or `second`: which model has it.
    pub(super) present: &'static str,
    /// Opset, inputs, outputs, states.
    pub(super) signature: Vec<Change>,
    /// Number of operations that are equal.
    pub(super) equal_operations: u64,
    /// Operations that do something else than their partner.
    pub(super) changed: Vec<ChangedOperation>,
    /// Operations of the first without a partner.
    pub(super) removed: Vec<OperationName>,
    /// Operations of the second without a partner.
    pub(super) added: Vec<OperationName>,
}

/// An operation and what it makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OperationName {
    /// Type, such as `conv`.
    pub(super) operation: String,
    /// Name of the first value that it makes.
    pub(super) name: String,
}

/// Two operations that belong together but differ.
#[derive(Debug, Serialize)]
pub(super) struct ChangedOperation {
    /// That of the first.
    #[serde(flatten)]
    pub(super) first: OperationName,
    /// Name of the second, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) other_name: Option<String>,
    /// What differs.
    pub(super) changes: Vec<Change>,
}

impl FunctionDifference {
    /// Whether nothing differs.
    pub(super) fn is_equal(&self) -> bool {
        self.present == "both"
            && self.signature.is_empty()
            && self.changed.is_empty()
            && self.removed.is_empty()
            && self.added.is_empty()
    }
}

/// A weight of the first and of the second model that belong together: function and value of each.
pub(super) type WeightPair<'a> = ((&'a str, &'a str), (&'a str, &'a str));

pub(super) struct Graphs<'a> {
    pub(super) functions: Vec<FunctionDifference>,
    pub(super) pairs: Vec<WeightPair<'a>>,
}

/// Compares all functions by name; a lone function with a lone one of another name.
pub(super) fn compare<'a>(first: &'a Model, second: &'a Model) -> Graphs<'a> {
    let (ours, theirs) = (features::functions(first), features::functions(second));
    let mut graphs = Graphs { functions: Vec::new(), pairs: Vec::new() };
    if let ([one], [other]) = (&ours[..], &theirs[..]) {
        graphs.add(first, second, one, other);
        return graphs;
    }
    let alone = |function: &FunctionInspection, present| FunctionDifference {
        name: function.name.clone(),
        present,
        ..FunctionDifference::default()
    };
    for function in &ours {
        match theirs.iter().find(|other| other.name == function.name) {
            Some(other) => graphs.add(first, second, function, other),
            None => graphs.functions.push(alone(function, "first")),
        }
    }
    for function in &theirs {
        if !ours.iter().any(|other| other.name == function.name) {
            graphs.functions.push(alone(function, "second"));
        }
    }
    graphs
}

impl<'a> Graphs<'a> {
    fn add(
        &mut self,
        first: &'a Model,
        second: &'a Model,
        ours: &FunctionInspection,
        theirs: &FunctionInspection,
    ) {
        let mut found = FunctionDifference {
            name: ours.name.clone(),
            present: "both",
            signature: signature::function(ours, theirs),
            ..FunctionDifference::default()
        };
        if ours.name != theirs.name {
            found.name = format!("{} → {}", ours.name, theirs.name);
            found.signature.push(Change {
                what: "name".to_owned(),
                first: Some(ours.name.clone()),
                second: Some(theirs.name.clone()),
            });
        }
        if let (Some(first), Some(second)) =
            (Graph::of(first, &ours.name), Graph::of(second, &theirs.name))
        {
            operations(&first, &second, &mut found, &mut self.pairs);
        }
        self.functions.push(found);
    }
}

/// Where an operand comes from.
#[derive(Debug, Clone, PartialEq)]
enum Operand<'a> {
    /// An immediate value, by its hash.
    Constant(u64, &'a mil::Value),
    /// A stored weight: its name, and its type in words.
    Weight(&'a str, String),
    /// The output of a running operation: its place, and which output.
    Result(usize, usize),
    /// An input, a state, or what nothing in the function makes.
    Name(&'a str),
}

/// A running operation.
struct Node<'a> {
    operation: &'a mil::Operation,
    operands: Vec<(&'a str, Vec<Operand<'a>>)>,
    /// What it does.
    key: u64,
    /// What it does to what: with all that it is computed from.
    deep: u64,
}

struct Graph<'a> {
    function: &'a str,
    nodes: Vec<Node<'a>>,
    outputs: Vec<Operand<'a>>,
}

impl<'a> Graph<'a> {
    fn of(model: &'a Model, name: &str) -> Option<Self> {
        let (function, body) = model::program(model).ok()?.functions.get_key_value(name)?;
        let block = model::block(body).ok()?;
        let mut constants: HashMap<&str, &mil::Operation> = HashMap::new();
        let mut results: HashMap<&str, (usize, usize)> = HashMap::new();
        let mut nodes: Vec<Node<'_>> = Vec::new();
        for operation in &block.operations {
            if ops::is_constant(&operation.r#type) {
                for output in &operation.outputs {
                    constants.insert(&output.name, operation);
                }
                continue;
            }
            let operands = operands(operation, &constants, &results);
            for (place, output) in operation.outputs.iter().enumerate() {
                results.insert(&output.name, (nodes.len(), place));
            }
            let key = key(operation, &operands);
            let deep = deep(key, &operands, &nodes);
            nodes.push(Node { operation, operands, key, deep });
        }
        let outputs = block.outputs.iter().map(|name| named(name, &constants, &results)).collect();
        Some(Self { function, nodes, outputs })
    }
}

fn operands<'a>(
    operation: &'a mil::Operation,
    constants: &HashMap<&str, &'a mil::Operation>,
    results: &HashMap<&str, (usize, usize)>,
) -> Vec<(&'a str, Vec<Operand<'a>>)> {
    let read = |binding: &'a mil::argument::Binding| match &binding.binding {
        Some(Binding::Value(value)) => value_operand("", value),
        Some(Binding::Name(name)) => named(name, constants, results),
        None => Operand::Name(""),
    };
    operation
        .inputs
        .iter()
        .map(|(name, argument)| (name.as_str(), argument.arguments.iter().map(read).collect()))
        .collect()
}

fn named<'a>(
    name: &'a str,
    constants: &HashMap<&str, &'a mil::Operation>,
    results: &HashMap<&str, (usize, usize)>,
) -> Operand<'a> {
    if let Some((node, output)) = results.get(name) {
        return Operand::Result(*node, *output);
    }
    match constants.get(name) {
        Some(operation) if operation.r#type == "const" => match operation.attributes.get("val") {
            Some(value) => value_operand(name, value),
            None => Operand::Name(name),
        },
        Some(operation) => {
            let output = operation.outputs.iter().find(|output| output.name == name);
            Operand::Weight(name, kind(output.and_then(|output| output.r#type.as_ref())))
        }
        None => Operand::Name(name),
    }
}

fn value_operand<'a>(name: &'a str, value: &'a mil::Value) -> Operand<'a> {
    if anemll_mil::references::blob_of(value).is_some() {
        return Operand::Weight(name, kind(value.r#type.as_ref()));
    }
    let mut hasher = DefaultHasher::new();
    coreml_proto::write(value).hash(&mut hasher);
    Operand::Constant(hasher.finish(), value)
}

fn kind(kind: Option<&mil::ValueType>) -> String {
    kind.and_then(|kind| ValueType::from_proto(kind, &Symbols::default()).ok())
        .map_or_else(|| "unknown".to_owned(), |kind| kind.to_string())
}

/// Types of what an operation makes.
fn made(operation: &mil::Operation) -> Vec<String> {
    operation.outputs.iter().map(|output| kind(output.r#type.as_ref())).collect()
}

/// Attributes that say what an operation does.
fn settings(operation: &mil::Operation) -> impl Iterator<Item = (&str, &mil::Value)> {
    let all = operation.attributes.iter().map(|(name, value)| (name.as_str(), value));
    all.filter(|(name, _)| *name != "name")
}

fn key(operation: &mil::Operation, operands: &[(&str, Vec<Operand<'_>>)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    operation.r#type.hash(&mut hasher);
    made(operation).hash(&mut hasher);
    for (name, value) in settings(operation) {
        name.hash(&mut hasher);
        coreml_proto::write(value).hash(&mut hasher);
    }
    for (name, list) in operands {
        name.hash(&mut hasher);
        for operand in list {
            match operand {
                Operand::Constant(hash, _) => (0, hash).hash(&mut hasher),
                Operand::Weight(_, kind) => (1, kind).hash(&mut hasher),
                Operand::Result(_, output) => (2, output).hash(&mut hasher),
                Operand::Name(_) => 3.hash(&mut hasher),
            }
        }
    }
    for block in &operation.blocks {
        coreml_proto::write(block).hash(&mut hasher);
    }
    hasher.finish()
}

fn deep(key: u64, operands: &[(&str, Vec<Operand<'_>>)], nodes: &[Node<'_>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    for operand in operands.iter().flat_map(|(_, list)| list) {
        match operand {
            Operand::Result(node, output) => (nodes[*node].deep, output).hash(&mut hasher),
            Operand::Name(name) => name.hash(&mut hasher),
            Operand::Constant(..) | Operand::Weight(..) => {}
        }
    }
    hasher.finish()
}

fn operation_name(operation: &mil::Operation) -> OperationName {
    let name = operation.outputs.first().map(|output| output.name.clone());
    OperationName { operation: operation.r#type.clone(), name: name.unwrap_or_default() }
}

/// Aligns the operations of two functions, and tells in what those that belong together differ.
fn operations<'a>(
    first: &Graph<'a>,
    second: &Graph<'a>,
    found: &mut FunctionDifference,
    pairs: &mut Vec<WeightPair<'a>>,
) {
    let mut matched = computed_alike(first, second);
    matched.extend(in_order(first, second, &matched));
    matched.sort_unstable();
    let partner: HashMap<usize, usize> = matched.iter().copied().collect();
    for (ours, theirs) in &matched {
        let (one, other) = (&first.nodes[*ours], &second.nodes[*theirs]);
        let changes = changes(one, other, first, second, &partner);
        weight_pairs((first.function, one), (second.function, other), pairs);
        if changes.is_empty() {
            found.equal_operations += 1;
            continue;
        }
        let (name, other) = (operation_name(one.operation), operation_name(other.operation));
        let other_name = Some(other.name).filter(|other| *other != name.name);
        found.changed.push(ChangedOperation { first: name, other_name, changes });
    }
    let is_partner: HashSet<usize> = matched.iter().map(|(_, theirs)| *theirs).collect();
    let alone = |graph: &Graph<'_>, known: &dyn Fn(usize) -> bool| -> Vec<OperationName> {
        let nodes = graph.nodes.iter().enumerate().filter(|(place, _)| !known(*place));
        nodes.map(|(_, node)| operation_name(node.operation)).collect()
    };
    found.removed = alone(first, &|place| partner.contains_key(&place));
    found.added = alone(second, &|place| is_partner.contains(&place));
    let same = |ours: &Operand<'_>, theirs: &Operand<'_>| comes_from(ours, theirs, &partner);
    let equal = first.outputs.len() == second.outputs.len()
        && first.outputs.iter().zip(&second.outputs).all(|(ours, theirs)| same(ours, theirs));
    if !equal {
        let text = |graph: &Graph<'_>| {
            let all: Vec<String> =
                graph.outputs.iter().map(|operand| operand_text(operand, graph)).collect();
            Some(all.join(", "))
        };
        found.signature.push(Change {
            what: "what the outputs are".to_owned(),
            first: text(first),
            second: text(second),
        });
    }
}

/// Operations that do the same to the same, wherever they stand. Where there are several of a kind,
/// they belong together in their order, if there are as many in both.
fn computed_alike(first: &Graph<'_>, second: &Graph<'_>) -> Vec<(usize, usize)> {
    let mut places: HashMap<u64, (Vec<usize>, Vec<usize>)> = HashMap::new();
    for (place, node) in first.nodes.iter().enumerate() {
        places.entry(node.deep).or_default().0.push(place);
    }
    for (place, node) in second.nodes.iter().enumerate() {
        places.entry(node.deep).or_default().1.push(place);
    }
    let equal = places.into_values().filter(|(ours, theirs)| ours.len() == theirs.len());
    equal.flat_map(|(ours, theirs)| ours.into_iter().zip(theirs)).collect()
}

/// Of the others, those that do the same, as many as can be in their order; and between these,
/// those of equal type.
fn in_order(
    first: &Graph<'_>,
    second: &Graph<'_>,
    matched: &[(usize, usize)],
) -> Vec<(usize, usize)> {
    let (known, other_known): (HashSet<usize>, HashSet<usize>) = matched.iter().copied().unzip();
    let rest = |graph: &Graph<'_>, known: &HashSet<usize>| -> Vec<usize> {
        (0..graph.nodes.len()).filter(|place| !known.contains(place)).collect()
    };
    let (ours, theirs) = (rest(first, &known), rest(second, &other_known));
    let keys = |graph: &Graph<'_>, places: &[usize]| -> Vec<u64> {
        places.iter().map(|place| graph.nodes[*place].key).collect()
    };
    let types = |graph: &Graph<'_>, places: &[usize]| -> Vec<u64> {
        let hash = |place: &usize| {
            let mut hasher = DefaultHasher::new();
            graph.nodes[*place].operation.r#type.hash(&mut hasher);
            hasher.finish()
        };
        places.iter().map(hash).collect()
    };
    let aligned = align(&keys(first, &ours), &keys(second, &theirs));
    let (our_types, their_types) = (types(first, &ours), types(second, &theirs));
    let mut pairs = Vec::new();
    let (mut from, mut other_from) = (0, 0);
    for (a, b) in aligned.iter().copied().chain([(ours.len(), theirs.len())]) {
        let between = align(&our_types[from..a], &their_types[other_from..b]);
        pairs.extend(between.into_iter().map(|(x, y)| (x + from, y + other_from)));
        (from, other_from) = (a + 1, b + 1);
    }
    pairs.extend(aligned);
    pairs.into_iter().map(|(a, b)| (ours[a], theirs[b])).collect()
}

/// Whether two operands come from operations that belong together.
fn comes_from(ours: &Operand<'_>, theirs: &Operand<'_>, partner: &HashMap<usize, usize>) -> bool {
    match (ours, theirs) {
        (Operand::Constant(a, _), Operand::Constant(b, _)) => a == b,
        (Operand::Weight(_, a), Operand::Weight(_, b)) => a == b,
        (Operand::Result(a, out), Operand::Result(b, other)) => {
            out == other && partner.get(a) == Some(b)
        }
        (Operand::Name(a), Operand::Name(b)) => a == b,
        _ => false,
    }
}

fn changes(
    one: &Node<'_>,
    other: &Node<'_>,
    first: &Graph<'_>,
    second: &Graph<'_>,
    partner: &HashMap<usize, usize>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |what: &str, first: Option<String>, second: Option<String>| {
        changes.push(Change { what: what.to_owned(), first, second });
    };
    let (makes, other_makes) = (made(one.operation), made(other.operation));
    if makes != other_makes {
        add("result", Some(makes.join(", ")), Some(other_makes.join(", ")));
    }
    let (ours, theirs): (HashMap<_, _>, HashMap<_, _>) =
        (settings(one.operation).collect(), settings(other.operation).collect());
    let mut names: Vec<&str> = ours.keys().chain(theirs.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (a, b) = (ours.get(name), theirs.get(name));
        if a != b {
            add(name, a.map(|value| literal(value)), b.map(|value| literal(value)));
        }
    }
    let find = |node: &Node<'_>, name: &str| {
        node.operands.iter().position(|(parameter, _)| *parameter == name)
    };
    let text = |list: &[Operand<'_>], graph: &Graph<'_>| {
        let all: Vec<String> = list.iter().map(|operand| operand_text(operand, graph)).collect();
        all.join(", ")
    };
    for (name, list) in &one.operands {
        let theirs = find(other, name).map(|place| &other.operands[place].1);
        let equal = theirs.is_some_and(|theirs| {
            list.len() == theirs.len()
                && list.iter().zip(theirs).all(|(a, b)| comes_from(a, b, partner))
        });
        if !equal {
            add(name, Some(text(list, first)), theirs.map(|list| text(list, second)));
        }
    }
    for (name, list) in &other.operands {
        if find(one, name).is_none() {
            add(name, None, Some(text(list, second)));
        }
    }
    let blocks = |node: &Node<'_>| -> Vec<Vec<u8>> {
        node.operation.blocks.iter().map(coreml_proto::write).collect()
    };
    if blocks(one) != blocks(other) {
        add("blocks", None, None);
    }
    changes
}

fn weight_pairs<'a>(
    (function, one): (&'a str, &Node<'a>),
    (other_function, other): (&'a str, &Node<'a>),
    pairs: &mut Vec<WeightPair<'a>>,
) {
    for (name, list) in &one.operands {
        let theirs = other.operands.iter().find(|(parameter, _)| parameter == name);
        for (a, b) in list.iter().zip(theirs.into_iter().flat_map(|(_, list)| list)) {
            // Large immediate values count as weights, too; the list of weights knows which.
            let weight = |operand: &Operand<'a>| match operand {
                Operand::Weight(name, _) => Some(*name),
                _ => None,
            };
            if let (Some(a), Some(b)) = (weight(a), weight(b)) {
                pairs.push(((function, a), (other_function, b)));
            }
        }
    }
}

fn operand_text(operand: &Operand<'_>, graph: &Graph<'_>) -> String {
    match operand {
        Operand::Constant(_, value) => literal(value),
        Operand::Weight(name, kind) => format!("weight {name} {kind}"),
        Operand::Name(name) => (*name).to_owned(),
        Operand::Result(node, output) => {
            let output = graph.nodes[*node].operation.outputs.get(*output);
            output.map(|output| output.name.clone()).unwrap_or_default()
        }
    }
}

/// A value in a few words.
fn literal(value: &mil::Value) -> String {
    const SHOWN: usize = 8;
    fn some<T: ToString>(values: &[T], shape: &[u64]) -> String {
        let mut words: Vec<String> = values.iter().take(SHOWN).map(T::to_string).collect();
        if values.len() > SHOWN {
            words.push(format!("… {} values", values.len()));
        }
        match (shape.is_empty(), words.pop()) {
            (true, Some(only)) if words.is_empty() => only,
            (_, last) => {
                words.extend(last);
                format!("[{}]", words.join(", "))
            }
        }
    }
    match Literal::from_value(value) {
        Ok(Literal::Tensor(tensor)) => {
            let text = match &tensor.elements {
                Elements::Bools(values) => some(values, &tensor.shape),
                Elements::Integers(values) => some(values, &tensor.shape),
                Elements::Floats(values) => some(values, &tensor.shape),
                Elements::Strings(values) => some(values, &tensor.shape),
            };
            format!("{} {text}", tensor.data_type)
        }
        Ok(_) => "a list".to_owned(),
        Err(_) => kind(value.r#type.as_ref()),
    }
}
