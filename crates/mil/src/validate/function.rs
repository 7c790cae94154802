//! One function: names, order, every operation's arguments and types, states.

use super::{Weights, weights};
use crate::dtype::DataType;
use crate::error::{Error, Result};
use crate::identifier;
use crate::model::value_type;
use crate::ops::{self, Arguments, OpDefinition, Operand, Opset, Origin, Placement};
use crate::types::{Dimension, Symbols, TensorType, ValueType};
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a function takes, gives and keeps, as the program says it.
pub(super) struct Signature {
    pub(super) inputs: BTreeMap<String, TensorType>,
    pub(super) outputs: Vec<(String, TensorType)>,
    pub(super) states: BTreeMap<String, TensorType>,
}

struct Entry<'a> {
    kind: ValueType,
    origin: Origin,
    value: Option<&'a mil::Value>,
}

type Values<'a> = HashMap<&'a str, Entry<'a>>;

/// Checks a function and every block of it.
pub(super) fn check(
    function: &mil::Function,
    specification_version: i32,
    weights: &Weights<'_>,
) -> Result<Signature> {
    let opset = Opset::from_name(&function.opset)
        .ok_or_else(|| Error::new(format!("{:?} is not a known opset", function.opset)))?;
    if opset.specification_version() > specification_version {
        return Err(Error::new(format!(
            "opset {} needs specification version {}, the model has {specification_version}",
            opset.name(),
            opset.specification_version()
        )));
    }
    for (name, value) in &function.attributes {
        crate::literal::check_value(value)
            .map_err(|error| Error::new(format!("function attribute `{name}`: {error}")))?;
    }
    let mut signature = None;
    for (name, block) in &function.block_specializations {
        let block_opset = Opset::from_name(name)
            .ok_or_else(|| Error::new(format!("a block is for the unknown opset {name:?}")))?;
        let checked = check_block(function, block, block_opset, weights)?;
        if block_opset == opset {
            signature = Some(checked);
        }
    }
    signature.ok_or_else(|| Error::new(format!("there is no block for opset {}", opset.name())))
}

fn check_block(
    function: &mil::Function,
    block: &mil::Block,
    opset: Opset,
    weights: &Weights<'_>,
) -> Result<Signature> {
    if !block.inputs.is_empty() {
        return Err(Error::new("the block has inputs of its own"));
    }
    if !block.attributes.is_empty() {
        return Err(Error::new("the block has attributes, which have no meaning"));
    }
    let symbols = Symbols::default();
    let mut values: Values<'_> = HashMap::new();
    let (inputs, states) = declare_inputs(function, opset, &symbols, &mut values)?;
    let mut written: HashMap<&str, &str> = HashMap::new();
    for operation in &block.operations {
        check_operation(operation, opset, weights, &symbols, &mut values).map_err(|error| {
            let name = operation.outputs.first().map_or("", |output| &output.name);
            let name = if name.is_empty() { given_name(operation) } else { name.to_owned() };
            error.at_operation(&name, &operation.r#type)
        })?;
        if operation.r#type == "write_state"
            && let (Some(state), Some(data)) =
                (name_of(operation, "input"), name_of(operation, "data"))
        {
            written.insert(data, state);
        }
    }
    if block.outputs.is_empty() {
        return Err(Error::new("the function returns nothing"));
    }
    let mut outputs: Vec<(String, TensorType)> = Vec::new();
    let mut seen = HashSet::new();
    for name in &block.outputs {
        let entry = values
            .get(name.as_str())
            .ok_or_else(|| Error::new(format!("the output `{name}` is not defined")))?;
        let ValueType::Tensor(tensor) = &entry.kind else {
            return Err(Error::new(format!("the output `{name}` is {}, no tensor", entry.kind)));
        };
        if !seen.insert(name) {
            return Err(Error::new(format!("the output `{name}` is returned twice")));
        }
        if let Some(state) = written.get(name.as_str()) {
            return Err(Error::new(format!(
                "the output `{name}` is the very tensor that is written to state `{state}`; \
                 return a copy"
            )));
        }
        outputs.push((name.clone(), tensor.clone()));
    }
    Ok(Signature { inputs, outputs, states })
}

type Declared = (BTreeMap<String, TensorType>, BTreeMap<String, TensorType>);

fn declare_inputs<'a>(
    function: &'a mil::Function,
    opset: Opset,
    symbols: &Symbols,
    values: &mut Values<'a>,
) -> Result<Declared> {
    let (mut inputs, mut states) = (BTreeMap::new(), BTreeMap::new());
    for input in &function.inputs {
        let name = input.name.as_str();
        check_name(name)?;
        let kind = value_type(input, symbols)?;
        match &kind {
            ValueType::Tensor(tensor) => {
                inputs.insert(name.to_owned(), tensor.clone());
            }
            ValueType::State(tensor) => {
                if opset < Opset::CoreML8 {
                    return Err(Error::new(format!("state `{name}` needs opset CoreML8")));
                }
                if tensor.data_type != DataType::Float16 {
                    return Err(Error::new(format!("state `{name}` is {tensor}, not fp16")));
                }
                if tensor.rank() == 0 || tensor.byte_size().is_none() {
                    return Err(Error::new(format!(
                        "state `{name}` is {tensor}, but needs a known shape of rank 1 or more"
                    )));
                }
                states.insert(name.to_owned(), tensor.clone());
            }
            other => return Err(Error::new(format!("the input `{name}` is {other}"))),
        }
        let entry = Entry { kind, origin: Origin::Runtime, value: None };
        if values.insert(name, entry).is_some() {
            return Err(Error::new(format!("two inputs are named `{name}`")));
        }
    }
    Ok((inputs, states))
}

fn check_name(name: &str) -> Result<()> {
    if identifier::is_legal(name) {
        Ok(())
    } else {
        Err(Error::new(format!("{name:?} is not a legal name for a value")))
    }
}

/// The `name` attribute, for operations without outputs.
fn given_name(operation: &mil::Operation) -> String {
    let literal = operation.attributes.get("name").map(crate::Literal::from_value);
    match literal {
        Some(Ok(literal)) => literal.text().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// The value that a parameter is bound to by name.
fn name_of<'a>(operation: &'a mil::Operation, parameter: &str) -> Option<&'a str> {
    match operation.inputs.get(parameter)?.arguments.as_slice() {
        [mil::argument::Binding { binding: Some(Binding::Name(name)) }] => Some(name),
        _ => None,
    }
}

fn check_operation<'a>(
    operation: &'a mil::Operation,
    opset: Opset,
    weights: &Weights<'_>,
    symbols: &Symbols,
    values: &mut Values<'a>,
) -> Result<()> {
    let definition = ops::find(&operation.r#type, opset)?;
    if !operation.blocks.is_empty() {
        return Err(Error::new("it has nested blocks, which this operation does not take"));
    }
    // Types of the values that stand in the operation itself have to outlive the arguments.
    let held = held_types(operation, weights)?;
    let inferred = {
        let arguments = arguments(operation, definition, symbols, values, &held)?;
        ops::infer(definition, &arguments, opset)?
    };
    if inferred.len() != operation.outputs.len() {
        return Err(Error::new(format!(
            "it gives {} values, but {} are declared",
            inferred.len(),
            operation.outputs.len()
        )));
    }
    let flexible = operation_is_flexible(operation, values);
    let origin = match operation.r#type.as_str() {
        "const" => Origin::Constant,
        _ if definition.is_constexpr() => Origin::Constexpr,
        _ => Origin::Runtime,
    };
    for (output, inferred) in operation.outputs.iter().zip(inferred) {
        check_name(&output.name)?;
        let declared = value_type(output, symbols)?;
        let kind = agree(&declared, &inferred, flexible).ok_or_else(|| {
            Error::new(format!("`{}` is declared {declared}, but is {inferred}", output.name))
        })?;
        let value = match origin {
            Origin::Constant => operation.attributes.get("val"),
            _ => None,
        };
        if values.insert(&output.name, Entry { kind, origin, value }).is_some() {
            return Err(Error::new(format!("two values are named `{}`", output.name)));
        }
    }
    Ok(())
}

/// Checks every value that stands in the operation, and gives the types, by the value's place.
fn held_types(
    operation: &mil::Operation,
    weights: &Weights<'_>,
) -> Result<HashMap<*const mil::Value, ValueType>> {
    let mut held = HashMap::new();
    for (name, value) in crate::references::values(operation) {
        weights::check(value, weights)
            .map_err(|error| Error::new(format!("parameter `{name}`: {error}")))?;
        let kind = value.r#type.as_ref().ok_or_else(|| "its type is not given".to_owned());
        let kind = kind
            .and_then(|kind| ValueType::from_proto(kind, &Symbols::default()))
            .map_err(|error| Error::new(format!("parameter `{name}`: {error}")))?;
        held.insert(std::ptr::from_ref(value), kind);
    }
    Ok(held)
}

fn arguments<'a>(
    operation: &'a mil::Operation,
    definition: &OpDefinition,
    symbols: &'a Symbols,
    values: &'a Values<'_>,
    held: &'a HashMap<*const mil::Value, ValueType>,
) -> Result<Arguments<'a>> {
    let mut arguments = Arguments::new(symbols);
    let immediate = |value: &'a mil::Value| -> Result<Operand<'a>> {
        let kind = held
            .get(&std::ptr::from_ref(value))
            .ok_or_else(|| Error::new("a value has no type"))?;
        let label = "the value".to_owned();
        Ok(Operand { label, kind, origin: Origin::Constant, value: Some(value) })
    };
    for (name, argument) in &operation.inputs {
        if definition.placement == Placement::Attributes {
            return Err(Error::new(format!(
                "`{name}` stands among the inputs, not the attributes"
            )));
        }
        let mut operands = Vec::with_capacity(argument.arguments.len());
        for binding in &argument.arguments {
            operands.push(match &binding.binding {
                Some(Binding::Value(value)) => immediate(value)?,
                Some(Binding::Name(source)) => {
                    let entry = values.get(source.as_str()).ok_or_else(|| {
                        Error::new(format!(
                            "parameter `{name}` uses `{source}`, which is not defined before it"
                        ))
                    })?;
                    if definition.placement == Placement::ConstantInputs
                        && entry.origin != Origin::Constexpr
                    {
                        return Err(Error::new(format!(
                            "parameter `{name}` must be a value or another constexpr, not `{source}`"
                        )));
                    }
                    Operand {
                        label: format!("`{source}`"),
                        kind: &entry.kind,
                        origin: entry.origin,
                        value: entry.value,
                    }
                }
                None => return Err(Error::new(format!("parameter `{name}` is bound to nothing"))),
            });
        }
        arguments.bind(name, operands);
    }
    for (name, value) in operation.attributes.iter().filter(|(name, _)| *name != "name") {
        if definition.placement != Placement::Attributes {
            return Err(Error::new(format!("there is no attribute `{name}`")));
        }
        arguments.bind(name, vec![immediate(value)?]);
    }
    Ok(arguments)
}

/// Whether an operand has an unknown size, so that a declared type may be less exact.
fn operation_is_flexible(operation: &mil::Operation, values: &Values<'_>) -> bool {
    let bindings = operation.inputs.values().flat_map(|argument| &argument.arguments);
    bindings
        .filter_map(|binding| match &binding.binding {
            Some(Binding::Name(name)) => values.get(name.as_str())?.kind.tensor(),
            _ => None,
        })
        .any(|tensor| tensor.fixed_shape().is_none())
}

/// The type of a value that is declared one way and inferred another, if they agree: equal, and
/// where one is unknown the other counts. A known size may be declared unknown only where an
/// operand's size is.
fn agree(declared: &ValueType, inferred: &ValueType, flexible: bool) -> Option<ValueType> {
    let (ValueType::Tensor(left), ValueType::Tensor(right)) = (declared, inferred) else {
        return (declared == inferred).then(|| inferred.clone());
    };
    if left.data_type != right.data_type || left.rank() != right.rank() {
        return None;
    }
    let shape = left
        .shape
        .iter()
        .zip(&right.shape)
        .map(|(declared, inferred)| match (declared, inferred) {
            (Dimension::Fixed(_), Dimension::Fixed(_)) if declared != inferred => None,
            (Dimension::Symbol(_), Dimension::Fixed(_)) if !flexible => None,
            (Dimension::Fixed(_), Dimension::Symbol(_)) => Some(*declared),
            _ => Some(*inferred),
        })
        .collect::<Option<Vec<_>>>()?;
    Some(TensorType::with_shape(left.data_type, shape).into())
}
