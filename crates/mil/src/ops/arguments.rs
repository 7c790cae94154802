//! Arguments of one operation, as inference sees them.

use crate::dtype::DataType;
use crate::literal::Literal;
use crate::types::{Dimension, Symbols, TensorType, ValueType};
use coreml_proto::mil;

/// When the value of an operand is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// While the model runs.
    Runtime,
    /// A constant: a value, a value of the weight file, or the output of a `const`.
    Constant,
    /// The output of a constexpr operation: made once from stored data.
    Constexpr,
}

/// One value bound to a parameter.
#[derive(Clone, Debug)]
pub struct Operand<'a> {
    /// Name for messages, in back quotes, or "the value".
    pub label: String,
    /// Its type.
    pub kind: &'a ValueType,
    /// When its value is known.
    pub origin: Origin,
    /// The value, where it is constant.
    pub value: Option<&'a mil::Value>,
}

/// All arguments of one operation, by parameter.
#[derive(Debug)]
pub struct Arguments<'a> {
    entries: Vec<(&'a str, Vec<Operand<'a>>)>,
    symbols: &'a Symbols,
}

impl<'a> Arguments<'a> {
    /// No arguments yet; unknown sizes come from `symbols`.
    pub const fn new(symbols: &'a Symbols) -> Self {
        Self { entries: Vec::new(), symbols }
    }

    /// Binds operands to a parameter. A name bound twice would be two entries; callers take names
    /// from a map.
    pub fn bind(&mut self, name: &'a str, operands: Vec<Operand<'a>>) {
        self.entries.push((name, operands));
    }

    /// Parameters with their operands.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &[Operand<'a>])> {
        self.entries.iter().map(|(name, operands)| (*name, operands.as_slice()))
    }

    /// A size that is equal to no other.
    pub fn fresh(&self) -> Dimension {
        self.symbols.fresh()
    }

    /// The first operand of a parameter.
    pub fn operand(&self, name: &str) -> Option<&Operand<'a>> {
        self.operands(name).first()
    }

    /// All operands of a parameter; empty if it is not given.
    pub fn operands(&self, name: &str) -> &[Operand<'a>] {
        match self.entries.iter().find(|(entry, _)| *entry == name) {
            Some((_, operands)) => operands,
            None => &[],
        }
    }

    /// Whether the parameter is given.
    pub fn has(&self, name: &str) -> bool {
        self.operand(name).is_some()
    }

    /// The tensor type of a given parameter.
    pub fn tensor(&self, name: &str) -> Result<&'a TensorType, String> {
        let operand = self.operand(name).ok_or_else(|| format!("parameter `{name}` is missing"))?;
        operand.kind.tensor().ok_or_else(|| format!("parameter `{name}` is not a tensor"))
    }

    /// The tensor type of a parameter that may be left out.
    pub fn optional_tensor(&self, name: &str) -> Result<Option<&'a TensorType>, String> {
        if self.has(name) { self.tensor(name).map(Some) } else { Ok(None) }
    }

    /// The decoded value of a parameter: `None` if it is not given, or not known here (known only
    /// at run time, or in the weight file).
    fn literal(&self, name: &str) -> Result<Option<Literal>, String> {
        let Some(value) = self.operand(name).and_then(|operand| operand.value) else {
            return Ok(None);
        };
        if matches!(value.value, Some(mil::value::Value::BlobFileValue(_))) {
            return Ok(None);
        }
        Literal::from_value(value).map(Some).map_err(|error| format!("parameter `{name}`: {error}"))
    }

    /// Integers of a parameter, where they are known.
    pub fn integers(&self, name: &str) -> Result<Option<Vec<i64>>, String> {
        match self.literal(name)? {
            None => Ok(None),
            Some(literal) => literal
                .integers()
                .map(|values| Some(values.to_vec()))
                .ok_or_else(|| format!("parameter `{name}` holds no integers")),
        }
    }

    /// Integers of a parameter that must be known for the types to be known.
    pub fn known_integers(&self, name: &str) -> Result<Vec<i64>, String> {
        self.integers(name)?.ok_or_else(|| {
            if self.has(name) {
                format!("the value of parameter `{name}` must stand in the program")
            } else {
                format!("parameter `{name}` is missing")
            }
        })
    }

    /// One integer; `default` if the parameter is not given.
    pub fn integer(&self, name: &str, default: i64) -> Result<i64, String> {
        if !self.has(name) {
            return Ok(default);
        }
        match self.known_integers(name)?.as_slice() {
            [value] => Ok(*value),
            values => Err(format!("parameter `{name}` holds {} values, not one", values.len())),
        }
    }

    /// Bools of a parameter; `None` if it is not given. Given, they must be known.
    pub fn bools(&self, name: &str) -> Result<Option<Vec<bool>>, String> {
        if !self.has(name) {
            return Ok(None);
        }
        match self.literal(name)? {
            None => Err(format!("the value of parameter `{name}` must stand in the program")),
            Some(literal) => literal
                .bools()
                .map(|values| Some(values.to_vec()))
                .ok_or_else(|| format!("parameter `{name}` holds no bools")),
        }
    }

    /// One bool; `default` if the parameter is not given.
    pub fn boolean(&self, name: &str, default: bool) -> Result<bool, String> {
        match self.bools(name)?.as_deref() {
            None => Ok(default),
            Some([value]) => Ok(*value),
            Some(values) => {
                Err(format!("parameter `{name}` holds {} values, not one", values.len()))
            }
        }
    }

    /// A string; `default` if the parameter is not given.
    pub fn text(&self, name: &str, default: &str) -> Result<String, String> {
        if !self.has(name) {
            return Ok(default.to_owned());
        }
        match self.literal(name)? {
            None => Err(format!("the value of parameter `{name}` must stand in the program")),
            Some(literal) => literal
                .text()
                .map(str::to_owned)
                .ok_or_else(|| format!("parameter `{name}` holds no string")),
        }
    }

    /// A data type by name; `default` if the parameter is not given.
    pub fn data_type(
        &self,
        name: &str,
        default: DataType,
        allowed: &[DataType],
    ) -> Result<DataType, String> {
        if !self.has(name) {
            return Ok(default);
        }
        let text = self.text(name, "")?;
        DataType::from_name(&text).filter(|kind| allowed.contains(kind)).ok_or_else(|| {
            format!("parameter `{name}` is {text:?}, which is not a type it can give")
        })
    }

    /// An axis of a tensor of this rank, counted from the front; negative ones count from the end.
    pub fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, String> {
        resolve_axis(self.integer(name, default)?, rank)
            .map_err(|error| format!("parameter `{name}`: {error}"))
    }

    /// Distinct axes of a tensor of this rank, in the given order; all of them if the parameter is
    /// not given.
    pub fn axes(&self, name: &str, rank: usize) -> Result<Vec<usize>, String> {
        if !self.has(name) {
            return Ok((0..rank).collect());
        }
        let mut axes = Vec::new();
        for axis in self.known_integers(name)? {
            let axis =
                resolve_axis(axis, rank).map_err(|error| format!("parameter `{name}`: {error}"))?;
            if axes.contains(&axis) {
                return Err(format!("parameter `{name}` names axis {axis} twice"));
            }
            axes.push(axis);
        }
        Ok(axes)
    }
}

/// Turns a possibly negative axis into an index below `rank`.
pub(crate) fn resolve_axis(axis: i64, rank: usize) -> Result<usize, String> {
    let size = i64::try_from(rank).unwrap_or(i64::MAX);
    let index = if axis < 0 { axis.checked_add(size) } else { Some(axis) };
    index
        .filter(|index| (0..size).contains(index))
        .and_then(|index| usize::try_from(index).ok())
        .ok_or_else(|| format!("axis {axis} is outside a tensor of rank {rank}"))
}

/// A list of one tensor type, the common result.
pub(crate) fn one(tensor: TensorType) -> Result<Vec<ValueType>, String> {
    Ok(vec![ValueType::Tensor(tensor)])
}

/// The shape that two shapes broadcast to. An unknown size against a known one above 1 is taken
/// to be that size; two different unknown sizes give a third.
pub(crate) fn broadcast(
    left: &[Dimension],
    right: &[Dimension],
    arguments: &Arguments<'_>,
) -> Result<Vec<Dimension>, String> {
    use crate::types::ShapeText;
    let rank = left.len().max(right.len());
    let at = |shape: &[Dimension], index: usize| {
        (index + shape.len())
            .checked_sub(rank)
            .and_then(|place| shape.get(place).copied())
            .unwrap_or(Dimension::Fixed(1))
    };
    (0..rank)
        .map(|index| match (at(left, index), at(right, index)) {
            (a, b) if a == b => Ok(a),
            (Dimension::Fixed(1), other) | (other, Dimension::Fixed(1)) => Ok(other),
            (Dimension::Fixed(_), Dimension::Fixed(_)) => {
                Err(format!("shapes {} and {} do not broadcast", ShapeText(left), ShapeText(right)))
            }
            (Dimension::Fixed(size), Dimension::Symbol(_))
            | (Dimension::Symbol(_), Dimension::Fixed(size)) => Ok(Dimension::Fixed(size)),
            (Dimension::Symbol(_), Dimension::Symbol(_)) => Ok(arguments.fresh()),
        })
        .collect()
}

/// Product of sizes: `None` if one is unknown, an error on overflow.
pub(crate) fn product(shape: &[Dimension]) -> Result<Option<u64>, String> {
    let Some(sizes) = shape.iter().map(|size| size.fixed()).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    crate::types::element_count(&sizes)
        .map(Some)
        .ok_or_else(|| format!("a tensor of shape {sizes:?} is too large"))
}
