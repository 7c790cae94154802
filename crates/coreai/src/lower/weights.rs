//! Stored values, and weights that are made of them.

use super::{Job, Lowered, Lowering};
use crate::reading::{self, Bound, Entry, Known};
use anemll_aicode::Value;
use anemll_mil::literal::{tensor_bytes, tensor_type};
use anemll_mil::references::blob_of;
use anemll_mil::types::ValueType;
use coreml_proto::mil;

/// From how many elements on a constant stands in a blob, as Apple's writer has it.
const BLOB_ELEMENTS: u64 = 256;

impl<'a> Lowering<'a, '_> {
    /// A stored value, with another shape of as many elements where one is given.
    pub(super) fn stored(&mut self, value: &'a mil::Value, shape: Option<&[i64]>) -> Lowered {
        let mut kind = reading::tensor(&tensor_type(value)?)?;
        if let Some(shape) = shape {
            kind = kind.shaped(shape);
        }
        if let Some(blob) = blob_of(value) {
            let index = self.blobs.record(&blob.file_name, blob.offset)?;
            return Ok(self.builder.blob(&kind, index));
        }
        let (_, bytes) = tensor_bytes(value)?;
        // Tables of few bits are small, but loaders read packed ones from blobs alone.
        let packed = kind.element.bits() < 8;
        if packed || kind.element_count().is_some_and(|count| count >= BLOB_ELEMENTS) {
            let index = self.blobs.bytes(bytes.into_owned());
            return Ok(self.builder.blob(&kind, index));
        }
        Ok(self.builder.constant(&kind, &bytes))
    }

    /// A weight in the shape of its stored form and so many axes of size 1 behind it, which must be of
    /// the type that the program takes it for. Neither indices nor tables change, so that functions
    /// share them whatever shape they ask for.
    pub(super) fn decoded(
        &mut self,
        operation: &'a mil::Operation,
        kind: &ValueType,
        ones: usize,
    ) -> Lowered {
        let value = self.decode(operation, ones)?;
        let ValueType::Tensor(kind) = kind else { return Err("it gives no tensor".into()) };
        let mut expected = reading::tensor(kind)?;
        expected.shape.extend(std::iter::repeat_n(1, ones));
        let found = self.builder.tensor(value);
        match found == expected {
            true => Ok(value),
            false => Err(format!("the weight was lowered to {found}, but is {expected}").into()),
        }
    }

    fn decode(&mut self, operation: &'a mil::Operation, ones: usize) -> Lowered {
        let job = Job { operation, kinds: Vec::new() };
        match operation.r#type.as_str() {
            "constexpr_lut_to_dense" => {
                let indices = self.part(operation, "indices", ones, 0)?;
                let table = self.part(operation, "lut", ones, 2)?;
                let width = self.builder.shape(table).last().copied().unwrap_or(1);
                let axis = match width {
                    1 => None,
                    _ => {
                        let rank = self.builder.shape(indices).len() - ones;
                        let axis = self.integers(&job, "vector_axis")?;
                        let axis = axis.and_then(|axis| super::place(*axis.first()?, rank));
                        Some(axis.ok_or("its table holds vectors, but no `vector_axis` is known")?)
                    }
                };
                Ok(self.builder.lut_to_dense(indices, table, axis))
            }
            "constexpr_blockwise_shift_scale" => {
                let data = self.part(operation, "data", ones, 0)?;
                let scale = self.part(operation, "scale", ones, 0)?;
                if !self.builder.tensor(data).element.is_float() {
                    let offset = match reading::bound(operation, "offset").is_empty() {
                        true => None,
                        false => Some(self.part(operation, "offset", ones, 0)?),
                    };
                    let kinds =
                        [Some(data), offset].map(|v| v.map(|v| self.builder.tensor(v).element));
                    if offset.is_some() && kinds[0] != kinds[1] {
                        return Err("its `offset` is of another type than its `data`".into());
                    }
                    return Ok(self.builder.blockwise(data, scale, offset));
                }
                Err("Core AI scales integers alone".into())
            }
            name => Err(format!("weights made by `{name}` are not lowered").into()),
        }
    }

    /// A stored part of a weight, with axes of size 1 before its last `behind` axes.
    fn part(
        &mut self,
        operation: &'a mil::Operation,
        parameter: &str,
        ones: usize,
        behind: usize,
    ) -> Lowered {
        let value = reading::stored(&self.entries, operation, parameter)
            .ok_or_else(|| format!("its `{parameter}` is itself made of other weights"))?;
        let mut shape = reading::tensor(&tensor_type(value)?)?.shape;
        let place = shape.len().checked_sub(behind).ok_or("a table has too few axes")?;
        shape.splice(place..place, std::iter::repeat_n(1, ones));
        self.stored(value, Some(&shape))
    }

    /// A weight (out, in) as a convolution takes it, (out, in, 1, 1).
    pub(super) fn kernel_of(&mut self, job: &Job<'a>, parameter: &str) -> Lowered {
        let known = match reading::bound(job.operation, parameter).first() {
            Some(Bound::Name(name)) => match self.entries.get(name) {
                Some(Entry { kind, known: Known::Constexpr(operation) }) => {
                    let kind = kind.clone();
                    return self.decoded(operation, &kind, 2);
                }
                entry => entry.map(|entry| entry.known),
            },
            Some(Bound::Value(value)) => Some(Known::Constant(value)),
            None => None,
        };
        match known {
            Some(Known::Constant(value)) => {
                let mut shape = reading::tensor(&tensor_type(value)?)?.shape;
                shape.extend([1, 1]);
                self.stored(value, Some(&shape))
            }
            _ => {
                let value = self.operand(job, parameter)?;
                let mut shape = self.builder.shape(value);
                shape.extend([1, 1]);
                Ok(self.builder.reshape(value, &shape))
            }
        }
    }
}

/// The number of elements of a shape.
pub(super) fn count(shape: &[i64]) -> i64 {
    shape.iter().product()
}

/// A value of a builder, named here for the other files of this folder.
pub(super) type Made = Value;
