//! Operations that only change the shape or the order of axes.

use super::arguments::{Arguments, one, product, resolve_axis};
use super::{Movement, OpDefinition, Parameter, domains};
use crate::types::{Dimension, TensorType, ValueType};

const RESHAPE: &[Parameter] =
    &[Parameter::tensor("x", domains::WIDE), Parameter::tensor("shape", domains::POSITION)];
const TRANSPOSE: &[Parameter] =
    &[Parameter::tensor("x", domains::WIDE), Parameter::constant("perm", domains::INT32)];
const EXPAND: &[Parameter] =
    &[Parameter::tensor("x", domains::WIDE), Parameter::constant("axes", domains::INT32)];
const AXES: &[Parameter] =
    &[Parameter::tensor("x", domains::WIDE), Parameter::setting("axes", domains::INT32)];
const FLATTEN: &[Parameter] =
    &[Parameter::tensor("x", domains::WIDE), Parameter::setting("axis", domains::INT32)];
const PIXEL_SHUFFLE: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::constant("upscale_factor", &[crate::DataType::Int32, crate::DataType::UInt32]),
];
const DEPTH_TO_SPACE: &[Parameter] =
    &[Parameter::tensor("x", domains::FLOAT), Parameter::constant("block_size", domains::INT32)];

/// -1 is the rest, 0 the size of that axis of `x`.
fn reshape(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, shape) = (arguments.tensor("x")?, arguments.tensor("shape")?);
    let Some(sizes) = arguments.integers("shape")? else {
        // Only the rank is known.
        let [Dimension::Fixed(rank)] = shape.shape[..] else {
            return Err(format!("shape is {shape}, but must be a vector of known length"));
        };
        if rank > crate::types::MAXIMUM_RANK as u64 {
            return Err(format!("rank {rank} is too large"));
        }
        let shape = (0..rank).map(|_| arguments.fresh()).collect();
        return one(TensorType::with_shape(x.data_type, shape));
    };
    let mut target = Vec::with_capacity(sizes.len());
    let mut rest = None;
    for (place, size) in sizes.iter().enumerate() {
        target.push(match (size, u64::try_from(*size)) {
            (-1, _) if rest.replace(place).is_some() => {
                return Err(format!("shape {sizes:?} leaves two sizes open"));
            }
            (-1, _) => Dimension::Fixed(1),
            (0, _) => *x
                .shape
                .get(place)
                .ok_or_else(|| format!("shape {sizes:?} keeps axis {place}, which {x} lacks"))?,
            (_, Ok(size)) => Dimension::Fixed(size),
            (_, Err(_)) => return Err(format!("shape {sizes:?} holds a negative size")),
        });
    }
    let mismatch = || format!("{x} cannot be reshaped to {sizes:?}");
    // Symbols that stand on both sides cancel; what is left decides.
    let (mut left, mut right) = (x.shape.clone(), target.clone());
    left.retain(|size| match (size, right.iter().position(|other| other == size)) {
        (Dimension::Symbol(_), Some(place)) => {
            right.remove(place);
            false
        }
        _ => true,
    });
    let open: Vec<Dimension> = left.iter().copied().filter(|size| size.fixed().is_none()).collect();
    left.retain(|size| size.fixed().is_some());
    let (have, want) = (product(&left)?, product(&right)?);
    let (Some(have), Some(want)) = (have, want) else {
        // A symbol of the target alone: it came from a kept axis, so sizes cannot be checked.
        if let Some(place) = rest {
            target[place] = arguments.fresh();
        }
        return one(TensorType::with_shape(x.data_type, target));
    };
    match (rest, open.as_slice()) {
        (None, []) if have != want => return Err(mismatch()),
        // Unknown sizes make up for the difference, if it is a whole factor.
        (None, [_, ..]) if have != 0 && want % have != 0 => return Err(mismatch()),
        (None, _) => {}
        (Some(place), []) => {
            target[place] = match have.checked_rem(want) {
                Some(0) => Dimension::Fixed(have / want),
                None if have == 0 => Dimension::Fixed(0),
                _ => return Err(mismatch()),
            };
        }
        (Some(place), [symbol]) if have == want => target[place] = *symbol,
        (Some(place), _) => target[place] = arguments.fresh(),
    }
    one(TensorType::with_shape(x.data_type, target))
}

fn transpose(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let axes = arguments.axes("perm", x.rank())?;
    if axes.len() != x.rank() {
        return Err(format!("perm {axes:?} does not order the axes of {x}"));
    }
    let shape = axes.iter().map(|axis| x.shape[*axis]).collect();
    one(TensorType::with_shape(x.data_type, shape))
}

fn expand_dims(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let count = arguments.known_integers("axes")?.len();
    let rank = x.rank().checked_add(count).filter(|rank| *rank <= crate::types::MAXIMUM_RANK);
    let rank = rank.ok_or_else(|| format!("{count} more axes are too many"))?;
    let axes = arguments.axes("axes", rank)?;
    let mut old = x.shape.iter();
    let mut shape = Vec::with_capacity(rank);
    for axis in 0..rank {
        let size = if axes.contains(&axis) { None } else { old.next() };
        shape.push(size.copied().unwrap_or(Dimension::Fixed(1)));
    }
    one(TensorType::with_shape(x.data_type, shape))
}

fn squeeze(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let given = arguments.has("axes");
    let axes: Vec<usize> = if given {
        arguments.axes("axes", x.rank())?
    } else {
        (0..x.rank()).filter(|axis| x.shape[*axis] == Dimension::Fixed(1)).collect()
    };
    if let Some(axis) = axes.iter().find(|axis| !x.shape[**axis].could_equal(Dimension::Fixed(1))) {
        return Err(format!("axis {axis} of {x} has not size 1"));
    }
    let shape = x
        .shape
        .iter()
        .enumerate()
        .filter(|(axis, _)| !axes.contains(axis))
        .map(|(_, size)| *size)
        .collect();
    one(TensorType::with_shape(x.data_type, shape))
}

fn reverse(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    arguments.axes("axes", x.rank())?;
    one(x.clone())
}

fn flatten(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let axis = arguments.integer("axis", 1)?;
    // The axis may stand behind the last one: then all goes into the first.
    let axis = if axis == x.rank() as i64 { x.rank() } else { resolve_axis(axis, x.rank())? };
    let (rows, columns) = x.shape.split_at(axis);
    let shape = [rows, columns]
        .iter()
        .map(|part| match (part, product(part)?) {
            ([only], _) => Ok(*only),
            (_, Some(size)) => Ok(Dimension::Fixed(size)),
            (_, None) => Ok(arguments.fresh()),
        })
        .collect::<Result<Vec<_>, String>>()?;
    one(TensorType::with_shape(x.data_type, shape))
}

/// (batch, channels, height, width) to (batch, channels / f², height f, width f).
fn to_space(arguments: &Arguments<'_>, name: &str) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let factor = arguments.integer(name, 1)?;
    let factor = u64::try_from(factor).ok().filter(|factor| *factor > 0);
    let (Some(factor), &[batch, channels, height, width]) = (factor, x.shape.as_slice()) else {
        return Err(format!("x is {x}, `{name}` does not fit it"));
    };
    let area = factor.checked_mul(factor).ok_or_else(|| format!("`{name}` is too large"))?;
    let grown = |size: Dimension| match size {
        Dimension::Fixed(size) => size
            .checked_mul(factor)
            .map(Dimension::Fixed)
            .ok_or_else(|| format!("`{name}` is too large")),
        Dimension::Symbol(_) => Ok(arguments.fresh()),
    };
    let channels = match channels {
        Dimension::Fixed(size) if size % area == 0 => Dimension::Fixed(size / area),
        Dimension::Fixed(size) => {
            return Err(format!("{size} channels are not a multiple of {area}"));
        }
        Dimension::Symbol(_) => arguments.fresh(),
    };
    let shape = vec![batch, channels, grown(height)?, grown(width)?];
    one(TensorType::with_shape(x.data_type, shape))
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("depth_to_space", DEPTH_TO_SPACE, |a| to_space(a, "block_size")),
    OpDefinition::new("expand_dims", EXPAND, expand_dims).moving(Movement::Whole),
    OpDefinition::new("flatten2d", FLATTEN, flatten),
    OpDefinition::new("pixel_shuffle", PIXEL_SHUFFLE, |a| to_space(a, "upscale_factor")),
    OpDefinition::new("reshape", RESHAPE, reshape).moving(Movement::Whole),
    OpDefinition::new("reverse", AXES, reverse),
    OpDefinition::new("squeeze", AXES, squeeze).moving(Movement::Whole),
    OpDefinition::new("transpose", TRANSPOSE, transpose).moving(Movement::Whole),
];
