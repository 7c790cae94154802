//! Element types, and what each is in the other tables of Core ML: the numbers of MIL's schema, names
//! in text, in `cast` and in summaries, and the types of arrays in descriptions.

use coreml_proto::array_feature_type::ArrayDataType;
use std::fmt;

macro_rules! data_types {
    ($($variant:ident = $number:literal, $bits:expr, $name:literal, $mil:literal, $about:literal;)*) => {
        /// Element type of a tensor. Numbers are those of `DataType` in MIL's protobuf schema.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum DataType {
            $(#[doc = $about] $variant = $number,)*
        }

        impl DataType {
            /// Every data type, in the order of the protobuf numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Bits of one stored element; `None` for strings.
            pub const fn bits(self) -> Option<u32> {
                match self { $(Self::$variant => $bits,)* }
            }

            /// Whole-word name, such as `float16`, as the plugin interface spells it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Name as the summary of a compiled model spells it, such as `Float16`.
            pub const fn summary_name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// Short name as MIL's text form and `cast` spell it, such as `fp16`.
            pub const fn mil_name(self) -> &'static str {
                match self { $(Self::$variant => $mil,)* }
            }
        }
    };
}

data_types! {
    Bool = 1, Some(8), "bool", "bool", "True or false, one byte each.";
    String = 2, None, "string", "string", "UTF-8 text.";
    Float16 = 10, Some(16), "float16", "fp16", "IEEE half precision.";
    Float32 = 11, Some(32), "float32", "fp32", "IEEE single precision.";
    Float64 = 12, Some(64), "float64", "fp64", "IEEE double precision.";
    BFloat16 = 13, Some(16), "bfloat16", "bf16", "Upper half of a single precision number.";
    Int8 = 21, Some(8), "int8", "int8", "Signed, 8 bits.";
    Int16 = 22, Some(16), "int16", "int16", "Signed, 16 bits.";
    Int32 = 23, Some(32), "int32", "int32", "Signed, 32 bits.";
    Int64 = 24, Some(64), "int64", "int64", "Signed, 64 bits.";
    Int4 = 25, Some(4), "int4", "int4", "Signed, two's complement nibbles.";
    UInt8 = 31, Some(8), "uint8", "uint8", "Unsigned, 8 bits.";
    UInt16 = 32, Some(16), "uint16", "uint16", "Unsigned, 16 bits.";
    UInt32 = 33, Some(32), "uint32", "uint32", "Unsigned, 32 bits.";
    UInt64 = 34, Some(64), "uint64", "uint64", "Unsigned, 64 bits.";
    UInt4 = 35, Some(4), "uint4", "uint4", "Unsigned, 4 bits.";
    UInt2 = 36, Some(2), "uint2", "uint2", "Unsigned, 2 bits.";
    UInt1 = 37, Some(1), "uint1", "uint1", "Unsigned, 1 bit.";
    UInt6 = 38, Some(6), "uint6", "uint6", "Unsigned, 6 bits, packed across bytes.";
    UInt3 = 39, Some(3), "uint3", "uint3", "Unsigned, 3 bits, packed across bytes.";
    Float8E4M3FN = 40, Some(8), "float8e4m3fn", "fp8e4m3fn", "8 bits, 4 of them exponent.";
    Float8E5M2 = 41, Some(8), "float8e5m2", "fp8e5m2", "8 bits, 5 of them exponent.";
}

impl DataType {
    /// The type with this protobuf number; an error names the number.
    pub fn from_proto(number: i32) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.to_proto() == number)
            .ok_or_else(|| format!("{number} is not a data type of MIL"))
    }

    /// Protobuf number.
    pub const fn to_proto(self) -> i32 {
        self as i32
    }

    /// The type with this whole-word or short name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name || kind.mil_name() == name)
    }

    /// The type of an array in a model's description, where descriptions have it.
    pub const fn array_type(self) -> Option<ArrayDataType> {
        Some(match self {
            Self::Float16 => ArrayDataType::Float16,
            Self::Float32 => ArrayDataType::Float32,
            Self::Float64 => ArrayDataType::Double,
            Self::Int8 => ArrayDataType::Int8,
            Self::Int32 => ArrayDataType::Int32,
            _ => return None,
        })
    }

    /// The type behind a number that stands in a model's description.
    pub fn from_array_type(number: i32) -> Option<Self> {
        let described = ArrayDataType::try_from(number).ok()?;
        Self::ALL.iter().copied().find(|kind| kind.array_type() == Some(described))
    }

    /// Any floating point type.
    pub const fn is_float(self) -> bool {
        matches!(
            self,
            Self::Float16
                | Self::Float32
                | Self::Float64
                | Self::BFloat16
                | Self::Float8E4M3FN
                | Self::Float8E5M2
        )
    }

    /// Any integer type, signed or not; not bool.
    pub const fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool | Self::String)
    }

    /// Smallest and largest value of an integer type of up to 63 bits.
    pub const fn integer_range(self) -> Option<(i64, i64)> {
        if !self.is_integer() {
            return None;
        }
        let Some(bits) = self.bits() else { return None };
        Some(match self {
            Self::Int4 | Self::Int8 | Self::Int16 | Self::Int32 => {
                (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
            }
            Self::Int64 => (i64::MIN, i64::MAX),
            Self::UInt64 => (0, i64::MAX),
            _ => (0, (1_i64 << bits) - 1),
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.mil_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_leads_back() {
        for kind in DataType::ALL.iter().copied() {
            assert_eq!(DataType::from_proto(kind.to_proto()), Ok(kind));
            assert_eq!(DataType::from_name(kind.name()), Some(kind));
            assert_eq!(DataType::from_name(kind.mil_name()), Some(kind));
            if let Some(described) = kind.array_type() {
                assert_eq!(DataType::from_array_type(described.into()), Some(kind));
            }
        }
        assert_eq!(DataType::from_array_type(ArrayDataType::InvalidArrayDataType.into()), None);
        assert_eq!(DataType::Float8E4M3FN.summary_name(), "Float8E4M3FN");
    }
}
