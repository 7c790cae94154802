//! Normalizations.

use super::arguments::{Arguments, one};
use super::unary::same_as_x;
use super::{OpDefinition, Parameter, domains};
use crate::types::{Dimension, TensorType, ValueType};

const LAYER: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::setting("axes", domains::INT32),
    Parameter::setting("gamma", domains::FLOAT),
    Parameter::setting("beta", domains::FLOAT),
    Parameter::setting("epsilon", domains::FLOAT),
];
const BATCH: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::constant("mean", domains::FLOAT),
    Parameter::constant("variance", domains::FLOAT),
    Parameter::setting("gamma", domains::FLOAT),
    Parameter::setting("beta", domains::FLOAT),
    Parameter::setting("epsilon", domains::FLOAT),
];
const INSTANCE: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::setting("gamma", domains::FLOAT),
    Parameter::setting("beta", domains::FLOAT),
    Parameter::setting("epsilon", domains::FLOAT),
];
const L2: &[Parameter] =
    &[Parameter::tensor("x", domains::FLOAT), Parameter::setting("epsilon", domains::FLOAT)];

fn check_vector(arguments: &Arguments<'_>, name: &str, shape: &[Dimension]) -> Result<(), String> {
    let Some(tensor) = arguments.optional_tensor(name)? else { return Ok(()) };
    let fits = tensor.rank() == shape.len()
        && tensor.shape.iter().zip(shape).all(|(left, right)| left.could_equal(*right));
    if fits {
        return Ok(());
    }
    let wanted = TensorType::with_shape(tensor.data_type, shape.to_vec());
    Err(format!("`{name}` is {tensor}, but must be {wanted}"))
}

fn layer_norm(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let mut axes = arguments.axes("axes", x.rank())?;
    axes.sort_unstable();
    let normalized: Vec<Dimension> = axes.iter().map(|axis| x.shape[*axis]).collect();
    check_vector(arguments, "gamma", &normalized)?;
    check_vector(arguments, "beta", &normalized)?;
    one(x.clone())
}

/// Statistics and affine terms lie along axis 1.
fn channel_norm(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let Some(channels) = x.shape.get(1) else {
        return Err(format!("x is {x}, but needs a channel axis"));
    };
    for name in ["mean", "variance", "gamma", "beta"] {
        check_vector(arguments, name, &[*channels])?;
    }
    one(x.clone())
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("batch_norm", BATCH, channel_norm),
    OpDefinition::new("instance_norm", INSTANCE, channel_norm),
    OpDefinition::new("l2_norm", L2, same_as_x),
    OpDefinition::new("layer_norm", LAYER, layer_norm),
];
