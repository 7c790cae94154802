//! Operations that make weights from stored data when a model is loaded.
//!
//! Before iOS 18 the data stand in attributes; from then on, in the inputs, as values or as the
//! outputs of other such operations.

use super::arguments::{Arguments, one};
use super::{OpDefinition, Opset, Parameter, Placement, domains};
use crate::dtype::DataType::{
    self, Float16, Float32, Int4, Int8, UInt1, UInt2, UInt3, UInt4, UInt6, UInt8, UInt32,
};
use crate::types::{Dimension, TensorType, ValueType, element_count};

const BYTE: &[DataType] = &[Int8, UInt8];
const ZERO_POINT: &[DataType] = &[Int8, UInt8, Float32];
const PACKED: &[DataType] = &[UInt8];
const SHAPE: &[DataType] = &[UInt32];
const TABLE: &[DataType] = &[Int8, UInt8, Float16, Float32];
const INDICES: &[DataType] = &[UInt1, UInt2, UInt3, UInt4, UInt6, UInt8];
const BIT: &[DataType] = &[UInt1];
const SOURCE: &[DataType] = &[Int4, UInt4, Int8, UInt8, Float16, Float32];
const HALF: &[DataType] = &[Float16];

const AFFINE: &[Parameter] = &[
    Parameter::constant("quantized_data", BYTE),
    Parameter::constant("zero_point", ZERO_POINT),
    Parameter::constant("scale", domains::FLOAT),
    Parameter::constant("axis", domains::INT32),
];
const CAST: &[Parameter] = &[
    Parameter::constant("source_val", HALF),
    Parameter::constant("output_dtype", domains::STRING),
];
const PACKED_LUT: &[Parameter] = &[
    Parameter::constant("indices", PACKED),
    Parameter::constant("lut", TABLE),
    Parameter::constant("shape", SHAPE),
];
const PACKED_SPARSE: &[Parameter] = &[
    Parameter::constant("nonzero_data", TABLE),
    Parameter::constant("mask", PACKED),
    Parameter::constant("shape", SHAPE),
];
const LUT: &[Parameter] = &[
    Parameter::constant("indices", INDICES),
    Parameter::constant("lut", TABLE),
    Parameter::setting("vector_axis", domains::INT32),
];
const SHIFT_SCALE: &[Parameter] = &[
    Parameter::constant("data", SOURCE),
    Parameter::constant("scale", domains::FLOAT),
    Parameter::setting("offset", SOURCE),
];
const SPARSE: &[Parameter] =
    &[Parameter::constant("nonzero_data", SOURCE), Parameter::constant("mask", BIT)];
const LUT_SPARSE: &[Parameter] = &[
    Parameter::constant("indices_mask", BIT),
    Parameter::constant("indices_nonzero_data", INDICES),
    Parameter::constant("lut", TABLE),
    Parameter::setting("vector_axis", domains::INT32),
];
const SPARSE_SHIFT_SCALE: &[Parameter] = &[
    Parameter::constant("data_mask", BIT),
    Parameter::constant("nonzero_data", SOURCE),
    Parameter::constant("scale", domains::FLOAT),
    Parameter::setting("offset", SOURCE),
];

/// Sizes of a stored tensor, all known.
fn sizes(arguments: &Arguments<'_>, name: &str) -> Result<Vec<u64>, String> {
    let tensor = arguments.tensor(name)?;
    tensor.fixed_shape().ok_or_else(|| format!("`{name}` is {tensor}, whose size is not known"))
}

/// The result shape that parameter `shape` of the older forms gives, and its element count.
fn stored_shape(arguments: &Arguments<'_>) -> Result<(Vec<u64>, u64), String> {
    let shape = arguments
        .known_integers("shape")?
        .into_iter()
        .map(u64::try_from)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "`shape` holds a negative size")?;
    let count = element_count(&shape).ok_or_else(|| format!("shape {shape:?} is too large"))?;
    Ok((shape, count))
}

fn vector_length(arguments: &Arguments<'_>, name: &str) -> Result<u64, String> {
    match sizes(arguments, name)?[..] {
        [length] => Ok(length),
        _ => Err(format!("`{name}` is {}, but must be a vector", arguments.tensor(name)?)),
    }
}

fn affine(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let data = arguments.tensor("quantized_data")?;
    let axis = arguments.axis("axis", 0, data.rank())?;
    for name in ["scale", "zero_point"] {
        let tensor = arguments.tensor(name)?;
        let fits = match tensor.shape[..] {
            [] => true,
            [size] => size == data.shape[axis],
            _ => false,
        };
        if !fits {
            return Err(format!("`{name}` is {tensor}, which does not fit axis {axis} of {data}"));
        }
    }
    let zero_point = arguments.tensor("zero_point")?.data_type;
    if zero_point != data.data_type && zero_point != Float32 {
        return Err(format!("`zero_point` is {zero_point}, but the data are {}", data.data_type));
    }
    one(data.with_data_type(arguments.tensor("scale")?.data_type))
}

fn cast(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let kind = arguments.data_type("output_dtype", Float32, &[Float32])?;
    one(arguments.tensor("source_val")?.with_data_type(kind))
}

fn packed_lut(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let palette = vector_length(arguments, "lut")?;
    let bits = match palette {
        2 => 1_u64,
        4 => 2,
        16 => 4,
        64 => 6,
        256 => 8,
        _ => return Err(format!("`lut` has {palette} entries, not 2, 4, 16, 64 or 256")),
    };
    let (shape, count) = stored_shape(arguments)?;
    let bytes = count.checked_mul(bits).ok_or("the result is too large")?.div_ceil(8);
    let stored = vector_length(arguments, "indices")?;
    if stored != bytes {
        return Err(format!("`indices` has {stored} bytes, but {shape:?} takes {bytes}"));
    }
    one(TensorType::new(arguments.tensor("lut")?.data_type, &shape))
}

fn packed_sparse(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (shape, count) = stored_shape(arguments)?;
    let mask = vector_length(arguments, "mask")?;
    if mask != count.div_ceil(8) {
        return Err(format!("`mask` has {mask} bytes, but {shape:?} has {count} elements"));
    }
    let nonzero = vector_length(arguments, "nonzero_data")?;
    if nonzero > count {
        return Err(format!("{nonzero} nonzero elements do not fit {shape:?}"));
    }
    one(TensorType::new(arguments.tensor("nonzero_data")?.data_type, &shape))
}

/// Checks a table against the shape that it is looked up for, and gives the shape of the result.
///
/// `lut` has the rank of `indices` plus two: groups along each axis, entries, and the vector that
/// an entry holds.
fn looked_up(
    arguments: &Arguments<'_>,
    indices: &str,
    shape: &[u64],
    bits: DataType,
) -> Result<Vec<u64>, String> {
    let lut = sizes(arguments, "lut")?;
    let lut_type = arguments.tensor("lut")?;
    let wrong = |reason: String| Err(format!("`lut` is {lut_type}: {reason}"));
    if shape.is_empty() || lut.len() != shape.len() + 2 {
        return wrong(format!("its rank must be that of `{indices}` plus two"));
    }
    let (groups, tail) = lut.split_at(shape.len());
    let (entries, vector) = (tail[0], tail[1]);
    for (axis, (group, size)) in groups.iter().zip(shape).enumerate() {
        if *group == 0 || size % group != 0 {
            return wrong(format!("{group} groups do not divide axis {axis} of size {size}"));
        }
    }
    let bit_count = bits.bits().unwrap_or(0);
    if Some(entries) != 1_u64.checked_shl(bit_count) {
        return wrong(format!("indices of type {bits} take {} entries", 1_u64 << bit_count));
    }
    let mut result = shape.to_vec();
    if arguments.has("vector_axis") {
        let axis = arguments.axis("vector_axis", 0, shape.len())?;
        let grown = result[axis].checked_mul(vector);
        result[axis] = grown.ok_or("the result is too large")?;
    } else if vector != 1 {
        return wrong("vectors of more than one element need `vector_axis`".to_owned());
    }
    if vector == 0 {
        return wrong("its vectors are empty".to_owned());
    }
    Ok(result)
}

fn lut(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let shape = sizes(arguments, "indices")?;
    let bits = arguments.tensor("indices")?.data_type;
    let result = looked_up(arguments, "indices", &shape, bits)?;
    one(TensorType::new(arguments.tensor("lut")?.data_type, &result))
}

/// Scale and offset have the rank of the data, and each of their sizes divides the data's.
fn check_blocks(arguments: &Arguments<'_>, shape: &[u64], kind: DataType) -> Result<(), String> {
    let scale = arguments.tensor("scale")?;
    let scales = sizes(arguments, "scale")?;
    let fits = !shape.is_empty()
        && scales.len() == shape.len()
        && scales.iter().zip(shape).all(|(scale, size)| *scale != 0 && size % scale == 0);
    if !fits {
        return Err(format!("`scale` is {scale}, whose sizes do not divide {shape:?}"));
    }
    if let Some(offset) = arguments.optional_tensor("offset")? {
        if offset.shape != scale.shape {
            return Err(format!("`offset` is {offset}, but `scale` is {scale}"));
        }
        if !offset.data_type.is_float() && offset.data_type != kind {
            return Err(format!("`offset` is {offset}, but the data are {kind}"));
        }
    }
    Ok(())
}

fn shift_scale(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let data = arguments.tensor("data")?;
    check_blocks(arguments, &sizes(arguments, "data")?, data.data_type)?;
    one(data.with_data_type(arguments.tensor("scale")?.data_type))
}

/// No more nonzero elements than the mask has places.
fn check_sparse(arguments: &Arguments<'_>, mask: &str, nonzero: &str) -> Result<(), String> {
    let places = element_count(&sizes(arguments, mask)?).ok_or("the mask is too large")?;
    let count = vector_length(arguments, nonzero)?;
    if count > places {
        return Err(format!("{count} nonzero elements do not fit a mask of {places}"));
    }
    Ok(())
}

fn sparse(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    check_sparse(arguments, "mask", "nonzero_data")?;
    let kind = arguments.tensor("nonzero_data")?.data_type;
    one(arguments.tensor("mask")?.with_data_type(kind))
}

/// A mask and the nonzero elements, whose number grows with the vectors of the table.
fn lut_sparse(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    check_sparse(arguments, "indices_mask", "indices_nonzero_data")?;
    let mask = sizes(arguments, "indices_mask")?;
    let bits = arguments.tensor("indices_nonzero_data")?.data_type;
    let result = looked_up(arguments, "indices_mask", &mask, bits)?;
    let lut = arguments.tensor("lut")?;
    let vector = lut.shape.last().and_then(|size| size.fixed()).unwrap_or(1);
    let count = vector_length(arguments, "indices_nonzero_data")?.checked_mul(vector);
    let count = Dimension::Fixed(count.ok_or("the result is too large")?);
    Ok(vec![
        TensorType::new(UInt1, &result).into(),
        TensorType::with_shape(lut.data_type, vec![count]).into(),
    ])
}

fn sparse_shift_scale(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    check_sparse(arguments, "data_mask", "nonzero_data")?;
    let mask = arguments.tensor("data_mask")?;
    let data = arguments.tensor("nonzero_data")?;
    check_blocks(arguments, &sizes(arguments, "data_mask")?, data.data_type)?;
    let kind = arguments.tensor("scale")?.data_type;
    Ok(vec![mask.clone().into(), data.with_data_type(kind).into()])
}

const fn old(
    name: &'static str,
    parameters: &'static [Parameter],
    infer: super::Infer,
) -> OpDefinition {
    OpDefinition::new(name, parameters, infer).since(Opset::CoreML6).placed(Placement::Attributes)
}

const fn new(
    name: &'static str,
    parameters: &'static [Parameter],
    infer: super::Infer,
) -> OpDefinition {
    OpDefinition::new(name, parameters, infer)
        .since(Opset::CoreML8)
        .placed(Placement::ConstantInputs)
}

pub(super) const OPS: &[OpDefinition] = &[
    old("constexpr_affine_dequantize", AFFINE, affine),
    old("constexpr_cast", CAST, cast),
    new("constexpr_cast", CAST, cast),
    old("constexpr_lut_to_dense", PACKED_LUT, packed_lut),
    new("constexpr_lut_to_dense", LUT, lut),
    old("constexpr_sparse_to_dense", PACKED_SPARSE, packed_sparse),
    new("constexpr_sparse_to_dense", SPARSE, sparse),
    new("constexpr_blockwise_shift_scale", SHIFT_SCALE, shift_scale),
    new("constexpr_lut_to_sparse", LUT_SPARSE, lut_sparse),
    new("constexpr_sparse_blockwise_shift_scale", SPARSE_SHIFT_SCALE, sparse_shift_scale),
];
