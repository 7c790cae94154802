//! Elementwise operations of one tensor.

use super::arguments::{Arguments, one};
use super::{OpDefinition, Parameter, domains};
use crate::types::ValueType;

/// The type of `x`.
pub(super) fn same_as_x(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    one(arguments.tensor("x")?.clone())
}

const FLOAT: &[Parameter] = &[Parameter::tensor("x", domains::FLOAT)];
const NUMBER: &[Parameter] = &[Parameter::tensor("x", domains::NUMBER)];
const BOOL: &[Parameter] = &[Parameter::tensor("x", domains::BOOL)];
const EPSILON: &[Parameter] =
    &[Parameter::tensor("x", domains::FLOAT), Parameter::setting("epsilon", domains::FLOAT)];
const CLIP: &[Parameter] = &[
    Parameter::tensor("x", domains::NUMBER),
    Parameter::constant("alpha", domains::NUMBER),
    Parameter::constant("beta", domains::NUMBER),
];
const THRESHOLD: &[Parameter] =
    &[Parameter::tensor("x", domains::NUMBER), Parameter::constant("alpha", domains::NUMBER)];

const fn float(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, FLOAT, same_as_x)
}

const fn number(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, NUMBER, same_as_x)
}

const fn epsilon(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, EPSILON, same_as_x)
}

pub(super) const OPS: &[OpDefinition] = &[
    number("abs"),
    float("acos").on_cpu(),
    float("asin").on_cpu(),
    float("atan"),
    float("atanh").on_cpu(),
    float("ceil"),
    OpDefinition::new("clip", CLIP, same_as_x),
    float("cos"),
    float("cosh").on_cpu(),
    float("erf"),
    float("exp"),
    number("exp2"),
    float("floor"),
    epsilon("inverse"),
    epsilon("log"),
    OpDefinition::new("logical_not", BOOL, same_as_x),
    float("round"),
    epsilon("rsqrt"),
    number("sign"),
    float("sin"),
    float("sinh").on_cpu(),
    float("sqrt"),
    number("square"),
    float("tan").on_cpu(),
    float("tanh"),
    OpDefinition::new("threshold", THRESHOLD, same_as_x),
];
