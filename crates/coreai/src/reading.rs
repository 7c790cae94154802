//! Reading an operation: what is bound to its parameters, and the types of what it gives.

use crate::failure::Failure;
use anemll_aicode::{ElementType, TensorType as CoreTensor};
use anemll_mil::literal::Literal;
use anemll_mil::ops::{self, Arguments, Operand, Opset, Origin};
use anemll_mil::types::{Symbols, ValueType};
use anemll_mil::{DataType, TensorType};
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use std::collections::HashMap;

/// A value of the program that is lowered.
pub(crate) struct Entry<'a> {
    /// Its type, all sizes known.
    pub(crate) kind: ValueType,
    /// What is known of it before the program runs.
    pub(crate) known: Known<'a>,
}

/// What is known of a value.
#[derive(Clone, Copy)]
pub(crate) enum Known<'a> {
    /// It is computed.
    Computed(anemll_aicode::Value),
    /// It is stored.
    Constant(&'a mil::Value),
    /// It is made of what is stored.
    Constexpr(&'a mil::Operation),
    /// A state.
    State,
}

pub(crate) type Entries<'a> = HashMap<&'a str, Entry<'a>>;

/// What is bound to a parameter.
#[derive(Clone, Copy)]
pub(crate) enum Bound<'a> {
    Name(&'a str),
    Value(&'a mil::Value),
}

/// All that is bound to a parameter.
pub(crate) fn bound<'a>(operation: &'a mil::Operation, parameter: &str) -> Vec<Bound<'a>> {
    let bindings = operation.inputs.get(parameter).map_or(&[][..], |list| &list.arguments);
    let bound = |binding: &'a mil::argument::Binding| match binding.binding.as_ref()? {
        Binding::Name(name) => Some(Bound::Name(name)),
        Binding::Value(value) => Some(Bound::Value(value)),
    };
    bindings.iter().filter_map(bound).collect()
}

/// The stored value of a parameter, if it has one.
pub(crate) fn stored<'a>(
    entries: &Entries<'a>,
    operation: &'a mil::Operation,
    parameter: &str,
) -> Option<&'a mil::Value> {
    match *bound(operation, parameter).first()? {
        Bound::Value(value) => Some(value),
        Bound::Name(name) => match entries.get(name)?.known {
            Known::Constant(value) => Some(value),
            _ => None,
        },
    }
}

/// The decoded value of a parameter; `None` where it is not given.
pub(crate) fn literal(
    entries: &Entries<'_>,
    operation: &mil::Operation,
    parameter: &str,
) -> Result<Option<Literal>, String> {
    if bound(operation, parameter).is_empty() {
        return Ok(None);
    }
    let value = stored(entries, operation, parameter)
        .ok_or_else(|| format!("`{parameter}` must be known before the program runs"))?;
    Literal::from_value(value).map(Some).map_err(|error| format!("`{parameter}`: {error}"))
}

/// Type of an argument, its value where it is known, and when it is.
type Argument<'a> = (ValueType, Option<&'a mil::Value>, Origin);

/// Types of what an operation gives, inferred from what it takes here.
pub(crate) fn infer(
    entries: &Entries<'_>,
    operation: &mil::Operation,
    opset: Opset,
) -> Result<Vec<TensorType>, Failure> {
    let symbols = Symbols::default();
    let definition = ops::find(&operation.r#type, opset)?;
    let mut inline: Vec<(&str, Vec<Argument<'_>>)> = Vec::new();
    for name in operation.inputs.keys() {
        let mut operands = Vec::new();
        for bound in bound(operation, name) {
            operands.push(match bound {
                Bound::Value(value) => {
                    let kind = anemll_mil::literal::tensor_type(value)?;
                    (kind.into(), Some(value), Origin::Constant)
                }
                Bound::Name(name) => {
                    let entry = entries.get(name);
                    let entry = entry.ok_or_else(|| format!("`{name}` is not defined"))?;
                    let (value, origin) = match entry.known {
                        Known::Constant(value) => (Some(value), Origin::Constant),
                        Known::Constexpr(_) => (None, Origin::Constexpr),
                        Known::Computed(_) | Known::State => (None, Origin::Runtime),
                    };
                    (entry.kind.clone(), value, origin)
                }
            });
        }
        inline.push((name, operands));
    }
    let mut arguments = Arguments::new(&symbols);
    for (name, operands) in &inline {
        let operands = operands.iter().map(|(kind, value, origin)| Operand {
            label: "the value".to_owned(),
            kind,
            origin: *origin,
            value: *value,
        });
        arguments.bind(name, operands.collect());
    }
    let inferred = ops::infer(definition, &arguments, opset)?;
    let mut kinds = Vec::new();
    for (kind, output) in inferred.into_iter().zip(&operation.outputs) {
        let ValueType::Tensor(tensor) = kind else {
            return Err(format!("it gives {kind}, no tensor").into());
        };
        kinds.push(sized(tensor, output)?);
    }
    Ok(kinds)
}

/// Sizes that depend on values are those that the program declares.
fn sized(mut tensor: TensorType, output: &mil::NamedValueType) -> Result<TensorType, String> {
    if tensor.fixed_shape().is_some() {
        return Ok(tensor);
    }
    let declared =
        output.r#type.as_ref().map(|kind| ValueType::from_proto(kind, &Symbols::default()));
    if let Some(Ok(ValueType::Tensor(declared))) = declared {
        for (size, known) in tensor.shape.iter_mut().zip(declared.shape) {
            if size.fixed().is_none() {
                *size = known;
            }
        }
    }
    match tensor.fixed_shape() {
        Some(_) => Ok(tensor),
        None => Err(format!("it gives {tensor}, but sizes must be known before the program runs")),
    }
}

/// The element type of Core AI.
pub(crate) fn element(data_type: DataType) -> Result<ElementType, String> {
    Ok(match data_type {
        DataType::Bool => ElementType::Bool,
        DataType::Float16 => ElementType::Float16,
        DataType::Float32 => ElementType::Float32,
        DataType::Float64 => ElementType::Float64,
        DataType::BFloat16 => ElementType::BFloat16,
        DataType::Int8 => ElementType::Int8,
        DataType::Int16 => ElementType::Int16,
        DataType::Int32 => ElementType::Int32,
        DataType::Int64 => ElementType::Int64,
        DataType::Int4 => ElementType::Int4,
        DataType::UInt8 => ElementType::UInt8,
        DataType::UInt16 => ElementType::UInt16,
        DataType::UInt32 => ElementType::UInt32,
        DataType::UInt64 => ElementType::UInt64,
        DataType::UInt4 => ElementType::UInt4,
        DataType::UInt2 => ElementType::UInt2,
        DataType::UInt1 => ElementType::UInt1,
        DataType::UInt6 => ElementType::UInt6,
        DataType::UInt3 => ElementType::UInt3,
        DataType::Float8E4M3FN => ElementType::Float8E4M3FN,
        DataType::Float8E5M2 => ElementType::Float8E5M2,
        DataType::String => return Err("Core AI has no tensors of text".to_owned()),
    })
}

/// The tensor type of Core AI.
pub(crate) fn tensor(kind: &TensorType) -> Result<CoreTensor, String> {
    let shape = kind.fixed_shape().ok_or_else(|| format!("{kind} has sizes that are not known"))?;
    let shape: Result<Vec<i64>, _> = shape.into_iter().map(i64::try_from).collect();
    let shape = shape.map_err(|_| format!("{kind} is too large"))?;
    Ok(CoreTensor::new(element(kind.data_type)?, &shape))
}
