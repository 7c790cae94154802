//! Element types of tensors.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The element type of a tensor.
///
/// The number is that of `DataType` in Core ML's ML Program schema (`MIL.proto`). It is a number
/// and not an enum, because types may be added while the plugin ABI stays as it is. In structured
/// data it stands by name; a name that is not known is kept, so that it can be shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DType(pub u32);

macro_rules! dtypes {
    ($($name:ident = $number:literal, $text:literal, $bits:expr;)+) => {
        impl DType {
            $(
                #[doc = concat!("`", $text, "`.")]
                pub const $name: Self = Self($number);
            )+

            /// Every known element type.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The width of one element in bits; `None` for strings and unknown numbers.
            pub const fn bits(self) -> Option<u32> {
                match self.0 {
                    $($number => $bits,)+
                    _ => None,
                }
            }

            /// The name as it stands in MIL text, for example `float16`; `unknown` for unknown
            /// numbers.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => $text,)+
                    number => unknown_name(number),
                }
            }

            /// The element type with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

dtypes! {
    BOOL = 1, "bool", Some(8);
    STRING = 2, "string", None;
    FLOAT16 = 10, "float16", Some(16);
    FLOAT32 = 11, "float32", Some(32);
    FLOAT64 = 12, "float64", Some(64);
    BFLOAT16 = 13, "bfloat16", Some(16);
    INT8 = 21, "int8", Some(8);
    INT16 = 22, "int16", Some(16);
    INT32 = 23, "int32", Some(32);
    INT64 = 24, "int64", Some(64);
    INT4 = 25, "int4", Some(4);
    UINT8 = 31, "uint8", Some(8);
    UINT16 = 32, "uint16", Some(16);
    UINT32 = 33, "uint32", Some(32);
    UINT64 = 34, "uint64", Some(64);
    UINT4 = 35, "uint4", Some(4);
    UINT2 = 36, "uint2", Some(2);
    UINT1 = 37, "uint1", Some(1);
    UINT6 = 38, "uint6", Some(6);
    UINT3 = 39, "uint3", Some(3);
    FLOAT8_E4M3FN = 40, "float8e4m3fn", Some(8);
    FLOAT8_E5M2 = 41, "float8e5m2", Some(8);
}

impl DType {
    /// Bytes that a tensor of this type and shape takes; elements narrower than a byte are packed,
    /// and the last byte is padded.
    ///
    /// `None` where the type has no width or the number of bytes does not fit `u64`.
    pub fn byte_length(self, shape: &[u64]) -> Option<u64> {
        let bits = u64::from(self.bits()?);
        let elements =
            shape.iter().try_fold(1u64, |count, dimension| count.checked_mul(*dimension));
        // A zero anywhere makes the tensor empty, whatever overflowed before it.
        let elements = if shape.contains(&0) { 0 } else { elements? };
        Some(elements.checked_mul(bits)?.div_ceil(8))
    }
}

/// The first number of types that are known by name alone. Such numbers hold within one library or
/// program: they never cross.
const FIRST_UNKNOWN: u32 = 1 << 31;
/// Most names of unknown types that are kept, and the longest.
const UNKNOWN_NAMES: usize = 256;
const UNKNOWN_NAME: usize = 64;

/// The names of unknown types, by number from [`FIRST_UNKNOWN`].
static UNKNOWN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

fn unknown_name(number: u32) -> &'static str {
    let names = UNKNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let place = number.checked_sub(FIRST_UNKNOWN).map(|place| place as usize);
    place.and_then(|place| names.get(place).copied()).unwrap_or("unknown")
}

impl DType {
    /// The element type with this name. A name that is not known gives a type without a width that
    /// keeps it, if it is short and printable.
    pub fn named(name: &str) -> Self {
        if let Some(known) = Self::from_name(name) {
            return known;
        }
        let mut names = UNKNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match names.iter().position(|other| *other == name) {
            Some(place) => place,
            None => {
                let fits = name.len() <= UNKNOWN_NAME && names.len() < UNKNOWN_NAMES;
                if !fits || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Self(u32::MAX);
                }
                names.push(Box::leak(name.to_owned().into_boxed_str()));
                names.len() - 1
            }
        };
        Self(FIRST_UNKNOWN + place as u32)
    }
}

impl Serialize for DType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for DType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::named(&String::deserialize(deserializer)?))
    }
}

impl fmt::Display for DType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Debug for DType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "unknown" => write!(formatter, "DType({})", self.0),
            name => formatter.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_name(dtype.name()), Some(*dtype));
        }
        assert_eq!(DType::from_name("unknown"), None);
        assert_eq!(DType(99).name(), "unknown");
        assert_eq!(serde_json::to_string(&DType::FLOAT16).unwrap(), "\"float16\"");
        assert_eq!(serde_json::from_str::<DType>("\"uint4\"").unwrap(), DType::UINT4);
    }

    #[test]
    fn unknown_names_are_kept_and_have_no_width() {
        let unknown: DType = serde_json::from_str("\"float4_e2m1\"").unwrap();
        assert_eq!((unknown.name(), unknown.bits()), ("float4_e2m1", None));
        assert_eq!(unknown, DType::named("float4_e2m1"));
        assert_ne!(unknown, DType::named("float4_e3m0"));
        assert_eq!(serde_json::to_string(&unknown).unwrap(), "\"float4_e2m1\"");
        assert_eq!(format!("{unknown} {unknown:?}"), "float4_e2m1 float4_e2m1");
        for name in ["", "\u{1b}[2J", "two words", &"x".repeat(65)] {
            let dtype = DType::named(name);
            assert!(dtype.name() == "unknown" || dtype.name().is_empty(), "{name:?}");
        }
        for number in 0..1000 {
            DType::named(&format!("type{number}"));
        }
        assert_eq!(DType::named("one too many").name(), "unknown");
        assert_eq!(unknown.name(), "float4_e2m1");
    }

    #[test]
    fn lengths_are_packed_and_checked() {
        assert_eq!(DType::FLOAT16.byte_length(&[2, 3]), Some(12));
        assert_eq!(DType::FLOAT32.byte_length(&[]), Some(4));
        assert_eq!(DType::UINT3.byte_length(&[3]), Some(2));
        assert_eq!(DType::UINT8.byte_length(&[u64::MAX, 2, 0]), Some(0));
        assert_eq!(DType::UINT8.byte_length(&[u64::MAX, 2]), None);
        assert_eq!(DType::FLOAT16.byte_length(&[u64::MAX / 2]), None);
        assert_eq!(DType::STRING.byte_length(&[1]), None);
    }
}
