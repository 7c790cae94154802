//! Making, joining and repeating tensors.

use super::arguments::{Arguments, one, resolve_axis};
use super::{Movement, OpDefinition, Opset, Parameter, domains};
use crate::dtype::DataType;
use crate::types::{Dimension, MAXIMUM_RANK, TensorType, ValueType};

const CONCAT: &[Parameter] = &[
    Parameter::tensors("values"),
    Parameter::constant("axis", domains::INT32),
    Parameter::setting("interleave", domains::BOOL),
];
const STACK: &[Parameter] =
    &[Parameter::tensors("values"), Parameter::constant("axis", domains::INT32)];
const TILE: &[Parameter] =
    &[Parameter::tensor("x", domains::WIDE), Parameter::tensor("reps", domains::INT32)];
const PAD: &[Parameter] = &[
    Parameter::tensor("x", domains::NUMBER),
    Parameter::tensor("pad", domains::INT32),
    Parameter::setting("mode", domains::STRING),
    Parameter::setting("constant_val", domains::NUMBER),
];
const FILL: &[Parameter] =
    &[Parameter::tensor("shape", domains::INT32), Parameter::setting("value", domains::WIDE)];
const FILL_LIKE: &[Parameter] =
    &[Parameter::tensor("ref_tensor", domains::WIDE), Parameter::setting("value", domains::WIDE)];
const RANGE: &[Parameter] = &[
    Parameter::tensor("start", domains::NUMBER),
    Parameter::tensor("end", domains::NUMBER),
    Parameter::tensor("step", domains::NUMBER),
];
const SHAPE: &[Parameter] = &[
    Parameter::tensor("x", domains::ANY),
    Parameter::setting("output_dtype", domains::STRING).since(Opset::CoreML7),
];
const BAND: &[Parameter] = &[
    Parameter::tensor("x", domains::WIDE),
    Parameter::setting("lower", domains::INT32),
    Parameter::setting("upper", domains::INT32),
];
const ONE_HOT: &[Parameter] = &[
    Parameter::tensor("indices", domains::INT32),
    Parameter::tensor("one_hot_vector_size", domains::INT32),
    Parameter::setting("axis", domains::INT32),
    Parameter::setting("on_value", domains::WIDE),
    Parameter::setting("off_value", domains::WIDE),
];

/// The tensors of `values`, of one element type and rank.
fn values<'a>(arguments: &Arguments<'a>) -> Result<Vec<&'a TensorType>, String> {
    let tensors: Vec<&TensorType> =
        arguments.operands("values").iter().filter_map(|operand| operand.kind.tensor()).collect();
    let first = tensors.first().ok_or("`values` is empty")?;
    for tensor in &tensors {
        if tensor.data_type != first.data_type || tensor.rank() != first.rank() {
            return Err(format!("`values` holds both {first} and {tensor}"));
        }
    }
    Ok(tensors)
}

fn concat(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let tensors = values(arguments)?;
    let first = tensors[0];
    if first.rank() == 0 {
        resolve_axis(arguments.integer("axis", 0)?, 1)?;
        return one(TensorType::new(first.data_type, &[tensors.len() as u64]));
    }
    let axis = arguments.axis("axis", 0, first.rank())?;
    let interleave = arguments.boolean("interleave", false)?;
    let mut shape = first.shape.clone();
    let mut sum = Some(0_u64);
    for tensor in &tensors {
        for (place, size) in tensor.shape.iter().enumerate() {
            if place == axis && !interleave {
                continue;
            }
            if !shape[place].could_equal(*size) {
                return Err(format!("{first} and {tensor} differ beside axis {axis}"));
            }
            // A known size is better than none.
            if shape[place].fixed().is_none() && place != axis {
                shape[place] = *size;
            }
        }
        sum = match (sum, tensor.shape[axis]) {
            (Some(sum), Dimension::Fixed(size)) => {
                Some(sum.checked_add(size).ok_or("the joined axis is too large")?)
            }
            _ => None,
        };
    }
    shape[axis] = match (sum, tensors.len()) {
        (Some(sum), _) => Dimension::Fixed(sum),
        (None, 1) => first.shape[axis],
        (None, _) => arguments.fresh(),
    };
    one(TensorType::with_shape(first.data_type, shape))
}

fn stack(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let tensors = values(arguments)?;
    let mut shape = tensors[0].shape.clone();
    for tensor in &tensors {
        for (known, size) in shape.iter_mut().zip(&tensor.shape) {
            if !known.could_equal(*size) {
                return Err(format!("`values` holds both {} and {tensor}", tensors[0]));
            }
            if known.fixed().is_none() {
                *known = *size;
            }
        }
    }
    let axis = arguments.axis("axis", 0, shape.len() + 1)?;
    shape.insert(axis, Dimension::Fixed(tensors.len() as u64));
    one(TensorType::with_shape(tensors[0].data_type, shape))
}

fn tile(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let Some(repetitions) = arguments.integers("reps")? else {
        let shape = x.shape.iter().map(|_| arguments.fresh()).collect();
        return one(TensorType::with_shape(x.data_type, shape));
    };
    if repetitions.len() != x.rank() {
        return Err(format!("reps {repetitions:?} does not fit {x}"));
    }
    let mut shape = Vec::with_capacity(x.rank());
    for (size, count) in x.shape.iter().zip(&repetitions) {
        let count = u64::try_from(*count)
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| format!("reps {repetitions:?} holds a count below 1"))?;
        shape.push(match size {
            Dimension::Fixed(size) => {
                Dimension::Fixed(size.checked_mul(count).ok_or("the result is too large")?)
            }
            Dimension::Symbol(_) if count == 1 => *size,
            Dimension::Symbol(_) => arguments.fresh(),
        });
    }
    one(TensorType::with_shape(x.data_type, shape))
}

/// `pad` holds before and after for the last axes.
fn pad(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, pad) = (arguments.tensor("x")?, arguments.tensor("pad")?);
    let mode = arguments.text("mode", "constant")?;
    if !["constant", "reflect", "replicate"].contains(&mode.as_str()) {
        return Err(format!("{mode:?} is not a mode of pad"));
    }
    let mut shape = x.shape.clone();
    let Some(amounts) = arguments.integers("pad")? else {
        let wanted = Dimension::Fixed(2 * x.rank() as u64);
        if !matches!(pad.shape[..], [size] if size.could_equal(wanted)) {
            return Err(format!("pad is {pad}, but needs {wanted} entries"));
        }
        shape.fill_with(|| arguments.fresh());
        return one(TensorType::with_shape(x.data_type, shape));
    };
    let axes = amounts.len() / 2;
    if !amounts.len().is_multiple_of(2) || axes > x.rank() {
        return Err(format!("pad {amounts:?} does not fit {x}"));
    }
    let start = x.rank() - axes;
    for (size, pair) in shape[start..].iter_mut().zip(amounts.as_chunks::<2>().0) {
        let amount = pair.iter().try_fold(0_u64, |sum, amount| {
            u64::try_from(*amount).ok().and_then(|amount| sum.checked_add(amount))
        });
        let amount = amount.ok_or_else(|| format!("pad {amounts:?} holds a bad amount"))?;
        *size = match *size {
            Dimension::Fixed(size) => {
                Dimension::Fixed(size.checked_add(amount).ok_or("the result is too large")?)
            }
            symbol @ Dimension::Symbol(_) if amount == 0 => symbol,
            Dimension::Symbol(_) => arguments.fresh(),
        };
    }
    one(TensorType::with_shape(x.data_type, shape))
}

fn fill(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let kind = arguments.optional_tensor("value")?.map_or(DataType::Float32, |v| v.data_type);
    let shape = match arguments.integers("shape")? {
        Some(sizes) => sizes
            .iter()
            .map(|size| u64::try_from(*size).map(Dimension::Fixed))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| format!("shape {sizes:?} holds a negative size"))?,
        None => match arguments.tensor("shape")?.shape[..] {
            [Dimension::Fixed(rank)] if rank <= MAXIMUM_RANK as u64 => {
                (0..rank).map(|_| arguments.fresh()).collect()
            }
            _ => return Err("`shape` must be a vector of known length".to_owned()),
        },
    };
    one(TensorType::with_shape(kind, shape))
}

fn fill_like(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let kind = arguments.optional_tensor("value")?.map_or(DataType::Float32, |v| v.data_type);
    one(arguments.tensor("ref_tensor")?.with_data_type(kind))
}

fn range_1d(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let kind = arguments.tensor("start")?.data_type;
    let mut known = Vec::new();
    for name in ["start", "end", "step"] {
        let tensor = arguments.tensor(name)?;
        if tensor.rank() != 0 || tensor.data_type != kind {
            return Err(format!("`{name}` is {tensor}, but must be a scalar of type {kind}"));
        }
        if kind.is_integer()
            && let Some([value]) = arguments.integers(name)?.as_deref()
        {
            known.push(*value);
        }
    }
    let size = match known[..] {
        [_, _, 0] => return Err("`step` is zero".to_owned()),
        [start, end, step] => {
            let (start, end, step) = (i128::from(start), i128::from(end), i128::from(step));
            let distance = ((end - start) * step.signum()).max(0);
            let count = (distance + step.abs() - 1) / step.abs();
            Dimension::Fixed(u64::try_from(count).map_err(|_| "the range is too long")?)
        }
        _ => arguments.fresh(),
    };
    one(TensorType::with_shape(kind, vec![size]))
}

fn shape(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let allowed = &[DataType::Int32, DataType::Int16, DataType::UInt16];
    let kind = arguments.data_type("output_dtype", DataType::Int32, allowed)?;
    one(TensorType::new(kind, &[arguments.tensor("x")?.rank() as u64]))
}

fn band_part(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    if x.rank() < 2 {
        return Err(format!("x is {x}, which has no diagonal"));
    }
    arguments.integer("lower", -1)?;
    arguments.integer("upper", -1)?;
    one(x.clone())
}

fn one_hot(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let indices = arguments.tensor("indices")?;
    let on = arguments.optional_tensor("on_value")?.map(|tensor| tensor.data_type);
    let off = arguments.optional_tensor("off_value")?.map(|tensor| tensor.data_type);
    if let (Some(on), Some(off)) = (on, off)
        && on != off
    {
        return Err(format!("`on_value` is {on}, but `off_value` is {off}"));
    }
    let size = match arguments.integers("one_hot_vector_size")?.as_deref() {
        None => arguments.fresh(),
        Some([size]) => {
            Dimension::Fixed(u64::try_from(*size).map_err(|_| format!("the size is {size}"))?)
        }
        Some(_) => return Err("`one_hot_vector_size` must be a scalar".to_owned()),
    };
    let mut shape = indices.shape.clone();
    let axis = arguments.axis("axis", -1, shape.len() + 1)?;
    shape.insert(axis, size);
    one(TensorType::with_shape(on.or(off).unwrap_or(DataType::Int32), shape))
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("band_part", BAND, band_part).on_cpu(),
    OpDefinition::new("concat", CONCAT, concat).moving(Movement::Parts).arithmetic(),
    OpDefinition::new("fill", FILL, fill),
    OpDefinition::new("fill_like", FILL_LIKE, fill_like).since(Opset::CoreML6),
    OpDefinition::new("one_hot", ONE_HOT, one_hot).on_cpu(),
    OpDefinition::new("pad", PAD, pad),
    OpDefinition::new("range_1d", RANGE, range_1d).on_cpu(),
    OpDefinition::new("shape", SHAPE, shape),
    OpDefinition::new("stack", STACK, stack),
    OpDefinition::new("tile", TILE, tile).moving(Movement::Parts),
];
