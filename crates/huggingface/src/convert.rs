//! Conversion of source weights to float16, with nothing lost unseen.

use crate::decode::{CHUNK, decode};
use crate::error::{ErrorKind, Result};
use crate::tensor::TensorData;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// The largest finite float16.
pub const LARGEST_FP16: f32 = 65504.0;

/// Absolute values from here on round to infinity: the middle between the largest finite float16
/// and the power of two after it (which rounds to even, that is up).
const ROUNDS_TO_INFINITY: f32 = 65520.0;

/// What is done to a value before it is rounded, and what happens when it is too large.
///
/// In float32, in this order: `scale` is multiplied, `add` is added.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fp16Options {
    /// Replace finite values beyond the range of float16 by the largest one, and count them.
    /// Otherwise the first is an error.
    pub clamp: bool,
    /// Factor of each value.
    pub scale: Option<f32>,
    /// Summand of each value, after the factor.
    pub add: Option<f32>,
}

/// What happened to the values of a conversion.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fp16Report {
    /// Values that were replaced by +-65504.
    pub clamped: u64,
    /// Values that were not zero and became zero.
    pub underflow_to_zero: u64,
    /// Results that are subnormal float16 numbers (below 2^-14), which some hardware takes as zero.
    pub subnormal: u64,
    /// Largest absolute value, before rounding and clamping.
    pub max_absolute: f32,
}

impl Fp16Report {
    /// Adds the numbers of another report.
    pub fn merge(&mut self, other: &Self) {
        self.clamped += other.clamped;
        self.underflow_to_zero += other.underflow_to_zero;
        self.subnormal += other.subnormal;
        self.max_absolute = self.max_absolute.max(other.max_absolute);
    }
}

/// Converts a tensor to float16, rounding to nearest, ties to even; the result has its shape.
///
/// # Errors
/// Each names the tensor and the position: a source value that is NaN or infinite, a result that
/// float16 cannot hold (unless it is to be clamped); and files that cannot be read.
pub fn to_fp16(tensor: &TensorData<'_>, options: &Fp16Options) -> Result<(Vec<f16>, Fp16Report)> {
    let Some(width) = tensor.source_type().width() else {
        return Err(tensor.unusable());
    };
    for (name, value) in [("scale", options.scale), ("add", options.add)] {
        if value.is_some_and(|value| !value.is_finite()) {
            return Err(tensor.error(ErrorKind::Usage, format!("{name} is not a finite number")));
        }
    }
    let mut output = tensor.reserve(tensor.elements())?;
    let mut report = Fp16Report::default();
    let (mut values, mut halves) = ([0.0; CHUNK], [f16::ZERO; CHUNK]);
    tensor.for_each_piece(|piece| {
        for bytes in piece.chunks(CHUNK * width) {
            let count = bytes.len() / width;
            let (values, halves) = (&mut values[..count], &mut halves[..count]);
            decode(tensor.source_type(), bytes, values);
            let chunk = Chunk { tensor, options, start: output.len() };
            chunk.convert(values, halves, &mut report)?;
            output.extend_from_slice(halves);
        }
        Ok(())
    })?;
    Ok((output, report))
}

/// The elements of a tensor as float32, which holds every one of them exactly.
///
/// # Errors
/// A type that cannot be a weight, and files that cannot be read.
pub fn to_f32(tensor: &TensorData<'_>) -> Result<Vec<f32>> {
    let Some(width) = tensor.source_type().width() else {
        return Err(tensor.unusable());
    };
    let mut output = tensor.reserve(tensor.elements())?;
    let mut values = [0.0; CHUNK];
    tensor.for_each_piece(|piece| {
        for bytes in piece.chunks(CHUNK * width) {
            let values = &mut values[..bytes.len() / width];
            decode(tensor.source_type(), bytes, values);
            output.extend_from_slice(values);
        }
        Ok(())
    })?;
    Ok(output)
}

/// Some elements of a tensor, beginning with the element `start`.
struct Chunk<'a> {
    tensor: &'a TensorData<'a>,
    options: &'a Fp16Options,
    start: usize,
}

impl Chunk<'_> {
    /// The loops look at all values and leave the rare cases to a second pass, so that the
    /// compiler can use vector instructions.
    fn convert(
        &self,
        values: &mut [f32],
        output: &mut [f16],
        report: &mut Fp16Report,
    ) -> Result<()> {
        // Infinity and NaN are the largest bit patterns without sign.
        if largest_bits(values) >= f32::INFINITY.to_bits() {
            return Err(self.not_finite(values));
        }
        if let Some(scale) = self.options.scale {
            values.iter_mut().for_each(|value| *value *= scale);
        }
        if let Some(add) = self.options.add {
            values.iter_mut().for_each(|value| *value += add);
        }
        let largest = largest_bits(values);
        report.max_absolute = report.max_absolute.max(f32::from_bits(largest));
        if largest >= ROUNDS_TO_INFINITY.to_bits() {
            if !self.options.clamp {
                return Err(self.overflow(values));
            }
            for value in values.iter_mut().filter(|value| value.abs() >= ROUNDS_TO_INFINITY) {
                *value = LARGEST_FP16.copysign(*value);
                report.clamped += 1;
            }
        }
        output.convert_from_f32_slice(values);
        let (mut zeros, mut subnormal) = (0_u32, 0_u32);
        for (value, half) in values.iter().zip(output.iter()) {
            let magnitude = half.to_bits() & 0x7FFF;
            zeros += u32::from(magnitude == 0) & u32::from(value.to_bits() & 0x7FFF_FFFF != 0);
            subnormal += u32::from(magnitude.wrapping_sub(1) < 0x03FF);
        }
        report.underflow_to_zero += u64::from(zeros);
        report.subnormal += u64::from(subnormal);
        Ok(())
    }

    fn not_finite(&self, values: &[f32]) -> crate::HuggingFaceError {
        let position = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
        self.tensor
            .error(
                ErrorKind::NotFinite,
                format!("the value at {} is {}", self.place(position), values[position]),
            )
            .with_hint("the checkpoint is damaged: download it again, or report it to its author")
    }

    fn overflow(&self, values: &[f32]) -> crate::HuggingFaceError {
        let beyond = |value: &f32| value.abs() >= ROUNDS_TO_INFINITY || value.is_nan();
        let position = values.iter().position(beyond).unwrap_or(0);
        self.tensor
            .error(
                ErrorKind::Overflow,
                format!(
                    "the value at {} is {}, beyond the range of float16 (+-{LARGEST_FP16})",
                    self.place(position),
                    values[position]
                ),
            )
            .with_hint("--clamp replaces such values by the largest float16 and counts them")
    }

    /// A position of the chunk as an index of the tensor, such as `[3, 17]`.
    fn place(&self, position: usize) -> String {
        format!("{:?}", self.tensor.index_of(self.start + position))
    }
}

/// The largest bit pattern without sign: that of the largest absolute value, and NaN is larger
/// than infinity.
fn largest_bits(values: &[f32]) -> u32 {
    values.iter().map(|value| value.to_bits() & 0x7FFF_FFFF).fold(0, u32::max)
}
