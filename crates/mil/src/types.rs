//! Dimensions and value types, with their protobuf forms.

use crate::dtype::DataType;
use coreml_proto::mil;
use std::fmt;

/// How deep lists, tuples, dictionaries and states may nest in a type.
const MAXIMUM_TYPE_DEPTH: usize = 8;

/// Largest rank that is read at all; real programs stay at 5 (8 for LUTs).
pub const MAXIMUM_RANK: usize = 32;

/// One dimension of a shape. A symbol stands for an unknown size; equal symbols are equal sizes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dimension {
    /// A known size.
    Fixed(u64),
    /// An unknown size, `?` in text.
    Symbol(u32),
}

impl Dimension {
    /// The size where it is known.
    pub const fn fixed(self) -> Option<u64> {
        match self {
            Self::Fixed(size) => Some(size),
            Self::Symbol(_) => None,
        }
    }

    /// Whether the two could be the same size.
    pub fn could_equal(self, other: Self) -> bool {
        match (self, other) {
            (Self::Fixed(left), Self::Fixed(right)) => left == right,
            _ => true,
        }
    }

    fn to_proto(self) -> mil::Dimension {
        use mil::dimension::{ConstantDimension, Dimension as Kind, UnknownDimension};
        let kind = match self {
            Self::Fixed(size) => Kind::Constant(ConstantDimension { size }),
            Self::Symbol(_) => Kind::Unknown(UnknownDimension { variadic: false }),
        };
        mil::Dimension { dimension: Some(kind) }
    }

    fn from_proto(dimension: &mil::Dimension, symbols: &Symbols) -> Result<Self, String> {
        use mil::dimension::Dimension as Kind;
        match &dimension.dimension {
            Some(Kind::Constant(constant)) => Ok(Self::Fixed(constant.size)),
            Some(Kind::Unknown(unknown)) if unknown.variadic => {
                Err("a variadic dimension (unknown rank) is not supported".to_owned())
            }
            Some(Kind::Unknown(_)) => Ok(symbols.fresh()),
            None => Err("a dimension is neither a size nor unknown".to_owned()),
        }
    }
}

impl From<u64> for Dimension {
    fn from(size: u64) -> Self {
        Self::Fixed(size)
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(formatter, "{size}"),
            Self::Symbol(_) => formatter.write_str("?"),
        }
    }
}

/// Gives out symbols that no one has used yet.
#[derive(Debug, Default, Clone)]
pub struct Symbols(std::cell::Cell<u32>);

impl Symbols {
    /// A dimension of unknown size, equal to no other.
    pub fn fresh(&self) -> Dimension {
        let number = self.0.get();
        self.0.set(number.wrapping_add(1));
        Dimension::Symbol(number)
    }

    /// Keeps a symbol, and all below it, from being given out.
    pub fn reserve(&self, symbol: u32) {
        self.0.set(self.0.get().max(symbol.wrapping_add(1)));
    }
}

/// Element type and shape. Rank 0 is a scalar.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TensorType {
    /// Element type.
    pub data_type: DataType,
    /// Dimensions, outermost first.
    pub shape: Vec<Dimension>,
}

impl TensorType {
    /// A tensor of known shape.
    pub fn new(data_type: DataType, shape: &[u64]) -> Self {
        Self { data_type, shape: shape.iter().copied().map(Dimension::Fixed).collect() }
    }

    /// A tensor of any shape.
    pub const fn with_shape(data_type: DataType, shape: Vec<Dimension>) -> Self {
        Self { data_type, shape }
    }

    /// A tensor of rank 0.
    pub const fn scalar(data_type: DataType) -> Self {
        Self { data_type, shape: Vec::new() }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// All sizes, where all are known.
    pub fn fixed_shape(&self) -> Option<Vec<u64>> {
        self.shape.iter().map(|dimension| dimension.fixed()).collect()
    }

    /// Number of elements, where all sizes are known and the product fits 64 bits.
    pub fn element_count(&self) -> Option<u64> {
        element_count(&self.fixed_shape()?)
    }

    /// Bytes that hold the elements, sub-byte types packed; `None` for strings, unknown sizes and
    /// sizes beyond 64 bits.
    pub fn byte_size(&self) -> Option<u64> {
        byte_size(self.data_type, self.element_count()?)
    }

    /// The same shape with another element type.
    pub fn with_data_type(&self, data_type: DataType) -> Self {
        Self { data_type, shape: self.shape.clone() }
    }

    /// Protobuf form.
    pub fn to_proto(&self) -> mil::TensorType {
        mil::TensorType {
            data_type: self.data_type.to_proto(),
            // Ranks are bounded by MAXIMUM_RANK where types are read; a longer one would be
            // refused by every reader.
            rank: i64::try_from(self.shape.len()).unwrap_or(i64::MAX),
            dimensions: self.shape.iter().map(|dimension| dimension.to_proto()).collect(),
            attributes: Default::default(),
        }
    }

    /// Reads the protobuf form; every unknown dimension gets a fresh symbol.
    pub fn from_proto(tensor: &mil::TensorType, symbols: &Symbols) -> Result<Self, String> {
        let rank = tensor.dimensions.len();
        if i64::try_from(rank) != Ok(tensor.rank) {
            return Err(format!("rank {} is declared with {rank} dimensions", tensor.rank));
        }
        if rank > MAXIMUM_RANK {
            return Err(format!("rank {rank} is above {MAXIMUM_RANK}"));
        }
        let shape = tensor
            .dimensions
            .iter()
            .map(|dimension| Dimension::from_proto(dimension, symbols))
            .collect::<Result<_, _>>()?;
        Ok(Self { data_type: DataType::from_proto(tensor.data_type)?, shape })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "tensor<{}, {}>", self.data_type, ShapeText(&self.shape))
    }
}

/// Prints a shape as `[1, ?, 64]`.
pub struct ShapeText<'a>(pub &'a [Dimension]);

impl fmt::Display for ShapeText<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[")?;
        for (index, dimension) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{dimension}")?;
        }
        formatter.write_str("]")
    }
}

/// Product of sizes, checked; the product of an empty shape is 1.
pub fn element_count(shape: &[u64]) -> Option<u64> {
    // A zero anywhere makes the tensor empty, whatever the others are.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1_u64, |product, size| product.checked_mul(*size))
}

/// Bytes of `count` elements, sub-byte types packed; `None` for strings and on overflow.
pub fn byte_size(data_type: DataType, count: u64) -> Option<u64> {
    let bits = u64::from(data_type.bits()?).checked_mul(count)?;
    Some(bits.div_ceil(8))
}

/// Type of a value: a tensor, or a composition of tensors.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ValueType {
    /// A tensor.
    Tensor(TensorType),
    /// A state, and the tensor that reading it gives.
    State(TensorType),
    /// A list.
    List {
        /// Type of each element.
        element: Box<Self>,
        /// Number of elements.
        length: Dimension,
    },
    /// A fixed sequence of types.
    Tuple(Vec<Self>),
    /// A map.
    Dictionary {
        /// Type of keys.
        key: Box<Self>,
        /// Type of values.
        value: Box<Self>,
    },
}

impl ValueType {
    /// The tensor type, if this is a tensor.
    pub const fn tensor(&self) -> Option<&TensorType> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Protobuf form.
    pub fn to_proto(&self) -> mil::ValueType {
        use mil::value_type::Type;
        let kind = match self {
            Self::Tensor(tensor) => Type::TensorType(tensor.to_proto()),
            Self::State(tensor) => Type::StateType(Box::new(mil::StateType {
                wrapped_type: Some(Box::new(mil::ValueType {
                    r#type: Some(Type::TensorType(tensor.to_proto())),
                })),
            })),
            Self::List { element, length } => Type::ListType(Box::new(mil::ListType {
                r#type: Some(Box::new(element.to_proto())),
                length: Some(length.to_proto()),
            })),
            Self::Tuple(types) => Type::TupleType(mil::TupleType {
                types: types.iter().map(Self::to_proto).collect(),
            }),
            Self::Dictionary { key, value } => {
                Type::DictionaryType(Box::new(mil::DictionaryType {
                    key_type: Some(Box::new(key.to_proto())),
                    value_type: Some(Box::new(value.to_proto())),
                }))
            }
        };
        mil::ValueType { r#type: Some(kind) }
    }

    /// Reads the protobuf form; every unknown dimension gets a fresh symbol.
    pub fn from_proto(kind: &mil::ValueType, symbols: &Symbols) -> Result<Self, String> {
        Self::read(kind, symbols, 0)
    }

    fn read(kind: &mil::ValueType, symbols: &Symbols, depth: usize) -> Result<Self, String> {
        use mil::value_type::Type;
        if depth > MAXIMUM_TYPE_DEPTH {
            return Err(format!("a type nests deeper than {MAXIMUM_TYPE_DEPTH}"));
        }
        let inner = |kind: &Option<Box<mil::ValueType>>| match kind {
            Some(kind) => Self::read(kind, symbols, depth + 1).map(Box::new),
            None => Err("a composed type leaves its inner type out".to_owned()),
        };
        Ok(match &kind.r#type {
            None => return Err("the type is not given".to_owned()),
            Some(Type::TensorType(tensor)) => {
                Self::Tensor(TensorType::from_proto(tensor, symbols)?)
            }
            Some(Type::StateType(state)) => match *inner(&state.wrapped_type)? {
                Self::Tensor(tensor) => Self::State(tensor),
                other => return Err(format!("a state wraps {other}, not a tensor")),
            },
            Some(Type::ListType(list)) => {
                let element = inner(&list.r#type)?;
                let length = match &list.length {
                    Some(length) => Dimension::from_proto(length, symbols)?,
                    None => return Err("a list type leaves its length out".to_owned()),
                };
                Self::List { element, length }
            }
            Some(Type::TupleType(tuple)) => Self::Tuple(
                tuple
                    .types
                    .iter()
                    .map(|kind| Self::read(kind, symbols, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            Some(Type::DictionaryType(dictionary)) => Self::Dictionary {
                key: inner(&dictionary.key_type)?,
                value: inner(&dictionary.value_type)?,
            },
        })
    }
}

impl From<TensorType> for ValueType {
    fn from(tensor: TensorType) -> Self {
        Self::Tensor(tensor)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(tensor) => write!(formatter, "{tensor}"),
            Self::State(tensor) => write!(formatter, "state<{tensor}>"),
            Self::List { element, length } => write!(formatter, "list<{element}, {length}>"),
            Self::Dictionary { key, value } => write!(formatter, "dict<{key}, {value}>"),
            Self::Tuple(types) => {
                formatter.write_str("tuple<")?;
                for (index, kind) in types.iter().enumerate() {
                    write!(formatter, "{}{kind}", if index == 0 { "" } else { ", " })?;
                }
                formatter.write_str(">")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_schema() {
        assert_eq!(DataType::Float16.to_proto(), 10);
        assert_eq!(DataType::from_proto(38), Ok(DataType::UInt6));
        assert!(DataType::from_proto(0).is_err());
        assert_eq!(DataType::from_name("fp16"), Some(DataType::Float16));
        assert_eq!(DataType::from_name("float16"), Some(DataType::Float16));
        for kind in DataType::ALL {
            let known = mil::DataType::try_from(kind.to_proto()).unwrap();
            assert_eq!(known.as_str_name().to_lowercase(), kind.name());
        }
    }

    #[test]
    fn integer_ranges() {
        assert_eq!(DataType::Int4.integer_range(), Some((-8, 7)));
        assert_eq!(DataType::UInt6.integer_range(), Some((0, 63)));
        assert_eq!(DataType::UInt32.integer_range(), Some((0, 4_294_967_295)));
        assert_eq!(DataType::Float16.integer_range(), None);
    }

    #[test]
    fn value_types_survive_protobuf() {
        let symbols = Symbols::default();
        let tensor = TensorType::new(DataType::Float16, &[1, 2, 3]);
        for kind in [
            ValueType::Tensor(tensor.clone()),
            ValueType::State(tensor.clone()),
            ValueType::List {
                element: Box::new(tensor.clone().into()),
                length: Dimension::Fixed(3),
            },
            ValueType::Tuple(vec![
                tensor.clone().into(),
                TensorType::scalar(DataType::Bool).into(),
            ]),
        ] {
            assert_eq!(ValueType::from_proto(&kind.to_proto(), &symbols), Ok(kind));
        }
    }

    #[test]
    fn unknown_dimensions_are_distinct() {
        let symbols = Symbols::default();
        let shape = vec![Dimension::Symbol(7), Dimension::Symbol(7)];
        let proto = TensorType::with_shape(DataType::Int32, shape).to_proto();
        let read = TensorType::from_proto(&proto, &symbols).unwrap();
        assert_ne!(read.shape[0], read.shape[1]);
        assert_eq!(read.to_string(), "tensor<int32, [?, ?]>");
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(TensorType::new(DataType::UInt3, &[3]).byte_size(), Some(2));
        assert_eq!(TensorType::new(DataType::Float16, &[u64::MAX, 2]).byte_size(), None);
        assert_eq!(TensorType::new(DataType::Float16, &[u64::MAX, 2, 0]).byte_size(), Some(0));
        assert_eq!(TensorType::new(DataType::String, &[2]).byte_size(), None);
    }

    #[test]
    fn bad_types_are_refused() {
        let symbols = Symbols::default();
        let mut wrong_rank = TensorType::new(DataType::Int32, &[1]).to_proto();
        wrong_rank.rank = 2;
        assert!(TensorType::from_proto(&wrong_rank, &symbols).is_err());
        let mut deep = ValueType::Tensor(TensorType::scalar(DataType::Int32));
        for _ in 0..40 {
            deep = ValueType::Tuple(vec![deep]);
        }
        assert!(ValueType::from_proto(&deep.to_proto(), &symbols).is_err());
    }
}
