//! The table of operations: parameters, and type and shape inference.
//!
//! One file per family; each ends in its own list, and [`ALL`] is the list of lists. Adding an
//! operation means one function and one entry in a family's file. Facts about parameters and types
//! are those of the published MIL operation set. What lint, reports and the runtime ask beside types
//! stands with the operation, too ([`Facts`]).

mod activation;
mod arguments;
mod attention;
mod binary;
mod cast;
mod constexpr;
mod convolution;
mod facts;
mod gather;
mod linear;
mod normalization;
mod recurrent;
mod reduction;
mod reshape;
mod slice;
mod state;
mod tensor;
mod unary;

pub use arguments::{Arguments, Operand, Origin};
pub use facts::{Facts, Movement, facts, is_constant, is_constexpr};

use crate::dtype::DataType;
use crate::types::ValueType;

/// Operation set of a function, by the name that stands in the protobuf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Opset {
    /// iOS 15, specification version 6.
    CoreML5,
    /// iOS 16, specification version 7.
    CoreML6,
    /// iOS 17, specification version 8.
    CoreML7,
    /// iOS 18, specification version 9.
    CoreML8,
    /// iOS 26, specification version 10.
    CoreML9,
}

impl Opset {
    /// Every operation set, oldest first.
    pub const ALL: &'static [Self] =
        &[Self::CoreML5, Self::CoreML6, Self::CoreML7, Self::CoreML8, Self::CoreML9];

    /// Name in the protobuf, such as `CoreML8`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CoreML5 => "CoreML5",
            Self::CoreML6 => "CoreML6",
            Self::CoreML7 => "CoreML7",
            Self::CoreML8 => "CoreML8",
            Self::CoreML9 => "CoreML9",
        }
    }

    /// The operation set of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|opset| opset.name() == name)
    }

    /// Lowest specification version of a model that may use it.
    pub const fn specification_version(self) -> i32 {
        match self {
            Self::CoreML5 => 6,
            Self::CoreML6 => 7,
            Self::CoreML7 => 8,
            Self::CoreML8 => 9,
            Self::CoreML9 => 10,
        }
    }
}

/// What may be bound to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// One tensor of one of these types; any type if the list is empty.
    Tensor(&'static [DataType]),
    /// One or more tensors of one type.
    Tensors,
    /// A state.
    State,
}

/// One parameter of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Name of the argument.
    pub name: &'static str,
    /// What may be bound to it.
    pub kind: ParameterKind,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it must be a constant (an immediate or weight file value, a `const`, a constexpr).
    pub constant: bool,
    /// First operation set that knows the parameter.
    pub since: Opset,
}

impl Parameter {
    const fn new(name: &'static str, kind: ParameterKind, required: bool, constant: bool) -> Self {
        Self { name, kind, required, constant, since: Opset::CoreML5 }
    }

    /// A required tensor, known at run time or before.
    const fn tensor(name: &'static str, types: &'static [DataType]) -> Self {
        Self::new(name, ParameterKind::Tensor(types), true, false)
    }

    /// A tensor that may be left out.
    const fn optional(name: &'static str, types: &'static [DataType]) -> Self {
        Self::new(name, ParameterKind::Tensor(types), false, false)
    }

    /// A required constant.
    const fn constant(name: &'static str, types: &'static [DataType]) -> Self {
        Self::new(name, ParameterKind::Tensor(types), true, true)
    }

    /// A constant that may be left out.
    const fn setting(name: &'static str, types: &'static [DataType]) -> Self {
        Self::new(name, ParameterKind::Tensor(types), false, true)
    }

    /// One or more required tensors.
    const fn tensors(name: &'static str) -> Self {
        Self::new(name, ParameterKind::Tensors, true, false)
    }

    /// A required state.
    const fn state(name: &'static str) -> Self {
        Self::new(name, ParameterKind::State, true, false)
    }

    /// The same parameter, known only from this operation set on.
    const fn since(mut self, opset: Opset) -> Self {
        self.since = opset;
        self
    }
}

/// Where an operation's arguments stand in the protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Among the inputs, by name of a value or as a value.
    Inputs,
    /// Among the inputs, as values or by name of another constexpr's output.
    ConstantInputs,
    /// Among the attributes (`const`, and constexpr operations before iOS 18).
    Attributes,
}

/// Types of an operation's outputs from its arguments.
pub type Infer = fn(&Arguments<'_>) -> Result<Vec<ValueType>, String>;

/// An operation as one range of operation sets knows it.
#[derive(Clone, Copy, Debug)]
pub struct OpDefinition {
    /// Type name, such as `conv`.
    pub name: &'static str,
    /// First operation set that has it in this form.
    pub minimum_opset: Opset,
    /// Where its arguments stand.
    pub placement: Placement,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    /// Output types from arguments that satisfy `parameters`.
    pub infer: Infer,
    /// How it treats elements, and where devices run it; the same in all its forms.
    pub facts: Facts,
}

impl OpDefinition {
    const fn new(name: &'static str, parameters: &'static [Parameter], infer: Infer) -> Self {
        let (minimum_opset, placement) = (Opset::CoreML5, Placement::Inputs);
        Self { name, minimum_opset, placement, parameters, infer, facts: Facts::NONE }
    }

    const fn since(mut self, opset: Opset) -> Self {
        self.minimum_opset = opset;
        self
    }

    const fn placed(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// It only moves elements.
    const fn moving(mut self, movement: Movement) -> Self {
        self.facts.movement = movement;
        self
    }

    /// Devices run it on their CPU.
    const fn on_cpu(mut self) -> Self {
        self.facts.on_cpu = true;
        self
    }

    /// It computes, compares or joins, on floats only where the Neural Engine does it.
    const fn arithmetic(mut self) -> Self {
        self.facts.arithmetic = true;
        self
    }

    /// The parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Whether the operation makes weights from stored data.
    pub fn is_constexpr(&self) -> bool {
        is_constexpr(self.name)
    }
}

/// Every family's list.
pub const ALL: &[&[OpDefinition]] = &[
    activation::OPS,
    attention::OPS,
    binary::OPS,
    cast::OPS,
    constexpr::OPS,
    convolution::OPS,
    gather::OPS,
    linear::OPS,
    normalization::OPS,
    recurrent::OPS,
    reduction::OPS,
    reshape::OPS,
    slice::OPS,
    state::OPS,
    tensor::OPS,
    unary::OPS,
];

/// The newest form of an operation that an operation set has.
///
/// Errors: an operation that no set has, and one that only newer sets have.
pub fn find(name: &str, opset: Opset) -> Result<&'static OpDefinition, String> {
    let forms = || ALL.iter().flat_map(|family| family.iter()).filter(|form| form.name == name);
    let best =
        forms().filter(|form| form.minimum_opset <= opset).max_by_key(|form| form.minimum_opset);
    best.ok_or_else(|| match forms().map(|form| form.minimum_opset).min() {
        Some(first) => {
            format!("`{name}` needs opset {}, the function has {}", first.name(), opset.name())
        }
        None => format!("`{name}` is not an operation that is known here"),
    })
}

/// Checks arguments against the parameters, then infers the output types.
///
/// Errors name the parameter: missing, unknown, of a wrong type, not constant, or newer than the
/// operation set.
pub fn infer(
    definition: &OpDefinition,
    arguments: &Arguments<'_>,
    opset: Opset,
) -> Result<Vec<ValueType>, String> {
    for (name, operands) in arguments.iter() {
        let Some(parameter) = definition.parameter(name) else {
            return Err(format!("there is no parameter `{name}`"));
        };
        if parameter.since > opset {
            return Err(format!("parameter `{name}` needs opset {}", parameter.since.name()));
        }
        check_operands(parameter, operands)?;
    }
    for parameter in definition.parameters.iter().filter(|parameter| parameter.required) {
        if arguments.operand(parameter.name).is_none() {
            return Err(format!("parameter `{}` is missing", parameter.name));
        }
    }
    (definition.infer)(arguments)
}

fn check_operands(parameter: &Parameter, operands: &[Operand<'_>]) -> Result<(), String> {
    let name = parameter.name;
    let many = parameter.kind == ParameterKind::Tensors;
    if operands.is_empty() || (!many && operands.len() != 1) {
        return Err(format!("parameter `{name}` is bound to {} values", operands.len()));
    }
    for operand in operands {
        match (parameter.kind, operand.kind) {
            (ParameterKind::State, ValueType::State(_))
            | (ParameterKind::Tensors, ValueType::Tensor(_)) => {}
            (ParameterKind::Tensor(types), ValueType::Tensor(tensor))
                if types.is_empty() || types.contains(&tensor.data_type) => {}
            (ParameterKind::Tensor(types), ValueType::Tensor(tensor)) => {
                let types: Vec<&str> = types.iter().map(|kind| kind.mil_name()).collect();
                return Err(format!(
                    "parameter `{name}` takes {}, but {} is {tensor}",
                    types.join(", "),
                    operand.label
                ));
            }
            (kind, other) => {
                let wanted = if kind == ParameterKind::State { "state" } else { "tensor" };
                return Err(format!(
                    "parameter `{name}` takes a {wanted}, but {} is {other}",
                    operand.label
                ));
            }
        }
        if parameter.constant && operand.origin == Origin::Runtime {
            return Err(format!(
                "parameter `{name}` must be constant, but {} is known only at run time",
                operand.label
            ));
        }
    }
    Ok(())
}

/// Lists of data types that several families share.
pub(crate) mod domains {
    use crate::dtype::DataType::{self, Bool, Float16, Float32, Int8, Int16, Int32, UInt8, UInt16};

    pub(crate) const FLOAT: &[DataType] = &[Float16, Float32];
    pub(crate) const NUMBER: &[DataType] = &[Float16, Float32, Int32];
    pub(crate) const WIDE: &[DataType] =
        &[Float16, Float32, Int8, UInt8, Int16, UInt16, Int32, Bool];
    pub(crate) const WIDE_NUMBER: &[DataType] =
        &[Float16, Float32, Int8, UInt8, Int16, UInt16, Int32];
    pub(crate) const INDEX: &[DataType] = &[Int32, Int16, UInt16, Int8, UInt8];
    pub(crate) const POSITION: &[DataType] = &[Int8, Int16, Int32];
    pub(crate) const INT32: &[DataType] = &[Int32];
    pub(crate) const BOOL: &[DataType] = &[Bool];
    pub(crate) const STRING: &[DataType] = &[DataType::String];
    pub(crate) const ANY: &[DataType] = &[];
}

#[cfg(test)]
mod tests;
