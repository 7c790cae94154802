//! Constants of a program: immediate values, weights from its weight files, and what constexpr
//! operations make of those.

use crate::element::Element;
use crate::failure::{Failure, Outcome, invalid, unsupported};
use crate::kernels::{Input, Operand, checked_count};
use crate::layout::{Layout, element_count};
use crate::shelf::Shelf;
use crate::simd;
use crate::source::Source;
use crate::storage::{Buffer, Storage};
use crate::tensor::Tensor;
use anemll_mil::literal::{tensor_bytes, tensor_type};
use anemll_mil::{DataType, Literal, TensorType};
use anemll_weights::Decoder;
use coreml_proto::mil;
use coreml_proto::mil::value::Value as Place;
use half::f16;
use std::sync::Arc;

/// The value as an operand. Weights come from the shelf; immediate values are copied.
pub(crate) fn operand(value: &mil::Value, model: &Source, shelf: &Shelf) -> Outcome<Operand> {
    let kind = tensor_type(value).map_err(Failure::Invalid)?;
    if kind.data_type == DataType::String {
        let literal = Literal::from_value(value).map_err(Failure::Invalid)?;
        return match literal.text() {
            Some(text) => Ok(Operand::Text(text.to_owned())),
            None => unsupported("a constant of several strings"),
        };
    }
    let element = element(&kind)?;
    let shape = fixed_shape(&kind)?;
    let Some(bytes) = element_count(&shape).and_then(|count| element.bytes_of(count)) else {
        return invalid(format!("a constant of shape {shape:?} is too large"));
    };
    let storage = match &value.value {
        Some(Place::BlobFileValue(place)) => {
            let file = model.weight_file(&place.file_name)?;
            let record = file.record(place.offset)?;
            if record.blob_type().data_type() != kind.data_type
                || record.size_in_bytes() != bytes as u64
            {
                return invalid(format!(
                    "the weight record at offset {} holds {} bytes of {}, the program says {kind}",
                    place.offset,
                    record.size_in_bytes(),
                    record.blob_type()
                ));
            }
            Storage::new(shelf.weight(file, &record)?)
        }
        _ => {
            let (_, data) = tensor_bytes(value).map_err(Failure::Invalid)?;
            if data.len() != bytes {
                return invalid(format!("a constant of {kind} has {} bytes", data.len()));
            }
            Storage::new(Arc::new(Buffer::from_bytes(&data)))
        }
    };
    let tensor = Tensor { element, layout: Layout::contiguous(&shape), storage };
    Ok(Operand::Tensor(Input::Constant(tensor)))
}

/// What the constexpr operation of this name makes. It is a weight, and stays in the type of which
/// the program says it is.
pub(crate) fn decoded(decoder: &Decoder<'_>, name: &str) -> Outcome<Tensor> {
    let values = decoder.values(name)?;
    let element = element_of(values.data_type)?;
    let count = checked_count(&values.shape)?;
    let Some(bytes) = element.bytes_of(count) else { return invalid("the result is too large") };
    let mut buffer = Buffer::zeroed(bytes)?;
    match element {
        Element::F32 => values.fill(0, buffer.slice_mut())?,
        Element::F16 => {
            let mut rest: &mut [f16] = buffer.slice_mut();
            values.for_each_piece(|piece| {
                let (part, behind) = std::mem::take(&mut rest).split_at_mut(piece.len());
                simd::narrow(piece, part);
                rest = behind;
                Ok(())
            })?;
        }
        Element::I8 | Element::U8 => {
            let mut slots = buffer.bytes_mut().iter_mut();
            values.for_each_piece(|piece| {
                // Stored as integers, so that they are whole; the sign is in the upper bit.
                slots.by_ref().zip(piece).for_each(|(slot, value)| *slot = *value as i16 as u8);
                Ok(())
            })?;
        }
        other => return unsupported(format!("weights that are decoded to {}", other.name())),
    }
    Ok(Tensor::owned(element, &values.shape, buffer))
}

/// The runtime's element type of a MIL type.
pub(crate) fn element(kind: &TensorType) -> Outcome<Element> {
    element_of(kind.data_type)
}

fn element_of(data_type: DataType) -> Outcome<Element> {
    Element::of(data_type).map_or_else(|| unsupported(format!("values of type {data_type}")), Ok)
}

/// Sizes of all axes; an error if one is unknown.
pub(crate) fn fixed_shape(kind: &TensorType) -> Outcome<Vec<usize>> {
    let sizes = kind.fixed_shape().unwrap_or_default();
    if sizes.len() != kind.shape.len() {
        return invalid(format!("{kind} where a known shape is needed"));
    }
    sizes
        .into_iter()
        .map(|size| usize::try_from(size).or_else(|_| invalid(format!("size {size}"))))
        .collect()
}

/// Sizes of all axes, `None` for the unknown ones.
pub(crate) fn open_shape(kind: &TensorType) -> Outcome<Vec<Option<usize>>> {
    kind.shape
        .iter()
        .map(|dimension| match dimension.fixed() {
            None => Ok(None),
            Some(size) => match usize::try_from(size) {
                Ok(size) => Ok(Some(size)),
                Err(_) => invalid(format!("size {size}")),
            },
        })
        .collect()
}
