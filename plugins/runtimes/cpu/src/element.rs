//! Element types of values.

use anemll_mil::DataType;

/// Element type of a value that the runtime computes with. Others are only stored; what constexpr
/// operations make of them is decoded when a function is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    /// One byte, 0 or 1.
    Bool,
}

impl Element {
    /// Every element type.
    const ALL: &'static [Self] = &[
        Self::F16,
        Self::F32,
        Self::F64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::Bool,
    ];

    /// The type in which a value declared as this is kept where float16 is not rounded to.
    pub(crate) fn widened(self) -> Self {
        match self {
            Self::F16 => Self::F32,
            other => other,
        }
    }

    /// The element type of a MIL type; `None` for strings, bfloat16, fp8, and integers of less than
    /// a byte, which only stored data have.
    pub(crate) fn of(data_type: DataType) -> Option<Self> {
        Self::ALL.iter().copied().find(|element| element.data_type() == data_type)
    }

    /// The MIL type.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::F16 => DataType::Float16,
            Self::F32 => DataType::Float32,
            Self::F64 => DataType::Float64,
            Self::I8 => DataType::Int8,
            Self::I16 => DataType::Int16,
            Self::I32 => DataType::Int32,
            Self::I64 => DataType::Int64,
            Self::U8 => DataType::UInt8,
            Self::U16 => DataType::UInt16,
            Self::U32 => DataType::UInt32,
            Self::U64 => DataType::UInt64,
            Self::Bool => DataType::Bool,
        }
    }

    /// The element type that a `cast` names in its `dtype`.
    pub(crate) fn from_cast_name(name: &str) -> Option<Self> {
        DataType::from_name(name).and_then(Self::of)
    }

    /// Name as MIL text spells it in messages, such as `float16`.
    pub(crate) fn name(self) -> &'static str {
        self.data_type().name()
    }

    /// Bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Bytes that `count` elements take; `None` when that overflows.
    pub(crate) fn bytes_of(self, count: usize) -> Option<usize> {
        count.checked_mul(self.size())
    }

    /// True for fp16, fp32 and fp64.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// True for integers, signed or not.
    pub(crate) fn is_integer(self) -> bool {
        !self.is_float() && self != Self::Bool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mil_types_lead_back_and_have_the_width() {
        let known: Vec<Element> = DataType::ALL.iter().copied().filter_map(Element::of).collect();
        assert_eq!(known.len(), Element::ALL.len());
        for element in known {
            assert_eq!(element.data_type().bits(), Some(8 * element.size() as u32));
            assert_eq!(Element::from_cast_name(element.name()), Some(element));
        }
        assert_eq!(Element::of(DataType::UInt4), None);
        assert_eq!(Element::F32.bytes_of(usize::MAX), None);
    }
}
