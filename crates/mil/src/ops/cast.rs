//! Changes of element type, and `identity`.

use super::arguments::{Arguments, one};
use super::{Movement, OpDefinition, Opset, Parameter, domains};
use crate::dtype::DataType;
use crate::types::{TensorType, ValueType};

const CAST: &[Parameter] =
    &[Parameter::tensor("x", domains::WIDE), Parameter::constant("dtype", domains::STRING)];
const IDENTITY: &[Parameter] = &[Parameter::tensor("x", domains::ANY)];
const BYTE: &[DataType] = &[DataType::Int8, DataType::UInt8];
const QUANTIZE: &[Parameter] = &[
    Parameter::tensor("input", domains::FLOAT),
    Parameter::setting("zero_point", BYTE),
    Parameter::constant("scale", domains::FLOAT),
    Parameter::setting("axis", domains::INT32),
    Parameter::constant("output_dtype", domains::STRING),
];
const DEQUANTIZE: &[Parameter] = &[
    Parameter::tensor("input", BYTE),
    Parameter::setting("zero_point", BYTE),
    Parameter::constant("scale", domains::FLOAT),
    Parameter::setting("axis", domains::INT32),
];

fn cast(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    one(x.with_data_type(arguments.data_type("dtype", x.data_type, domains::WIDE)?))
}

/// Scale and zero point are scalars, or vectors along `axis`.
fn check_scale(arguments: &Arguments<'_>) -> Result<(), String> {
    let input = arguments.tensor("input")?;
    let scale = arguments.tensor("scale")?;
    if let Some(zero_point) = arguments.optional_tensor("zero_point")?
        && zero_point.shape != scale.shape
    {
        return Err(format!("scale is {scale}, but zero_point is {zero_point}"));
    }
    match scale.shape.as_slice() {
        [] => Ok(()),
        [size] => {
            if !arguments.has("axis") {
                return Err("a vector of scales needs `axis`".to_owned());
            }
            let axis = arguments.axis("axis", 0, input.rank())?;
            if input.shape[axis].could_equal(*size) {
                Ok(())
            } else {
                Err(format!("{size} scales do not fit axis {axis} of {input}"))
            }
        }
        _ => Err(format!("scale is {scale}, but must be a scalar or a vector")),
    }
}

fn quantize(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    check_scale(arguments)?;
    let kind = arguments.data_type("output_dtype", DataType::Int8, BYTE)?;
    one(arguments.tensor("input")?.with_data_type(kind))
}

fn dequantize(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    check_scale(arguments)?;
    let scale: &TensorType = arguments.tensor("scale")?;
    one(arguments.tensor("input")?.with_data_type(scale.data_type))
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("cast", CAST, cast).moving(Movement::Whole).arithmetic(),
    OpDefinition::new("identity", IDENTITY, super::unary::same_as_x).moving(Movement::Whole),
    OpDefinition::new("quantize", QUANTIZE, quantize).since(Opset::CoreML7),
    OpDefinition::new("dequantize", DEQUANTIZE, dequantize).since(Opset::CoreML7),
];
