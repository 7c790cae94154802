//! What a program must be, so that loaders do not crash on it: Apple's reads past the end of a blob
//! that is too short, and ends the process on most other mistakes.

use crate::attribute::Attribute;
use crate::encode::needed_version;
use crate::operations;
use crate::program::{Block, Function, Operation, Port, Program, frame};
use crate::types::{TensorType, Type};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Error {
    /// Function, operation.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

type Result = std::result::Result<(), Error>;

fn wrong(place: &str, message: impl Into<String>) -> Result {
    Err(Error { place: place.to_owned(), message: message.into() })
}

/// Checks a program.
///
/// # Errors
/// The first thing that is wrong: names given twice; inputs and outputs without names; states whose
/// order is not given back; operations that the dialect does not have, with other operands, types,
/// attributes or regions than it says; values used before they are made; constants of another size
/// than their type; blobs that are used as two sizes; layouts that do not fit.
pub fn verify(program: &Program) -> Result {
    let mut names = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for blob in &program.blobs {
        if !keys.insert(&blob.key) {
            return wrong("blobs", format!("two have the key {:?}", blob.key));
        }
    }
    if program.functions.is_empty() {
        return wrong("program", "there is no function");
    }
    for function in &program.functions {
        let place = format!("function `{}`", function.name);
        if !names.insert(&function.name) {
            return wrong(&place, "there are two of this name");
        }
        check_function(program, function, &place)?;
    }
    let needed = needed_version(&program.functions);
    if program.version < needed {
        let (has, place) = (program.version, "program");
        return wrong(place, format!("it says version {has}, but needs {needed}"));
    }
    Ok(())
}

fn check_function(program: &Program, function: &Function, place: &str) -> Result {
    for (what, ports) in [("input", &function.inputs), ("output", &function.outputs)] {
        let mut names = BTreeMap::new();
        for (number, port) in ports.iter().enumerate() {
            let Some(name) = &port.name else {
                if function.private || function.composite.is_some() {
                    continue;
                }
                return wrong(place, format!("{what} {number} has no name"));
            };
            if names.insert(name, number).is_some() {
                return wrong(place, format!("two {what}s have the name `{name}`"));
            }
            check_type(&port.kind, &format!("{place}, {what} `{name}`"))?;
        }
    }
    let kinds = |ports: &[Port]| ports.iter().map(|port| port.kind.clone()).collect::<Vec<_>>();
    if function.body.arguments != kinds(&function.inputs) {
        return wrong(place, "its block takes other values than it");
    }
    let states = function.inputs.iter().filter(|port| matches!(port.kind, Type::State(_))).count();
    let tokens = function.outputs.iter().filter(|port| port.kind == Type::Token).count();
    if states != tokens {
        return wrong(place, format!("it has {states} states, but {tokens} tokens are given back"));
    }
    check_block(program, &function.body, place)?;
    let last = function.body.operations.last();
    let Some(last) = last.filter(|operation| operation.name == frame::OUTPUT) else {
        return wrong(place, format!("it does not end in `{}`", frame::OUTPUT));
    };
    let types = function.body.types();
    let given = last.operands.iter().filter_map(|value| types.get(*value as usize));
    let given: Vec<Type> = given.map(|kind| (*kind).clone()).collect();
    match given == kinds(&function.outputs) {
        true => Ok(()),
        false => wrong(place, "what its last operation gives has other types than its outputs"),
    }
}

fn check_block(program: &Program, block: &Block, place: &str) -> Result {
    let mut types: Vec<&Type> = block.arguments.iter().collect();
    for (number, operation) in block.operations.iter().enumerate() {
        let place = format!("{place}, operation {number} ({})", operation.name);
        check_operation(program, operation, &types, &place)?;
        types.extend(&operation.results);
    }
    Ok(())
}

fn check_operation(
    program: &Program,
    operation: &Operation,
    types: &[&Type],
    place: &str,
) -> Result {
    let Some(definition) = operations::find(&operation.name) else {
        return wrong(place, "the dialect has no such operation");
    };
    let (least, most) = definition.operand_count();
    let count = operation.operands.len();
    if count < least || most.is_some_and(|most| count > most) {
        return wrong(place, format!("it takes {count} values, but the dialect says {least}"));
    }
    if operation.properties.len() != definition.properties.len()
        || operation.regions.len() != definition.regions
    {
        return wrong(place, "its attributes or regions are not those of the dialect");
    }
    let mut taken = Vec::with_capacity(count);
    for value in &operation.operands {
        match types.get(*value as usize) {
            Some(kind) => taken.push(*kind),
            None => return wrong(place, format!("value {value} is used before it is made")),
        }
    }
    for kind in &operation.results {
        check_type(kind, place)?;
    }
    for region in &operation.regions {
        let ends = region.operations.last().map(|last| last.name.as_str());
        let ends = ends.is_some_and(|name| {
            name.starts_with("dataflow.yield") || name.starts_with("controlflow.condition")
        });
        if !ends {
            return wrong(place, "a region of it gives nothing");
        }
        if definition.has_body() && region.arguments.iter().ne(taken.iter().copied()) {
            return wrong(place, "its body takes other values than it");
        }
        check_block(program, region, place)?;
    }
    check_types(program, operation, &taken, place)
}

/// Types of some operations in which loaders trust files.
fn check_types(program: &Program, operation: &Operation, taken: &[&Type], place: &str) -> Result {
    let tensors: Vec<&TensorType> = taken.iter().filter_map(|kind| kind.tensor()).collect();
    match (operation.name.as_str(), tensors.as_slice(), operation.results.as_slice()) {
        (frame::CONSTANT, _, [kind]) => check_constant(program, operation, kind, place),
        ("primitive.lut_to_dense_v1", [indices, table, axis], _) => {
            let rank = indices.shape.len();
            let entries = 1_i64 << indices.element.bits().min(16);
            let fits = table.shape.len() == rank + 2
                && table.shape[rank] == entries
                && indices.shape.iter().zip(&table.shape).all(|(a, b)| *b > 0 && a % b == 0)
                && axis.element == crate::ElementType::Int16;
            match fits {
                true => Ok(()),
                false => wrong(place, format!("table {table} does not fit indices {indices}")),
            }
        }
        ("primitive.blockwise_shift_scale_v2", [data, scale, first, second], _) => {
            let fits = scale.shape.len() == data.shape.len()
                && data.shape.iter().zip(&scale.shape).all(|(a, b)| *b > 0 && a % b == 0)
                && first.shape == scale.shape
                && second.shape == scale.shape
                && first.element == data.element;
            match fits {
                true => Ok(()),
                false => wrong(place, format!("scales {scale} do not fit data {data}")),
            }
        }
        (name, [x, y], [Type::Tensor(result)])
            if name.starts_with("primitive.")
                && ["add", "sub", "mul", "divide", "maximum", "minimum", "pow"]
                    .iter()
                    .any(|known| name[10..].strip_suffix("_v1") == Some(known)) =>
        {
            match x == y && x.shape == result.shape {
                true => Ok(()),
                false => wrong(place, format!("{x} and {y} do not give {result}")),
            }
        }
        ("primitive.reshape_v2", [x, _], [Type::Tensor(result)])
            if x.element_count().is_some() && result.element_count().is_some() =>
        {
            match x.element_count() == result.element_count() && x.element == result.element {
                true => Ok(()),
                false => wrong(place, format!("{x} cannot become {result}")),
            }
        }
        _ => Ok(()),
    }
}

fn check_constant(program: &Program, operation: &Operation, kind: &Type, place: &str) -> Result {
    let Type::Tensor(tensor) = kind else {
        return wrong(place, format!("a constant is {kind}, no tensor"));
    };
    let Some(expected) = tensor.byte_size() else {
        return wrong(place, format!("a constant is {tensor}, whose size is not known"));
    };
    let found = match operation.properties.first() {
        Some(Some(Attribute::Dense { splat: false, bytes })) => bytes.len() as u64,
        Some(Some(Attribute::Dense { splat: true, bytes })) => {
            return match bytes.len() as u64 == tensor.element.bits().div_ceil(8) {
                true => Ok(()),
                false => wrong(place, format!("{} bytes are no element", bytes.len())),
            };
        }
        Some(Some(Attribute::Blob(index))) => match program.blobs.get(*index as usize) {
            Some(blob) => blob.length,
            None => return wrong(place, format!("there is no blob {index}")),
        },
        _ => return wrong(place, "a constant has no value"),
    };
    match found == expected {
        true => Ok(()),
        false => wrong(place, format!("{tensor} takes {expected} bytes, but has {found}")),
    }
}

fn check_type(kind: &Type, place: &str) -> Result {
    let (Type::Tensor(tensor) | Type::State(tensor)) = kind else { return Ok(()) };
    if let Some(size) = tensor.shape.iter().find(|s| **s < 0 && **s != crate::DYNAMIC) {
        return wrong(place, format!("a size is {size}"));
    }
    let known = tensor.shape.iter().all(|size| *size != crate::DYNAMIC);
    if known && tensor.byte_size().is_none() {
        return wrong(place, format!("{tensor} has more bytes than can be counted"));
    }
    let Some(layout) = &tensor.layout else { return Ok(()) };
    let rank = tensor.shape.len();
    let fits = layout.alignments.len() == rank + 1
        && layout.interleave.len() == rank
        && layout.alignments.iter().all(|alignment| *alignment > 0)
        && layout
            .interleave
            .iter()
            .zip(&tensor.shape)
            .all(|(factor, size)| *factor > 0 && (*size == crate::DYNAMIC || factor <= size));
    match fits {
        true => Ok(()),
        false => wrong(place, format!("the layout of {tensor} does not fit its axes")),
    }
}
