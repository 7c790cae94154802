//! Types of values.

use crate::element::ElementType;
use std::fmt;

/// Stands in a shape for a size that is known only at run time.
pub const DYNAMIC: i64 = i64::MIN;

/// Type of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// A state that holds such a tensor.
    State(TensorType),
    /// The order of reads and writes of a state.
    Token,
    /// Type of a function.
    Function {
        /// Of what it takes.
        operands: Vec<Self>,
        /// Of what it gives.
        results: Vec<Self>,
    },
    /// An element type as such.
    Element(ElementType),
    /// Type of a name.
    Symbol,
    /// A type that is not known here, by the code of its record.
    Other(u64),
}

impl Type {
    /// The tensor, if it is one.
    pub const fn tensor(&self) -> Option<&TensorType> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// Element type, shape and perhaps layout of a tensor. An empty shape is a scalar's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub element: ElementType,
    /// Sizes, outermost first; [`DYNAMIC`] where one is not known.
    pub shape: Vec<i64>,
    /// How it must lie in memory.
    pub layout: Option<Layout>,
}

impl TensorType {
    /// A tensor without a layout.
    pub fn new(element: ElementType, shape: &[i64]) -> Self {
        Self { element, shape: shape.to_vec(), layout: None }
    }

    /// The same shape of another element type.
    #[must_use]
    pub fn of(&self, element: ElementType) -> Self {
        Self { element, ..self.clone() }
    }

    /// The same element type in another shape.
    #[must_use]
    pub fn shaped(&self, shape: &[i64]) -> Self {
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    /// Number of elements, where all sizes are known and the product is a number.
    pub fn element_count(&self) -> Option<u64> {
        let mut sizes = self.shape.iter().map(|size| u64::try_from(*size).ok());
        sizes.try_fold(1_u64, |product, size| product.checked_mul(size?))
    }

    /// Bytes of the elements as they are stored, those of less than a byte packed.
    pub fn byte_size(&self) -> Option<u64> {
        Some(self.element_count()?.checked_mul(self.element.bits())?.div_ceil(8))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("tensor<")?;
        for size in &self.shape {
            match *size {
                DYNAMIC => formatter.write_str("?x")?,
                size => write!(formatter, "{size}x")?,
            }
        }
        write!(formatter, "{}>", self.element.name())
    }
}

impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(tensor) => write!(formatter, "{tensor}"),
            Self::State(tensor) => write!(formatter, "state<{tensor}>"),
            Self::Token => formatter.write_str("token"),
            Self::Function { .. } => formatter.write_str("function"),
            Self::Element(element) => formatter.write_str(element.name()),
            Self::Symbol => formatter.write_str("symbol"),
            Self::Other(code) => write!(formatter, "type {code}"),
        }
    }
}

impl From<TensorType> for Type {
    fn from(tensor: TensorType) -> Self {
        Self::Tensor(tensor)
    }
}

/// How a tensor must lie in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Bytes at whose multiples each axis begins, one entry more than there are axes.
    pub alignments: Vec<i64>,
    /// Elements of each axis that lie together.
    pub interleave: Vec<i64>,
    /// Where it lies.
    pub memory: Memory,
}

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Memory that all processors of a device share.
    IoSurface = 1,
    /// A buffer of Metal.
    Metal = 2,
    /// Memory of the process.
    Heap = 3,
}
