//! Element types of values, and their numbers in the MIL schema.

/// Element type of a value that the runtime computes with.
///
/// Sub-byte integers exist only as operands of constexpr operations, which are decoded when the
/// function is planned ([`crate::kernels`]).
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
    /// Unsigned integer of 1, 2, 3, 4 or 6 bits, packed.
    PackedUnsigned(u8),
    /// Two's complement integer of 4 bits, packed.
    PackedSigned4,
}

impl Element {
    /// The type in which a value declared as this is kept where float16 is not rounded to.
    pub(crate) fn widened(self) -> Self {
        match self {
            Self::F16 => Self::F32,
            other => other,
        }
    }

    /// The element type of a MIL `DataType` number; `None` for strings, bfloat16 and fp8.
    pub(crate) fn from_mil(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Bool,
            10 => Self::F16,
            11 => Self::F32,
            12 => Self::F64,
            21 => Self::I8,
            22 => Self::I16,
            23 => Self::I32,
            24 => Self::I64,
            25 => Self::PackedSigned4,
            31 => Self::U8,
            32 => Self::U16,
            33 => Self::U32,
            34 => Self::U64,
            35 => Self::PackedUnsigned(4),
            36 => Self::PackedUnsigned(2),
            37 => Self::PackedUnsigned(1),
            38 => Self::PackedUnsigned(6),
            39 => Self::PackedUnsigned(3),
            _ => return None,
        })
    }

    /// The MIL `DataType` number.
    pub(crate) fn to_mil(self) -> i32 {
        match self {
            Self::Bool => 1,
            Self::F16 => 10,
            Self::F32 => 11,
            Self::F64 => 12,
            Self::I8 => 21,
            Self::I16 => 22,
            Self::I32 => 23,
            Self::I64 => 24,
            Self::PackedSigned4 => 25,
            Self::U8 => 31,
            Self::U16 => 32,
            Self::U32 => 33,
            Self::U64 => 34,
            Self::PackedUnsigned(2) => 36,
            Self::PackedUnsigned(1) => 37,
            Self::PackedUnsigned(6) => 38,
            Self::PackedUnsigned(3) => 39,
            Self::PackedUnsigned(_) => 35,
        }
    }

    /// The element type that a `cast` names in its `dtype`.
    pub(crate) fn from_cast_name(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "fp16" | "float16" => Self::F16,
            "fp32" | "float32" => Self::F32,
            "fp64" | "float64" => Self::F64,
            "int8" => Self::I8,
            "int16" => Self::I16,
            "int32" => Self::I32,
            "int64" => Self::I64,
            "uint8" => Self::U8,
            "uint16" => Self::U16,
            "uint32" => Self::U32,
            "uint64" => Self::U64,
            _ => return None,
        })
    }

    /// Name as MIL text spells it in messages, such as `float16`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::Bool => "bool",
            Self::PackedUnsigned(1) => "uint1",
            Self::PackedUnsigned(2) => "uint2",
            Self::PackedUnsigned(3) => "uint3",
            Self::PackedUnsigned(6) => "uint6",
            Self::PackedUnsigned(_) => "uint4",
            Self::PackedSigned4 => "int4",
        }
    }

    /// Bits of one element.
    pub(crate) fn bits(self) -> usize {
        match self {
            Self::F16 | Self::I16 | Self::U16 => 16,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F64 | Self::I64 | Self::U64 => 64,
            Self::I8 | Self::U8 | Self::Bool => 8,
            Self::PackedUnsigned(bits) => bits as usize,
            Self::PackedSigned4 => 4,
        }
    }

    /// Bytes of one element; `None` for packed types.
    pub(crate) fn size(self) -> Option<usize> {
        let bits = self.bits();
        (bits >= 8).then_some(bits / 8)
    }

    /// Bytes that `count` elements take, packed; `None` when that overflows.
    pub(crate) fn bytes_of(self, count: usize) -> Option<usize> {
        count.checked_mul(self.bits()).map(|bits| bits.div_ceil(8))
    }

    /// True for fp16, fp32 and fp64.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// True for byte-sized and wider integers.
    pub(crate) fn is_integer(self) -> bool {
        !self.is_float() && self != Self::Bool && self.size().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mil_numbers_round_trip() {
        let known = (0..64).filter_map(|number| Element::from_mil(number).map(|e| (number, e)));
        let known: Vec<_> = known.collect();
        assert_eq!(known.len(), 18);
        for (number, element) in known {
            assert_eq!(element.to_mil(), number, "{}", element.name());
        }
    }

    #[test]
    fn packed_sizes_round_up() {
        assert_eq!(Element::PackedUnsigned(3).bytes_of(3), Some(2));
        assert_eq!(Element::PackedUnsigned(6).bytes_of(4), Some(3));
        assert_eq!(Element::F32.bytes_of(usize::MAX), None);
    }
}
