//! Activations.

use super::arguments::{Arguments, one};
use super::unary::same_as_x;
use super::{OpDefinition, Parameter, domains};
use crate::types::ValueType;

const X: &[Parameter] = &[Parameter::tensor("x", domains::FLOAT)];
const ALPHA: &[Parameter] =
    &[Parameter::tensor("x", domains::FLOAT), Parameter::constant("alpha", domains::FLOAT)];
const ALPHA_BETA: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::constant("alpha", domains::FLOAT),
    Parameter::constant("beta", domains::FLOAT),
];
const GELU: &[Parameter] =
    &[Parameter::tensor("x", domains::FLOAT), Parameter::setting("mode", domains::STRING)];
const SOFTMAX: &[Parameter] =
    &[Parameter::tensor("x", domains::FLOAT), Parameter::setting("axis", domains::INT32)];

fn gelu(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let mode = arguments.text("mode", "EXACT")?;
    if !["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"].contains(&mode.as_str()) {
        return Err(format!("{mode:?} is not a mode of gelu"));
    }
    same_as_x(arguments)
}

fn softmax(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    arguments.axis("axis", -1, x.rank())?;
    one(x.clone())
}

const fn plain(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, X, same_as_x)
}

const fn alpha(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, ALPHA, same_as_x)
}

const fn alpha_beta(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, ALPHA_BETA, same_as_x)
}

pub(super) const OPS: &[OpDefinition] = &[
    alpha_beta("clamped_relu"),
    alpha("elu"),
    OpDefinition::new("gelu", GELU, gelu),
    alpha("leaky_relu"),
    alpha_beta("linear_activation"),
    alpha("prelu"),
    plain("relu"),
    plain("relu6"),
    alpha_beta("scaled_tanh"),
    plain("sigmoid"),
    alpha_beta("sigmoid_hard"),
    plain("silu"),
    OpDefinition::new("softmax", SOFTMAX, softmax),
    plain("softplus"),
    alpha_beta("softplus_parametric"),
    plain("softsign"),
    alpha("thresholded_relu"),
];
