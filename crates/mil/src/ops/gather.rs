//! Gathering and scattering by index.

use super::arguments::{Arguments, broadcast, one};
use super::{OpDefinition, Opset, Parameter, domains};
use crate::types::{ShapeText, TensorType, ValueType};

const GATHER: &[Parameter] = &[
    Parameter::tensor("x", domains::WIDE_NUMBER),
    Parameter::tensor("indices", domains::INDEX),
    Parameter::setting("axis", domains::INT32),
    Parameter::setting("batch_dims", domains::INT32).since(Opset::CoreML6),
    Parameter::setting("validate_indices", domains::BOOL).since(Opset::CoreML7),
];
const ALONG_AXIS: &[Parameter] = &[
    Parameter::tensor("x", domains::WIDE_NUMBER),
    Parameter::tensor("indices", domains::INDEX),
    Parameter::setting("axis", domains::INT32),
    Parameter::setting("validate_indices", domains::BOOL).since(Opset::CoreML7),
];
const ND: &[Parameter] = &[
    Parameter::tensor("x", domains::WIDE_NUMBER),
    Parameter::tensor("indices", domains::INDEX),
    Parameter::setting("batch_dims", domains::INT32).since(Opset::CoreML6),
    Parameter::setting("validate_indices", domains::BOOL).since(Opset::CoreML7),
];
const SCATTER: &[Parameter] = &[
    Parameter::tensor("data", domains::WIDE_NUMBER),
    Parameter::tensor("indices", domains::INDEX),
    Parameter::tensor("updates", domains::WIDE_NUMBER),
    Parameter::setting("axis", domains::INT32),
    Parameter::setting("mode", domains::STRING),
    Parameter::setting("validate_indices", domains::BOOL).since(Opset::CoreML7),
];
const SCATTER_ND: &[Parameter] = &[
    Parameter::tensor("data", domains::WIDE_NUMBER),
    Parameter::tensor("indices", domains::INDEX),
    Parameter::tensor("updates", domains::WIDE_NUMBER),
    Parameter::setting("mode", domains::STRING),
    Parameter::setting("validate_indices", domains::BOOL).since(Opset::CoreML7),
];

/// Number of leading axes that `x` and `indices` share one to one.
fn batch_dims(arguments: &Arguments<'_>, limit: usize) -> Result<usize, String> {
    let count = arguments.integer("batch_dims", 0)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= limit);
    let count = count.ok_or("`batch_dims` is outside the operands' ranks")?;
    let (x, indices) = (arguments.tensor("x")?, arguments.tensor("indices")?);
    for axis in 0..count {
        if !x.shape[axis].could_equal(indices.shape[axis]) {
            return Err(format!("batch axis {axis} of {x} and {indices} differs"));
        }
    }
    Ok(count)
}

fn gather(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, indices) = (arguments.tensor("x")?, arguments.tensor("indices")?);
    let axis = arguments.axis("axis", 0, x.rank())?;
    let batch = batch_dims(arguments, indices.rank().min(axis))?;
    let mut shape = x.shape[..axis].to_vec();
    shape.extend_from_slice(&indices.shape[batch..]);
    shape.extend_from_slice(&x.shape[axis + 1..]);
    // A fixed index must lie inside the axis.
    if let (Some(size), Some(values)) = (x.shape[axis].fixed(), arguments.integers("indices")?) {
        let size = i128::from(size);
        let outside = values.iter().find(|index| !(-size..size).contains(&i128::from(**index)));
        if let Some(index) = outside {
            return Err(format!("index {index} is outside axis {axis} of {x}"));
        }
    }
    one(TensorType::with_shape(x.data_type, shape))
}

fn along_axis(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, indices) = (arguments.tensor("x")?, arguments.tensor("indices")?);
    let axis = arguments.axis("axis", 0, x.rank())?;
    let fits = x.rank() == indices.rank()
        && (0..x.rank())
            .all(|place| place == axis || x.shape[place].could_equal(indices.shape[place]));
    if !fits {
        return Err(format!("{x} and {indices} differ beside axis {axis}"));
    }
    one(indices.with_data_type(x.data_type))
}

fn gather_nd(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, indices) = (arguments.tensor("x")?, arguments.tensor("indices")?);
    let Some((depth, outer)) = indices.shape.split_last() else {
        return Err("indices is a scalar".to_owned());
    };
    let batch = batch_dims(arguments, outer.len().min(x.rank()))?;
    let depth = depth.fixed().ok_or("the last axis of indices must be known")?;
    let start = usize::try_from(depth).ok().and_then(|depth| depth.checked_add(batch));
    let rest = start.and_then(|start| x.shape.get(start..));
    let rest = rest.ok_or_else(|| format!("indices {indices} reach past the rank of {x}"))?;
    let mut shape = outer.to_vec();
    shape.extend_from_slice(rest);
    one(TensorType::with_shape(x.data_type, shape))
}

fn mode(arguments: &Arguments<'_>) -> Result<(), String> {
    let mode = arguments.text("mode", "add")?;
    match mode.as_str() {
        "add" | "div" | "max" | "min" | "mul" | "sub" | "update" => Ok(()),
        _ => Err(format!("{mode:?} is not a mode of scatter")),
    }
}

fn updated(
    arguments: &Arguments<'_>,
    wanted: &[crate::Dimension],
) -> Result<Vec<ValueType>, String> {
    mode(arguments)?;
    let (data, updates) = (arguments.tensor("data")?, arguments.tensor("updates")?);
    broadcast(wanted, &updates.shape, arguments).map_err(|_| {
        format!("updates are {updates}, but the indices name {}", ShapeText(wanted))
    })?;
    if data.data_type != updates.data_type {
        return Err(format!("data is {data}, but updates are {updates}"));
    }
    one(data.clone())
}

fn scatter(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (data, indices) = (arguments.tensor("data")?, arguments.tensor("indices")?);
    let axis = arguments.axis("axis", 0, data.rank())?;
    let mut shape = data.shape[..axis].to_vec();
    shape.extend_from_slice(&indices.shape);
    shape.extend_from_slice(&data.shape[axis + 1..]);
    updated(arguments, &shape)
}

fn scatter_along_axis(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (data, indices) = (arguments.tensor("data")?, arguments.tensor("indices")?);
    arguments.axis("axis", 0, data.rank())?;
    if data.rank() != indices.rank() {
        return Err(format!("{data} and {indices} have different ranks"));
    }
    updated(arguments, &indices.shape)
}

fn scatter_nd(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (data, indices) = (arguments.tensor("data")?, arguments.tensor("indices")?);
    let Some((depth, outer)) = indices.shape.split_last() else {
        return Err("indices is a scalar".to_owned());
    };
    let depth = depth.fixed().and_then(|depth| usize::try_from(depth).ok());
    let rest = depth.and_then(|depth| data.shape.get(depth..));
    let rest = rest.ok_or_else(|| format!("indices {indices} reach past the rank of {data}"))?;
    let mut shape = outer.to_vec();
    shape.extend_from_slice(rest);
    updated(arguments, &shape)
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("gather", GATHER, gather),
    OpDefinition::new("gather_along_axis", ALONG_AXIS, along_axis),
    OpDefinition::new("gather_nd", ND, gather_nd),
    OpDefinition::new("scatter", SCATTER, scatter).on_cpu(),
    OpDefinition::new("scatter_along_axis", SCATTER, scatter_along_axis).on_cpu(),
    OpDefinition::new("scatter_nd", SCATTER_ND, scatter_nd).on_cpu(),
];
