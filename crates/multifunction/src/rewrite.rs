//! The functions that are joined, each as a model of its own, and changes to their operations.

use crate::lut::{OPERANDS, Palettized};
use crate::store::RecordId;
use anemll_mil::{blob_references_mut, model};
use coreml_proto::mil::value::Value as Storage;
use coreml_proto::{Model, mil};
use std::path::PathBuf;

/// A function on its way into another model.
#[derive(Debug)]
pub(crate) struct Member {
    /// Name in the joined model.
    pub(crate) name: String,
    /// Package that it comes from.
    pub(crate) path: PathBuf,
    /// A model with the function as `main`; weights are numbers of records.
    pub(crate) model: Model,
}

/// Place of an operation in the function of a [`Member`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) member: usize,
    pub(crate) block: String,
    pub(crate) operation: usize,
}

/// Every operation of a member with its place.
pub(crate) fn operations(
    members: &[Member],
    member: usize,
) -> impl Iterator<Item = (Place, &mil::Operation)> {
    let functions = members
        .get(member)
        .and_then(|member| model::program(&member.model).ok())
        .into_iter()
        .flat_map(|program| program.functions.values());
    functions.flat_map(|function| &function.block_specializations).flat_map(
        move |(block, content)| {
            content.operations.iter().enumerate().map(move |(operation, found)| {
                (Place { member, block: block.clone(), operation }, found)
            })
        },
    )
}

/// The palettized weights of a member.
pub(crate) fn palettized(
    members: &[Member],
    member: usize,
) -> impl Iterator<Item = (Place, &mil::Operation, Palettized)> {
    operations(members, member).filter_map(|(place, operation)| {
        Palettized::read(operation).map(|weight| (place, operation, weight))
    })
}

fn operation<'a>(members: &'a [Member], place: &Place) -> Option<&'a mil::Operation> {
    let program = model::program(&members.get(place.member)?.model).ok()?;
    let function = program.functions.values().next()?;
    function.block_specializations.get(&place.block)?.operations.get(place.operation)
}

/// Name of an operation's first result.
pub(crate) fn result_name(operation: &mil::Operation) -> &str {
    operation.outputs.first().map_or("", |output| &output.name)
}

/// Gives the palettized weight at `target` the indices and palettes of the one at `anchor`.
pub(crate) fn replace(members: &mut [Member], target: &Place, anchor: &Place) {
    let Some(anchor) = operation(members, anchor) else { return };
    let arguments: Vec<_> = OPERANDS.map(|name| (name, anchor.inputs.get(name).cloned())).into();
    let values: Vec<_> = OPERANDS.map(|name| (name, anchor.attributes.get(name).cloned())).into();
    let found = members
        .get_mut(target.member)
        .and_then(|member| model::program_mut(&mut member.model).ok())
        .and_then(|program| program.functions.values_mut().next())
        .and_then(|function| function.block_specializations.get_mut(&target.block))
        .and_then(|block| block.operations.get_mut(target.operation));
    let Some(found) = found else { return };
    for (name, argument) in arguments {
        if let Some(argument) = argument {
            found.inputs.insert(name.to_owned(), argument);
        }
    }
    for (name, value) in values {
        if let Some(value) = value {
            found.attributes.insert(name.to_owned(), value);
        }
    }
}

/// Replaces the number of every weight of a model.
pub(crate) fn renumber(model: &mut Model, mut number: impl FnMut(RecordId) -> u64) {
    for value in blob_references_mut(model) {
        if let Some(Storage::BlobFileValue(blob)) = &mut value.value {
            blob.offset = number(usize::try_from(blob.offset).unwrap_or_default());
        }
    }
}
