//! Parts of tensors: `slice_by_index`, `slice_by_size`, `slice_update`, `split`.

use super::arguments::{Arguments, one};
use super::{Movement, OpDefinition, Opset, Parameter, domains};
use crate::types::{Dimension, ShapeText, TensorType, ValueType};

const BY_INDEX: &[Parameter] = &[
    Parameter::tensor("x", domains::WIDE),
    Parameter::tensor("begin", domains::POSITION),
    Parameter::tensor("end", domains::POSITION),
    Parameter::setting("stride", domains::POSITION),
    Parameter::setting("begin_mask", domains::BOOL),
    Parameter::setting("end_mask", domains::BOOL),
    Parameter::setting("squeeze_mask", domains::BOOL),
];
const UPDATE: &[Parameter] = &[
    Parameter::tensor("x", domains::WIDE),
    Parameter::tensor("update", domains::WIDE),
    Parameter::tensor("begin", domains::POSITION),
    Parameter::tensor("end", domains::POSITION),
    Parameter::setting("stride", domains::POSITION),
    Parameter::setting("begin_mask", domains::BOOL),
    Parameter::setting("end_mask", domains::BOOL),
    Parameter::setting("squeeze_mask", domains::BOOL),
];
const BY_SIZE: &[Parameter] = &[
    Parameter::tensor("x", domains::WIDE),
    Parameter::tensor("begin", domains::POSITION),
    Parameter::tensor("size", domains::POSITION),
];
const SPLIT: &[Parameter] = &[
    Parameter::tensor("x", domains::WIDE),
    Parameter::setting("num_splits", domains::INT32),
    Parameter::setting("split_sizes", domains::INT32),
    Parameter::constant("axis", domains::INT32),
];

/// Bounds of a slice, one entry an axis; `None` where a bound is known only at run time.
struct SliceBounds {
    begin: Option<Vec<i64>>,
    end: Option<Vec<i64>>,
    stride: Vec<i64>,
    begin_mask: Vec<bool>,
    end_mask: Vec<bool>,
    squeeze_mask: Vec<bool>,
}

impl SliceBounds {
    /// Reads the bounds of a slice of a tensor of this rank.
    fn read(arguments: &Arguments<'_>, rank: usize) -> Result<Self, String> {
        let vector = |name: &str| -> Result<Option<Vec<i64>>, String> {
            let Some(tensor) = arguments.optional_tensor(name)? else { return Ok(None) };
            if !matches!(tensor.shape[..], [size] if size.could_equal((rank as u64).into())) {
                return Err(format!("`{name}` is {tensor}, but needs {rank} entries"));
            }
            arguments.integers(name)
        };
        let mask = |name: &str| -> Result<Vec<bool>, String> {
            match arguments.bools(name)? {
                None => Ok(vec![false; rank]),
                Some(mask) if mask.len() == rank => Ok(mask),
                Some(mask) => Err(format!("`{name}` has {} entries, not {rank}", mask.len())),
            }
        };
        let stride = match vector("stride")? {
            Some(stride) => stride,
            None if arguments.has("stride") => {
                return Err("the value of parameter `stride` must stand in the program".to_owned());
            }
            None => vec![1; rank],
        };
        if stride.contains(&0) {
            return Err("`stride` holds a zero".to_owned());
        }
        Ok(Self {
            begin: vector("begin")?,
            end: vector("end")?,
            stride,
            begin_mask: mask("begin_mask")?,
            end_mask: mask("end_mask")?,
            squeeze_mask: mask("squeeze_mask")?,
        })
    }
}

/// Shape of a slice of `x`; sizes that depend on run-time bounds come from `fresh`.
fn slice_shape(
    x: &[Dimension],
    bounds: &SliceBounds,
    fresh: &dyn Fn() -> Dimension,
) -> Result<Vec<Dimension>, String> {
    let mut shape = Vec::with_capacity(x.len());
    for (axis, size) in x.iter().enumerate() {
        let stride = bounds.stride[axis];
        let bound = |values: &Option<Vec<i64>>| values.as_ref().map(|values| values[axis]);
        let begin = if bounds.begin_mask[axis] { None } else { bound(&bounds.begin) };
        let end = if bounds.end_mask[axis] { None } else { bound(&bounds.end) };
        if bounds.squeeze_mask[axis] {
            // The one index is taken whatever `end` says.
            if let (Some(begin), Some(size)) = (begin, size.fixed()) {
                let size = i128::from(size);
                if !(-size..size).contains(&i128::from(begin)) {
                    return Err(format!("index {begin} is outside axis {axis} of size {size}"));
                }
            }
            continue;
        }
        if let (Some(begin @ 0..), Some(end @ 0..)) = (begin, end)
            && stride > 0
            && end < begin
        {
            return Err(format!("axis {axis} ends ({end}) before it begins ({begin})"));
        }
        let runtime = (begin.is_none() && !bounds.begin_mask[axis])
            || (end.is_none() && !bounds.end_mask[axis]);
        shape.push(match size {
            Dimension::Fixed(1) if runtime => Dimension::Fixed(1),
            _ if runtime => fresh(),
            Dimension::Fixed(size) => Dimension::Fixed(count(*size, begin, end, stride)),
            Dimension::Symbol(_) => symbolic(*size, begin, end, stride, fresh),
        });
    }
    Ok(shape)
}

/// Number of indices of a slice of an axis; a bound that is `None` lies at the axis' end.
fn count(size: u64, begin: Option<i64>, end: Option<i64>, stride: i64) -> u64 {
    let (size, stride) = (i128::from(size), i128::from(stride));
    let (low, high) = if stride > 0 { (0, size) } else { (-1, size - 1) };
    let place = |bound: Option<i64>, default: i128| match bound.map(i128::from) {
        None => default,
        Some(bound) if bound < 0 => (bound + size).clamp(low, high),
        Some(bound) => bound.clamp(low, high),
    };
    let (first, last) = if stride > 0 { (low, high) } else { (high, low) };
    let distance = (place(end, last) - place(begin, first)) * stride.signum();
    let step = stride.abs();
    let steps = (distance.max(0) + step - 1) / step;
    u64::try_from(steps).unwrap_or(0)
}

/// A slice of an axis of unknown size has a known size only in a few forms.
fn symbolic(
    size: Dimension,
    begin: Option<i64>,
    end: Option<i64>,
    stride: i64,
    fresh: &dyn Fn() -> Dimension,
) -> Dimension {
    match (begin, end) {
        (None | Some(0), None) if stride.abs() == 1 && (begin.is_none() || stride == 1) => size,
        (Some(-1), None) if stride > 0 => Dimension::Fixed(1),
        (Some(begin), Some(end))
            if (begin >= 0) == (end >= 0) && end.checked_sub(begin) == Some(1) =>
        {
            Dimension::Fixed(1)
        }
        _ => fresh(),
    }
}

fn by_index(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let bounds = SliceBounds::read(arguments, x.rank())?;
    let shape = slice_shape(&x.shape, &bounds, &|| arguments.fresh())?;
    one(TensorType::with_shape(x.data_type, shape))
}

fn update(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, update) = (arguments.tensor("x")?, arguments.tensor("update")?);
    if x.data_type != update.data_type {
        return Err(format!("x is {x}, but update is {update}"));
    }
    if update.rank() == 0 {
        return Err("update is a scalar, which slice_update does not take".to_owned());
    }
    let bounds = SliceBounds::read(arguments, x.rank())?;
    let part = slice_shape(&x.shape, &bounds, &|| arguments.fresh())?;
    let fits = part.len() == update.rank()
        && part.iter().zip(&update.shape).all(|(left, right)| left.could_equal(*right));
    if !fits {
        return Err(format!("the slice has shape {}, but update is {update}", ShapeText(&part)));
    }
    // What is known only at run time still cannot exceed the axis.
    let kept = x.shape.iter().zip(&bounds.squeeze_mask).filter(|(_, squeezed)| !**squeezed);
    for ((size, _), new) in kept.zip(&update.shape) {
        if let (Some(size), Some(new)) = (size.fixed(), new.fixed())
            && new > size
        {
            return Err(format!("update {update} is larger than x {x}"));
        }
    }
    one(x.clone())
}

fn by_size(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    for name in ["begin", "size"] {
        let tensor = arguments.tensor(name)?;
        if !matches!(tensor.shape[..], [size] if size.could_equal((x.rank() as u64).into())) {
            return Err(format!("`{name}` is {tensor}, but needs {} entries", x.rank()));
        }
    }
    let (begin, sizes) = (arguments.integers("begin")?, arguments.integers("size")?);
    let mut shape = Vec::with_capacity(x.rank());
    for (axis, size) in x.shape.iter().enumerate() {
        let begin = begin.as_ref().map(|begin| begin[axis]);
        let begin = match (begin, size.fixed()) {
            (Some(begin), Some(size)) if begin < 0 => begin.checked_add_unsigned(size),
            (begin, _) => begin,
        };
        let room = match (begin, size.fixed()) {
            (Some(begin), Some(size)) => match u64::try_from(begin) {
                Ok(begin) if begin <= size => Some(size - begin),
                _ => return Err(format!("axis {axis} of {x} does not reach {begin}")),
            },
            _ => None,
        };
        shape.push(match sizes.as_ref().map(|sizes| sizes[axis]) {
            None => arguments.fresh(),
            // -1 takes the rest.
            Some(-1) => room.map_or_else(|| arguments.fresh(), Dimension::Fixed),
            Some(wanted) => match u64::try_from(wanted) {
                Ok(wanted) if room.is_none_or(|room| wanted <= room) => Dimension::Fixed(wanted),
                _ => return Err(format!("axis {axis} of {x} has no {wanted} elements there")),
            },
        });
    }
    one(TensorType::with_shape(x.data_type, shape))
}

/// More pieces than this are no program's wish.
const MAXIMUM_PIECES: u64 = 65_536;

fn split(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let axis = arguments.axis("axis", 0, x.rank())?;
    let sizes: Vec<Dimension> = if arguments.has("split_sizes") {
        let sizes = arguments
            .known_integers("split_sizes")?
            .into_iter()
            .map(|size| u64::try_from(size).map_err(|_| format!("a piece has size {size}")))
            .collect::<Result<Vec<u64>, _>>()?;
        let sum = sizes.iter().try_fold(0_u64, |sum, size| sum.checked_add(*size));
        if x.shape[axis].fixed().is_some_and(|size| sum != Some(size)) {
            return Err(format!("pieces {sizes:?} do not make axis {axis} of {x}"));
        }
        if arguments.has("num_splits") && arguments.integer("num_splits", 0)? != sizes.len() as i64
        {
            return Err("`num_splits` is not the number of `split_sizes`".to_owned());
        }
        sizes.into_iter().map(Dimension::Fixed).collect()
    } else {
        let pieces = arguments.integer("num_splits", 0)?;
        let pieces = u64::try_from(pieces).ok().filter(|p| (1..=MAXIMUM_PIECES).contains(p));
        let pieces = pieces.ok_or("`num_splits` or `split_sizes` must say how to split")?;
        let size = match x.shape[axis] {
            Dimension::Fixed(size) if size % pieces == 0 => Dimension::Fixed(size / pieces),
            Dimension::Fixed(size) => {
                return Err(format!("axis {axis} of size {size} does not split in {pieces}"));
            }
            Dimension::Symbol(_) => arguments.fresh(),
        };
        (0..pieces).map(|_| size).collect()
    };
    Ok(sizes
        .into_iter()
        .map(|size| {
            let mut shape = x.shape.clone();
            shape[axis] = size;
            TensorType::with_shape(x.data_type, shape).into()
        })
        .collect())
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("slice_by_index", BY_INDEX, by_index).moving(Movement::Parts),
    OpDefinition::new("slice_by_size", BY_SIZE, by_size).moving(Movement::Parts),
    OpDefinition::new("slice_update", UPDATE, update).since(Opset::CoreML8).moving(Movement::Parts),
    OpDefinition::new("split", SPLIT, split).moving(Movement::Parts),
];

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_follow_python_slices() {
        assert_eq!(count(10, Some(2), Some(5), 1), 3);
        assert_eq!(count(10, Some(-3), None, 1), 3);
        assert_eq!(count(10, None, Some(-3), 2), 4);
        assert_eq!(count(10, None, None, -1), 10);
        assert_eq!(count(10, Some(5), Some(2), -1), 3);
        assert_eq!(count(10, Some(5), Some(100), 3), 2);
        assert_eq!(count(10, Some(5), Some(2), 1), 0);
        assert_eq!(count(u64::MAX, Some(i64::MIN), Some(i64::MAX), i64::MIN), 0);
        assert_eq!(count(4, Some(-100), Some(100), i64::MAX), 1);
    }
}
