//! Factors of output channels, applied after the operation that a weight is multiplied in.
//!
//! A weight whose rows are stored divided by a factor each needs the products multiplied by it:
//! `conv` or `linear` with the stored weight, then a `mul` by a constant, then the bias. Every
//! system and every unit runs that, while factors inside of the weight
//! (`constexpr_blockwise_shift_scale` over tables) do not load everywhere.

use super::stored_argument::ConstexprArgument;
use anemll_codes as codes;
use anemll_mil::{DataType, Literal, Symbols, TensorType, ValueType, literal};
use anemll_mlpackage::WEIGHT_FILE_NAME;
use anemll_plugin_api::{Error, Result};
use coreml_proto::mil::argument::Binding;
use coreml_proto::mil::argument::binding::Binding as Bound;
use coreml_proto::{Model, mil, model};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The operations whose products can be scaled, with the axis of their output channels from the
/// left, or from the right where it is negative.
const MULTIPLYING: [(&str, isize); 2] = [("conv", 1), ("linear", -1)];

/// Why the products of the weight `id` cannot be scaled in these functions, if they cannot.
pub(crate) fn obstacle(functions: &[(&str, &Model)], id: &str) -> Option<String> {
    for (function, model) in functions {
        for block in blocks(model) {
            for operation in &block.operations {
                let reads = operation.inputs.iter().any(|(name, argument)| {
                    let scalable = name == "weight" && channels(operation).is_some();
                    !scalable && argument.arguments.iter().any(|one| name_of(one) == Some(id))
                });
                if reads {
                    let kind = &operation.r#type;
                    return Some(format!("`{kind}` in the function `{function}` reads it"));
                }
            }
            if block.outputs.iter().any(|output| output == id) {
                return Some(format!("it is an output of the function `{function}`"));
            }
        }
    }
    None
}

/// Puts the factors of weights, by the weight's name, after the operations that multiply them.
///
/// # Errors
/// [`codes::GRAPH_INVALID`] for operations without types.
pub(crate) fn insert(
    model: &mut Model,
    scales: &BTreeMap<String, &ConstexprArgument>,
) -> Result<()> {
    if scales.is_empty() {
        return Ok(());
    }
    for block in blocks_mut(model) {
        let mut names: HashSet<String> = block
            .operations
            .iter()
            .flat_map(|operation| &operation.outputs)
            .map(|output| output.name.clone())
            .collect();
        let mut fresh = |wanted: String| {
            let mut name = wanted;
            while !names.insert(name.clone()) {
                name.push('_');
            }
            name
        };
        let constants: HashMap<String, mil::Value> = block
            .operations
            .iter()
            .filter(|operation| operation.r#type == "const")
            .filter_map(|operation| {
                let value = operation.attributes.get("val")?.clone();
                Some((operation.outputs.first()?.name.clone(), value))
            })
            .collect();
        let mut replaced = HashSet::new();
        let mut operations = Vec::with_capacity(block.operations.len());
        for mut operation in std::mem::take(&mut block.operations) {
            let weight = operation.inputs.get("weight").and_then(one_name);
            let scale = weight.as_ref().and_then(|name| scales.get(name).copied());
            let (Some(weight), Some(scale), Some(axis)) = (weight, scale, channels(&operation))
            else {
                operations.push(operation);
                continue;
            };
            let made = operation.outputs.first_mut().ok_or_else(|| untyped(&weight))?;
            let kind = made.r#type.clone().ok_or_else(|| untyped(&weight))?;
            let rank = ValueType::from_proto(&kind, &Symbols::default())
                .ok()
                .and_then(|kind| kind.tensor().map(TensorType::rank))
                .ok_or_else(|| untyped(&weight))?;
            let output = std::mem::take(&mut made.name);
            let unscaled = fresh(format!("{output}_unscaled"));
            made.name.clone_from(&unscaled);
            call(&mut operation, &unscaled)?;
            let bias = operation.inputs.remove("bias").and_then(|bias| one_name(&bias));
            operations.push(operation);

            let place = rank
                .checked_add_signed(if axis < 0 { axis } else { axis - rank as isize })
                .ok_or_else(|| untyped(&weight))?;
            let wide = |size: u64| {
                let mut shape = vec![1; rank];
                shape[place] = size;
                TensorType::new(DataType::Float16, &shape)
            };
            let channel_count: u64 = scale.shape.iter().product();
            let factors = literal::blob_value(&wide(channel_count), WEIGHT_FILE_NAME, scale.offset);
            let name = fresh(format!("{weight}_scale"));
            operations.push(constant(&name, wide(channel_count), factors)?);
            let scaled = match bias {
                None => output.clone(),
                Some(_) => fresh(format!("{output}_scaled")),
            };
            operations.push(binary("mul", &unscaled, &name, &scaled, kind.clone())?);
            if let Some(bias) = bias {
                let value = constants.get(&bias).ok_or_else(|| untyped(&bias))?;
                let value = reshaped(value, &wide(channel_count)).map_err(invalid)?;
                let name = fresh(format!("{bias}_wide"));
                operations.push(constant(&name, wide(channel_count), value)?);
                operations.push(binary("add", &scaled, &name, &output, kind)?);
                replaced.insert(bias);
            }
        }
        // A bias that nothing else reads has gone where it is added.
        let read: HashSet<&str> = operations
            .iter()
            .flat_map(|operation| operation.inputs.values())
            .flat_map(|argument| argument.arguments.iter().filter_map(name_of))
            .collect();
        let unused: HashSet<String> =
            replaced.into_iter().filter(|name| !read.contains(name.as_str())).collect();
        operations.retain(|operation| {
            operation.outputs.first().is_none_or(|output| !unused.contains(&output.name))
        });
        block.operations = operations;
    }
    Ok(())
}

/// The axis of an operation's output channels, if its products can be scaled.
fn channels(operation: &mil::Operation) -> Option<isize> {
    MULTIPLYING.iter().find(|(kind, _)| *kind == operation.r#type).map(|(_, axis)| *axis)
}

fn blocks(model: &Model) -> impl Iterator<Item = &mil::Block> {
    let programs = model.r#type.iter().map(|model::Type::MlProgram(program)| program);
    programs
        .flat_map(|program| program.functions.values())
        .flat_map(|function| function.block_specializations.values())
}

fn blocks_mut(model: &mut Model) -> impl Iterator<Item = &mut mil::Block> {
    let programs = model.r#type.iter_mut().map(|model::Type::MlProgram(program)| program);
    programs
        .flat_map(|program| program.functions.values_mut())
        .flat_map(|function| function.block_specializations.values_mut())
}

fn name_of(binding: &Binding) -> Option<&str> {
    match &binding.binding {
        Some(Bound::Name(name)) => Some(name),
        _ => None,
    }
}

fn one_name(argument: &mil::Argument) -> Option<String> {
    match argument.arguments.as_slice() {
        [binding] => name_of(binding).map(str::to_owned),
        _ => None,
    }
}

/// An operation is called as its only value is.
fn call(operation: &mut mil::Operation, name: &str) -> Result<()> {
    let value = Literal::string(name).to_value().map_err(invalid)?;
    operation.attributes.insert("name".to_owned(), value);
    Ok(())
}

fn made(kind: &str, name: &str, r#type: mil::ValueType) -> Result<mil::Operation> {
    let outputs = vec![mil::NamedValueType { name: name.to_owned(), r#type: Some(r#type) }];
    let mut operation =
        mil::Operation { r#type: kind.to_owned(), outputs, ..mil::Operation::default() };
    call(&mut operation, name)?;
    Ok(operation)
}

fn constant(name: &str, kind: TensorType, value: mil::Value) -> Result<mil::Operation> {
    let mut operation = made("const", name, ValueType::from(kind).to_proto())?;
    operation.attributes.insert("val".to_owned(), value);
    Ok(operation)
}

fn binary(
    kind: &str,
    x: &str,
    y: &str,
    name: &str,
    r#type: mil::ValueType,
) -> Result<mil::Operation> {
    let mut operation = made(kind, name, r#type)?;
    for (parameter, value) in [("x", x), ("y", y)] {
        let binding = Binding { binding: Some(Bound::Name(value.to_owned())) };
        operation.inputs.insert(parameter.to_owned(), mil::Argument { arguments: vec![binding] });
    }
    Ok(operation)
}

/// A constant of the same elements in another shape.
fn reshaped(value: &mil::Value, kind: &TensorType) -> std::result::Result<mil::Value, String> {
    match &value.value {
        Some(mil::value::Value::BlobFileValue(blob)) => {
            Ok(literal::blob_value(kind, &blob.file_name, blob.offset))
        }
        _ => literal::value_from_bytes(kind, literal::tensor_bytes(value)?.1.into_owned()),
    }
}

fn untyped(name: &str) -> Error {
    invalid(format!("what multiplies `{name}` has no known type"))
}

fn invalid(reason: String) -> Error {
    Error::new(codes::GRAPH_INVALID, reason)
        .with_hint("this is a bug in the arch plugin; please report it to its author")
}
