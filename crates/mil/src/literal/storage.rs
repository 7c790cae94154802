//! Elements as the bytes that stand in files: little endian, row-major, sub-byte types packed with
//! the low bits first.

use super::Elements;
use crate::dtype::DataType;
use half::{bf16, f16};

/// Stored bytes of elements. Integers have been checked against the type's range.
pub(super) fn pack(kind: DataType, elements: &Elements) -> Result<Vec<u8>, String> {
    match elements {
        Elements::Bools(values) => Ok(values.iter().map(|value| u8::from(*value)).collect()),
        Elements::Strings(_) => Err("strings have no stored bytes".to_owned()),
        Elements::Floats(values) => match kind {
            DataType::Float16 => {
                Ok(values.iter().flat_map(|value| f16::from_f64(*value).to_le_bytes()).collect())
            }
            DataType::BFloat16 => {
                Ok(values.iter().flat_map(|value| bf16::from_f64(*value).to_le_bytes()).collect())
            }
            DataType::Float32 => {
                Ok(values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect())
            }
            DataType::Float64 => Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            _ => Err(format!("floating point elements cannot be stored as {kind}")),
        },
        Elements::Integers(values) => {
            let bits = kind.bits().ok_or("strings have no stored bytes")?;
            if !kind.is_integer() {
                return Err(format!("integers cannot be stored as {kind}"));
            }
            if bits >= 8 {
                let width = (bits / 8) as usize;
                return Ok(values
                    .iter()
                    .flat_map(|value| value.to_le_bytes().into_iter().take(width))
                    .collect());
            }
            let mut bytes = vec![0_u8; (values.len() * bits as usize).div_ceil(8)];
            for (index, value) in values.iter().enumerate() {
                let raw = (*value as u64 & ((1 << bits) - 1)) << (index * bits as usize % 8);
                let first = index * bits as usize / 8;
                for (place, byte) in bytes.iter_mut().skip(first).take(2).enumerate() {
                    *byte |= (raw >> (8 * place)) as u8;
                }
            }
            Ok(bytes)
        }
    }
}

/// Elements from stored bytes whose length has been checked against `count`.
pub(super) fn unpack(kind: DataType, bytes: &[u8], count: usize) -> Elements {
    fn chunks<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }
    match kind {
        DataType::Float16 => {
            Elements::Floats(chunks(bytes, |chunk| f16::from_le_bytes(chunk).into()))
        }
        DataType::BFloat16 => {
            Elements::Floats(chunks(bytes, |chunk| bf16::from_le_bytes(chunk).into()))
        }
        DataType::Float32 => {
            Elements::Floats(chunks(bytes, |chunk| f32::from_le_bytes(chunk).into()))
        }
        DataType::Float64 => Elements::Floats(chunks(bytes, f64::from_le_bytes)),
        DataType::Float8E4M3FN => Elements::Floats(bytes.iter().map(|b| e4m3(*b)).collect()),
        DataType::Float8E5M2 => Elements::Floats(
            // The upper byte of an fp16 is exactly this format.
            bytes.iter().map(|byte| f16::from_bits(u16::from(*byte) << 8).into()).collect(),
        ),
        DataType::Bool => Elements::Bools(bytes.iter().map(|byte| *byte != 0).collect()),
        DataType::String => Elements::Strings(Vec::new()),
        DataType::Int8 => {
            Elements::Integers(bytes.iter().map(|byte| i64::from(*byte as i8)).collect())
        }
        DataType::UInt8 => Elements::Integers(bytes.iter().copied().map(i64::from).collect()),
        DataType::Int16 => {
            Elements::Integers(chunks(bytes, |chunk| i16::from_le_bytes(chunk).into()))
        }
        DataType::UInt16 => {
            Elements::Integers(chunks(bytes, |chunk| u16::from_le_bytes(chunk).into()))
        }
        DataType::Int32 => {
            Elements::Integers(chunks(bytes, |chunk| i32::from_le_bytes(chunk).into()))
        }
        DataType::UInt32 => {
            Elements::Integers(chunks(bytes, |chunk| u32::from_le_bytes(chunk).into()))
        }
        DataType::Int64 | DataType::UInt64 => Elements::Integers(chunks(bytes, i64::from_le_bytes)),
        DataType::Int4
        | DataType::UInt4
        | DataType::UInt2
        | DataType::UInt1
        | DataType::UInt6
        | DataType::UInt3 => {
            let bits = kind.bits().unwrap_or(8) as usize;
            let element = |index: usize| {
                let (first, shift) = (index * bits / 8, index * bits % 8);
                let low = u16::from(bytes.get(first).copied().unwrap_or(0));
                let high = u16::from(bytes.get(first + 1).copied().unwrap_or(0));
                let raw = i64::from(((low | (high << 8)) >> shift) & ((1 << bits) - 1));
                if kind == DataType::Int4 && raw >= 8 { raw - 16 } else { raw }
            };
            Elements::Integers((0..count).map(element).collect())
        }
    }
}

/// The 8-bit format with 4 exponent bits (bias 7), no infinities, NaN at all ones.
pub fn e4m3(byte: u8) -> f64 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    match exponent {
        15 if byte & 7 == 7 => f64::NAN,
        0 => sign * mantissa / 8.0 * 2_f64.powi(-6),
        _ => sign * (1.0 + mantissa / 8.0) * 2_f64.powi(exponent - 7),
    }
}
