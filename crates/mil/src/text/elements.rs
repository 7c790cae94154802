//! The elements of a tensor literal on their way into the field that carries their type.

use super::number::{narrow, read_float};
use crate::dtype::DataType;
use coreml_proto::mil::tensor_value::{
    RepeatedBools, RepeatedBytes, RepeatedDoubles, RepeatedFloats, RepeatedInts, RepeatedLongInts,
    RepeatedStrings, Value as Field,
};

/// Elements as they are read, in the field where coremltools puts them.
pub(super) enum Sink {
    Bools(Vec<bool>),
    Strings(Vec<String>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    /// int16, uint16 and int32.
    Ints(DataType, Vec<i32>),
    /// int64 and uint64.
    LongInts(DataType, Vec<i64>),
    /// Little-endian bytes of whole bytes for each element.
    Bytes(DataType, Vec<u8>),
    /// Less than 8 bits for each element: the bytes, and the bits used so far.
    Packed(DataType, Vec<u8>, usize),
}

impl Sink {
    pub(super) const fn new(kind: DataType) -> Self {
        match kind {
            DataType::Bool => Self::Bools(Vec::new()),
            DataType::String => Self::Strings(Vec::new()),
            DataType::Float32 => Self::Floats(Vec::new()),
            DataType::Float64 => Self::Doubles(Vec::new()),
            DataType::Int16 | DataType::UInt16 | DataType::Int32 => Self::Ints(kind, Vec::new()),
            DataType::Int64 | DataType::UInt64 => Self::LongInts(kind, Vec::new()),
            DataType::Int4
            | DataType::UInt1
            | DataType::UInt2
            | DataType::UInt3
            | DataType::UInt4
            | DataType::UInt6 => Self::Packed(kind, Vec::new(), 0),
            _ => Self::Bytes(kind, Vec::new()),
        }
    }

    pub(super) const fn kind(&self) -> DataType {
        match self {
            Self::Bools(_) => DataType::Bool,
            Self::Strings(_) => DataType::String,
            Self::Floats(_) => DataType::Float32,
            Self::Doubles(_) => DataType::Float64,
            Self::Ints(kind, _)
            | Self::LongInts(kind, _)
            | Self::Bytes(kind, _)
            | Self::Packed(kind, _, _) => *kind,
        }
    }

    /// Takes one element. Errors: no element of the type, or one beyond its range.
    pub(super) fn push(&mut self, token: &str) -> Result<(), String> {
        let kind = self.kind();
        match self {
            Self::Bools(values) => values.push(match token {
                "true" => true,
                "false" => false,
                _ => return Err(format!("expected `true` or `false`, found `{token}`")),
            }),
            Self::Strings(_) => return Err("expected a string".to_owned()),
            Self::Floats(values) => {
                let wide = float(kind, token)?;
                let value = wide as f32;
                if value.is_infinite() && wide.is_finite() {
                    return Err(format!("`{token}` does not fit {kind}"));
                }
                values.push(value);
            }
            Self::Doubles(values) => values.push(float(kind, token)?),
            Self::Ints(_, values) => values.push(
                i32::try_from(integer(kind, token)?)
                    .map_err(|_| format!("`{token}` does not fit {kind}"))?,
            ),
            Self::LongInts(_, values) => values.push(match kind {
                // The upper half of uint64 stands as negative numbers.
                DataType::UInt64 => {
                    token.parse::<u64>().map_err(|_| expected(kind, token))?.cast_signed()
                }
                _ => token.parse().map_err(|_| expected(kind, token))?,
            }),
            Self::Bytes(_, bytes) if kind.is_float() => {
                let value = float(kind, token)?;
                let code =
                    narrow(kind, value).ok_or_else(|| format!("`{token}` does not fit {kind}"))?;
                let width = kind.bits().map_or(1, |bits| bits as usize / 8);
                bytes.extend_from_slice(&code.to_le_bytes()[..width]);
            }
            Self::Bytes(_, bytes) => {
                let width = kind.bits().map_or(1, |bits| bits as usize / 8);
                bytes.extend_from_slice(&integer(kind, token)?.to_le_bytes()[..width]);
            }
            Self::Packed(_, bytes, used) => {
                let bits = kind.bits().map_or(8, |bits| bits as usize);
                let raw = (integer(kind, token)? & ((1 << bits) - 1)) as u16;
                let shifted = raw << (*used % 8);
                if *used % 8 == 0 {
                    bytes.push(0);
                }
                let last = bytes.len() - 1;
                bytes[last] |= (shifted & 0xff) as u8;
                if *used % 8 + bits > 8 {
                    bytes.push((shifted >> 8) as u8);
                }
                *used += bits;
            }
        }
        Ok(())
    }

    /// The field with the elements.
    pub(super) fn finish(self) -> Field {
        match self {
            Self::Bools(values) => Field::Bools(RepeatedBools { values }),
            Self::Strings(values) => Field::Strings(RepeatedStrings { values }),
            Self::Floats(values) => Field::Floats(RepeatedFloats { values }),
            Self::Doubles(values) => Field::Doubles(RepeatedDoubles { values }),
            Self::Ints(_, values) => Field::Ints(RepeatedInts { values }),
            Self::LongInts(_, values) => Field::LongInts(RepeatedLongInts { values }),
            Self::Bytes(_, values) | Self::Packed(_, values, _) => {
                Field::Bytes(RepeatedBytes { values })
            }
        }
    }
}

fn expected(kind: DataType, token: &str) -> String {
    format!("expected a number of type {kind}, found `{token}`")
}

fn float(kind: DataType, token: &str) -> Result<f64, String> {
    read_float(token).ok_or_else(|| expected(kind, token))
}

fn integer(kind: DataType, token: &str) -> Result<i64, String> {
    let value: i64 = token.parse().map_err(|_| expected(kind, token))?;
    match kind.integer_range() {
        Some((low, high)) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("`{token}` does not fit {kind}")),
    }
}
