//! The values of a model that stand in weight files, or are still references to weights.

use crate::model;
use coreml_proto::mil::argument::binding::Binding;
use coreml_proto::mil::value::{BlobFileValue, Value as Storage};
use coreml_proto::{Model, mil};

/// File names that begin so are references to weights of the source model, in JSON.
pub const WEIGHT_REFERENCE_PREFIX: &str = "anemll-weight:";

/// A value that stands in a weight file, and where the program uses it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlobReference<'a> {
    /// Function of the operation.
    pub function: &'a str,
    /// The operation that holds the value: a `const`, a constexpr, seldom another.
    pub operation: &'a mil::Operation,
    /// Parameter or attribute that holds it.
    pub parameter: &'a str,
    /// The value with its type.
    pub value: &'a mil::Value,
    /// File name, or weight reference.
    pub file_name: &'a str,
    /// Offset of the record's metadata; 0 in a weight reference.
    pub offset: u64,
}

/// The reference of a value that stands in a weight file.
pub fn blob_of(value: &mil::Value) -> Option<&BlobFileValue> {
    match &value.value {
        Some(Storage::BlobFileValue(blob)) => Some(blob),
        _ => None,
    }
}

/// Every value that stands in a weight file: functions by name, operations in order, parameters by
/// name. Empty for a model without a program.
pub fn blob_references(model: &Model) -> impl Iterator<Item = BlobReference<'_>> {
    let functions = model::program(model).into_iter().flat_map(|program| &program.functions);
    functions
        .flat_map(|(name, function)| {
            let operations =
                function.block_specializations.values().flat_map(|block| &block.operations);
            operations.map(move |operation| (name.as_str(), operation))
        })
        .flat_map(|(function, operation)| {
            values(operation).filter_map(move |(parameter, value)| {
                let blob = blob_of(value)?;
                let (file_name, offset) = (blob.file_name.as_str(), blob.offset);
                Some(BlobReference { function, operation, parameter, value, file_name, offset })
            })
        })
}

/// The same values, to be rewritten.
pub fn blob_references_mut(model: &mut Model) -> Vec<&mut mil::Value> {
    let Ok(program) = model::program_mut(model) else { return Vec::new() };
    let operations = program
        .functions
        .values_mut()
        .flat_map(|function| function.block_specializations.values_mut())
        .flat_map(|block| &mut block.operations);
    operations
        .flat_map(|operation| {
            let inputs = operation
                .inputs
                .values_mut()
                .flat_map(|argument| &mut argument.arguments)
                .filter_map(|binding| match &mut binding.binding {
                    Some(Binding::Value(value)) => Some(value),
                    _ => None,
                });
            inputs.chain(operation.attributes.values_mut())
        })
        .filter(|value| blob_of(value).is_some())
        .collect()
}

/// Values that stand in an operation itself, inputs before attributes, each by name.
pub fn values(operation: &mil::Operation) -> impl Iterator<Item = (&str, &mil::Value)> {
    let inputs = operation.inputs.iter().flat_map(|(name, argument)| {
        argument.arguments.iter().filter_map(move |binding| match &binding.binding {
            Some(Binding::Value(value)) => Some((name.as_str(), value)),
            _ => None,
        })
    });
    inputs.chain(operation.attributes.iter().map(|(name, value)| (name.as_str(), value)))
}
