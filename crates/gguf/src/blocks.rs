//! Elements of all types that can be read, as float32.
//!
//! The arithmetic is that of the format's own library, product by product in float32, so that
//! values are the same to the last bit.

use crate::types::TensorType;
use half::{bf16, f16};

/// What makes values of blocks: as many bytes as blocks have, as many values as they have elements.
pub(crate) type Decode = fn(&[u8], &mut [f32]);

impl TensorType {
    /// How the elements of the type are read; none for types that cannot be.
    pub(crate) fn decoder(self) -> Option<Decode> {
        Some(match self.name() {
            "F32" => |bytes, values| each::<4, 1>(bytes, values, f32_value),
            "F16" => |bytes, values| each::<2, 1>(bytes, values, f16_value),
            "BF16" => |bytes, values| each::<2, 1>(bytes, values, bf16_value),
            "Q4_0" => |bytes, values| each::<18, 32>(bytes, values, q4_0),
            "Q4_1" => |bytes, values| each::<20, 32>(bytes, values, q4_1),
            "Q5_0" => |bytes, values| each::<22, 32>(bytes, values, q5_0),
            "Q5_1" => |bytes, values| each::<24, 32>(bytes, values, q5_1),
            "Q8_0" => |bytes, values| each::<34, 32>(bytes, values, q8_0),
            "Q2_K" => |bytes, values| each::<84, 256>(bytes, values, q2_k),
            "Q3_K" => |bytes, values| each::<110, 256>(bytes, values, q3_k),
            "Q4_K" => |bytes, values| each::<144, 256>(bytes, values, q4_k),
            "Q5_K" => |bytes, values| each::<176, 256>(bytes, values, q5_k),
            "Q6_K" => |bytes, values| each::<210, 256>(bytes, values, q6_k),
            _ => return None,
        })
    }

    /// Whether the elements can be read.
    pub fn is_readable(self) -> bool {
        self.decoder().is_some()
    }
}

fn each<const BYTES: usize, const ELEMENTS: usize>(
    bytes: &[u8],
    values: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (values, _) = values.as_chunks_mut::<ELEMENTS>();
    for (bytes, values) in blocks.iter().zip(values) {
        block(bytes, values);
    }
}

/// The float16 that stands at `at`.
fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn f32_value(bytes: &[u8; 4], values: &mut [f32; 1]) {
    values[0] = f32::from_le_bytes(*bytes);
}

fn f16_value(bytes: &[u8; 2], values: &mut [f32; 1]) {
    values[0] = f16::from_le_bytes(*bytes).to_f32();
}

fn bf16_value(bytes: &[u8; 2], values: &mut [f32; 1]) {
    values[0] = bf16::from_le_bytes(*bytes).to_f32();
}

/// The 4-bit number `index` of a block of 32: the low halves of the bytes come first.
fn nibble(packed: &[u8], index: usize) -> u8 {
    (packed[index % 16] >> (index / 16 * 4)) & 15
}

fn q4_0(bytes: &[u8; 18], values: &mut [f32; 32]) {
    let scale = half(bytes, 0);
    for (index, value) in values.iter_mut().enumerate() {
        *value = scale * (f32::from(nibble(&bytes[2..], index)) - 8.0);
    }
}

fn q4_1(bytes: &[u8; 20], values: &mut [f32; 32]) {
    let (scale, least) = (half(bytes, 0), half(bytes, 2));
    for (index, value) in values.iter_mut().enumerate() {
        *value = scale * f32::from(nibble(&bytes[4..], index)) + least;
    }
}

/// The 5-bit number `index` of a block of 32, whose highest bits lie apart.
fn five_bits(high: &[u8], low: &[u8], index: usize) -> u8 {
    nibble(low, index) | (((high[index / 8] >> (index % 8)) & 1) << 4)
}

fn q5_0(bytes: &[u8; 22], values: &mut [f32; 32]) {
    let scale = half(bytes, 0);
    for (index, value) in values.iter_mut().enumerate() {
        *value = scale * (f32::from(five_bits(&bytes[2..6], &bytes[6..], index)) - 16.0);
    }
}

fn q5_1(bytes: &[u8; 24], values: &mut [f32; 32]) {
    let (scale, least) = (half(bytes, 0), half(bytes, 2));
    for (index, value) in values.iter_mut().enumerate() {
        *value = scale * f32::from(five_bits(&bytes[4..8], &bytes[8..], index)) + least;
    }
}

fn q8_0(bytes: &[u8; 34], values: &mut [f32; 32]) {
    let scale = half(bytes, 0);
    for (value, byte) in values.iter_mut().zip(&bytes[2..]) {
        *value = f32::from(*byte as i8) * scale;
    }
}

fn q2_k(bytes: &[u8; 84], values: &mut [f32; 256]) {
    let (scales, packed) = (&bytes[..16], &bytes[16..80]);
    let (scale, least) = (half(bytes, 80), half(bytes, 82));
    for (index, value) in values.iter_mut().enumerate() {
        let (of_group, byte) = (scales[index / 16], packed[index / 128 * 32 + index % 32]);
        let number = (byte >> (index % 128 / 32 * 2)) & 3;
        *value =
            scale * f32::from(of_group & 15) * f32::from(number) - least * f32::from(of_group >> 4);
    }
}

fn q3_k(bytes: &[u8; 110], values: &mut [f32; 256]) {
    let (high, packed, scales) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
    let scale = half(bytes, 108);
    for (index, value) in values.iter_mut().enumerate() {
        let group = index / 16;
        let low = (scales[group % 8] >> (group / 8 * 4)) & 15;
        let top = (scales[8 + group % 4] >> (group / 4 * 2)) & 3;
        let of_group = f32::from(low | (top << 4)) - 32.0;
        let number = (packed[index / 128 * 32 + index % 32] >> (index % 128 / 32 * 2)) & 3;
        let is_set = (high[index % 32] >> (index / 32)) & 1;
        let number = f32::from(number) - f32::from((is_set ^ 1) << 2);
        *value = scale * of_group * number;
    }
}

/// Scale and least value of group `group` of eight, of six bits each.
fn scale_and_least(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, least) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        let scale = (low & 15) | ((packed[group - 4] >> 6) << 4);
        (scale, (low >> 4) | ((packed[group] >> 6) << 4))
    };
    (f32::from(scale), f32::from(least))
}

fn q4_k(bytes: &[u8; 144], values: &mut [f32; 256]) {
    let (scale, least) = (half(bytes, 0), half(bytes, 2));
    let (scales, packed) = (&bytes[4..16], &bytes[16..]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (of_group, least_of_group) = scale_and_least(scales, group);
        let (of_group, least_of_group) = (scale * of_group, least * least_of_group);
        for (index, value) in values.iter_mut().enumerate() {
            let number = (packed[group / 2 * 32 + index] >> (group % 2 * 4)) & 15;
            *value = of_group * f32::from(number) - least_of_group;
        }
    }
}

fn q5_k(bytes: &[u8; 176], values: &mut [f32; 256]) {
    let (scale, least) = (half(bytes, 0), half(bytes, 2));
    let (scales, high, packed) = (&bytes[4..16], &bytes[16..48], &bytes[48..]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (of_group, least_of_group) = scale_and_least(scales, group);
        let (of_group, least_of_group) = (scale * of_group, least * least_of_group);
        for (index, value) in values.iter_mut().enumerate() {
            let number = (packed[group / 2 * 32 + index] >> (group % 2 * 4)) & 15;
            let number = number | (((high[index] >> group) & 1) << 4);
            *value = of_group * f32::from(number) - least_of_group;
        }
    }
}

fn q6_k(bytes: &[u8; 210], values: &mut [f32; 256]) {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let scale = half(bytes, 208);
    for (index, value) in values.iter_mut().enumerate() {
        let (part, within) = (index / 128, index % 128);
        let four = (low[part * 64 + within % 64] >> (within / 64 * 4)) & 15;
        let two = (high[part * 32 + within % 32] >> (within / 32 * 2)) & 3;
        let number = f32::from(four | (two << 4)) - 32.0;
        *value = scale * f32::from(scales[index / 16] as i8) * number;
    }
}
