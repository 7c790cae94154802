//! `const`, and reading and writing states.

use super::arguments::{Arguments, one};
use super::{Movement, OpDefinition, Opset, Parameter, Placement, domains};
use crate::types::ValueType;

const CONST: &[Parameter] = &[Parameter::constant("val", domains::ANY)];
const READ: &[Parameter] = &[Parameter::state("input")];
const WRITE: &[Parameter] = &[Parameter::state("input"), Parameter::tensor("data", domains::ANY)];

fn constant(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    one(arguments.tensor("val")?.clone())
}

fn state<'a>(arguments: &Arguments<'a>) -> Result<&'a crate::types::TensorType, String> {
    match arguments.operand("input").map(|operand| operand.kind) {
        Some(ValueType::State(tensor)) => Ok(tensor),
        _ => Err("parameter `input` must be a state".to_owned()),
    }
}

fn read(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    one(state(arguments)?.clone())
}

fn write(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (state, data) = (state(arguments)?, arguments.tensor("data")?);
    if state == data {
        Ok(Vec::new())
    } else {
        Err(format!("the state holds {state}, but `data` is {data}"))
    }
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("const", CONST, constant).placed(Placement::Attributes),
    OpDefinition::new("read_state", READ, read).since(Opset::CoreML8).moving(Movement::Parts),
    OpDefinition::new("write_state", WRITE, write).since(Opset::CoreML8),
];
