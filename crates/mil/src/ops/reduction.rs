//! Reductions, `topk` and `cumsum`.

use super::arguments::{Arguments, one, resolve_axis};
use super::{OpDefinition, Opset, Parameter, domains};
use crate::dtype::DataType;
use crate::types::{Dimension, TensorType, ValueType};

const AXES: &[Parameter] = &[
    Parameter::tensor("x", domains::NUMBER),
    Parameter::setting("axes", domains::INT32),
    Parameter::setting("keep_dims", domains::BOOL),
];
const AXIS: &[Parameter] = &[
    Parameter::tensor("x", domains::NUMBER),
    Parameter::setting("axis", domains::INT32),
    Parameter::setting("keep_dims", domains::BOOL),
    Parameter::setting("output_dtype", domains::STRING).since(Opset::CoreML7),
];
const TOPK: &[Parameter] = &[
    Parameter::tensor("x", domains::WIDE_NUMBER),
    Parameter::optional("k", domains::POSITION),
    Parameter::setting("axis", domains::INT32),
    Parameter::setting("ascending", domains::BOOL),
    Parameter::setting("sort", domains::BOOL).since(Opset::CoreML6),
    Parameter::setting("return_indices", domains::BOOL).since(Opset::CoreML6),
    Parameter::setting("output_indices_dtype", domains::STRING).since(Opset::CoreML7),
];
const ARGSORT: &[Parameter] = &[
    Parameter::tensor("x", domains::NUMBER),
    Parameter::setting("axis", domains::INT32),
    Parameter::setting("ascending", domains::BOOL),
];
const CUMSUM: &[Parameter] = &[
    Parameter::tensor("x", domains::NUMBER),
    Parameter::setting("axis", domains::INT32),
    Parameter::setting("exclusive", domains::BOOL),
    Parameter::setting("reverse", domains::BOOL),
];

fn reduce(
    x: &TensorType,
    axes: &[usize],
    keep_dims: bool,
    data_type: DataType,
) -> Result<Vec<ValueType>, String> {
    let shape = x
        .shape
        .iter()
        .enumerate()
        .filter_map(|(axis, size)| match (axes.contains(&axis), keep_dims) {
            (false, _) => Some(*size),
            (true, true) => Some(Dimension::Fixed(1)),
            (true, false) => None,
        })
        .collect();
    one(TensorType::with_shape(data_type, shape))
}

fn over_axes(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let axes = arguments.axes("axes", x.rank())?;
    reduce(x, &axes, arguments.boolean("keep_dims", false)?, x.data_type)
}

fn argument(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let axis = arguments.axis("axis", -1, x.rank())?;
    let allowed = &[DataType::Int32, DataType::UInt16];
    let kind = arguments.data_type("output_dtype", DataType::Int32, allowed)?;
    reduce(x, &[axis], arguments.boolean("keep_dims", false)?, kind)
}

fn topk(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let axis = arguments.axis("axis", -1, x.rank())?;
    let size = if arguments.has("k") {
        match arguments.integers("k")?.as_deref() {
            None => arguments.fresh(),
            // -1 keeps the whole axis.
            Some([-1]) => x.shape[axis],
            Some([k]) => match u64::try_from(*k) {
                Ok(k) if x.shape[axis].fixed().is_none_or(|size| k <= size) => Dimension::Fixed(k),
                _ => return Err(format!("k is {k}, but axis {axis} of {x} is smaller")),
            },
            Some(_) => return Err("`k` must be a scalar".to_owned()),
        }
    } else {
        Dimension::Fixed(1)
    };
    let mut shape = x.shape.clone();
    shape[axis] = size;
    let allowed = &[DataType::Int32, DataType::UInt16];
    let kind = arguments.data_type("output_indices_dtype", DataType::Int32, allowed)?;
    let values = TensorType::with_shape(x.data_type, shape.clone());
    if !arguments.boolean("return_indices", true)? {
        return one(values);
    }
    Ok(vec![values.into(), TensorType::with_shape(kind, shape).into()])
}

fn argsort(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    arguments.axis("axis", -1, x.rank())?;
    one(x.with_data_type(DataType::Int32))
}

fn cumsum(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    resolve_axis(arguments.integer("axis", 0)?, x.rank())?;
    one(x.clone())
}

const fn axes(name: &'static str) -> OpDefinition {
    OpDefinition::new(name, AXES, over_axes)
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("argsort", ARGSORT, argsort).on_cpu(),
    OpDefinition::new("cumsum", CUMSUM, cumsum).on_cpu(),
    OpDefinition::new("reduce_argmax", AXIS, argument).on_cpu(),
    OpDefinition::new("reduce_argmin", AXIS, argument).on_cpu(),
    axes("reduce_l1_norm"),
    axes("reduce_l2_norm"),
    axes("reduce_log_sum"),
    axes("reduce_log_sum_exp"),
    axes("reduce_max"),
    axes("reduce_mean"),
    axes("reduce_min"),
    axes("reduce_prod").on_cpu(),
    axes("reduce_sum"),
    axes("reduce_sum_square"),
    OpDefinition::new("topk", TOPK, topk),
];
