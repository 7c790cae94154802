//! Elementwise operations of two tensors that broadcast, and `select`.

use super::arguments::{Arguments, broadcast, one};
use super::{OpDefinition, Parameter, domains};
use crate::dtype::DataType;
use crate::types::{TensorType, ValueType};

const COMPARABLE: &[DataType] =
    &[DataType::Float16, DataType::Float32, DataType::Int32, DataType::Bool];
const NUMBERS: &[Parameter] =
    &[Parameter::tensor("x", domains::NUMBER), Parameter::tensor("y", domains::NUMBER)];
const EQUALITY: &[Parameter] =
    &[Parameter::tensor("x", COMPARABLE), Parameter::tensor("y", COMPARABLE)];
const BOOLS: &[Parameter] =
    &[Parameter::tensor("x", domains::BOOL), Parameter::tensor("y", domains::BOOL)];
const SELECT: &[Parameter] = &[
    Parameter::tensor("cond", domains::BOOL),
    Parameter::tensor("a", COMPARABLE),
    Parameter::tensor("b", COMPARABLE),
];

fn operands<'a>(arguments: &Arguments<'a>, left: &str, right: &str) -> Pair<'a> {
    let (x, y) = (arguments.tensor(left)?, arguments.tensor(right)?);
    if x.data_type != y.data_type {
        return Err(format!("element types differ: {} and {}", x.data_type, y.data_type));
    }
    Ok((x, y))
}

type Pair<'a> = Result<(&'a TensorType, &'a TensorType), String>;

fn arithmetic(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, y) = operands(arguments, "x", "y")?;
    one(TensorType::with_shape(x.data_type, broadcast(&x.shape, &y.shape, arguments)?))
}

fn comparison(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, y) = operands(arguments, "x", "y")?;
    one(TensorType::with_shape(DataType::Bool, broadcast(&x.shape, &y.shape, arguments)?))
}

fn select(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (a, b) = operands(arguments, "a", "b")?;
    let shape = broadcast(&a.shape, &b.shape, arguments)?;
    let shape = broadcast(&arguments.tensor("cond")?.shape, &shape, arguments)?;
    one(TensorType::with_shape(a.data_type, shape))
}

const fn numbers(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, NUMBERS, arithmetic)
}

const fn ordering(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, NUMBERS, comparison)
}

const fn equality(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, EQUALITY, comparison)
}

const fn bools(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, BOOLS, arithmetic)
}

pub(super) const OPS: &[OpDefinition] = &[
    numbers("add").arithmetic(),
    equality("equal").arithmetic(),
    numbers("floor_div").arithmetic(),
    ordering("greater").arithmetic(),
    ordering("greater_equal").arithmetic(),
    ordering("less").arithmetic(),
    ordering("less_equal").arithmetic(),
    bools("logical_and"),
    bools("logical_or"),
    bools("logical_xor"),
    numbers("maximum").arithmetic(),
    numbers("minimum").arithmetic(),
    numbers("mod").arithmetic().on_cpu(),
    numbers("mul").arithmetic(),
    equality("not_equal").arithmetic(),
    numbers("pow"),
    numbers("real_div"),
    OpDefinition::new("select", SELECT, select).arithmetic(),
    numbers("sub").arithmetic(),
];
