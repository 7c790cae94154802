//! Source elements as float32.

use crate::info::SourceType;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Elements converted at once; the buffers stay in the first-level cache.
pub(crate) const CHUNK: usize = 1024;

/// Little-endian source elements as float32, which holds every one of them exactly.
pub(crate) fn decode(source_type: SourceType, bytes: &[u8], values: &mut [f32]) {
    match source_type {
        SourceType::Float32 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        SourceType::BFloat16 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => {
            let mut halves = [f16::ZERO; CHUNK];
            for (values, bytes) in values.chunks_mut(CHUNK).zip(bytes.chunks(2 * CHUNK)) {
                let halves = &mut halves[..values.len()];
                for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *half = f16::from_bits(u16::from_le_bytes(*bytes));
                }
                halves.convert_to_f32_slice(values);
            }
        }
    }
}
