//! Compressed constants: decoded once, when a function is planned.

use super::elementwise::from_integers;
use super::{Call, Definition, Prepared, axis_index, checked_count};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::Layout;
use crate::storage::{Buffer, Pool};
use crate::tensor::{Tensor, from_wide};
use anemll_weights::{Groups, unpack};
use bytemuck::Pod;

pub(super) const ALL: &[Definition] = &[
    Definition::new("constexpr_affine_dequantize", affine),
    Definition::new("constexpr_blockwise_shift_scale", blockwise),
    Definition::new("constexpr_cast", cast),
    Definition::new("constexpr_lut_to_dense", lut),
    Definition::new("constexpr_sparse_to_dense", sparse),
];

fn required(call: &Call<'_>, name: &str) -> Outcome<Tensor> {
    match call.constant(name)? {
        Some(tensor) => Ok(tensor),
        None => invalid(format!("argument `{name}` is missing")),
    }
}

fn decoded(tensor: Tensor) -> Outcome<Prepared> {
    Ok(Prepared::Constant(vec![tensor]))
}

/// f32 results as a constant of a float type.
fn floats(element: Element, shape: &[usize], values: &[f32]) -> Outcome<Tensor> {
    let wide = Buffer::from_slice(values);
    from_wide(element, Layout::contiguous(shape), wide, &Pool::default())
}

/// The shape that an argument of the older forms gives.
fn given_shape(call: &Call<'_>) -> Outcome<Option<Vec<usize>>> {
    let Some(sizes) = call.integers("shape")? else { return Ok(None) };
    let shape: Vec<usize> = sizes.iter().filter_map(|&size| usize::try_from(size).ok()).collect();
    if shape.len() != sizes.len() {
        return invalid(format!("shape {sizes:?}"));
    }
    checked_count(&shape)?;
    Ok(Some(shape))
}

/// Bits of an index into `entries` entries.
fn index_bits(entries: usize) -> Outcome<u8> {
    (1..=8u8).find(|&bits| 1usize << bits == entries).map_or_else(
        || invalid(format!("a table of {entries} entries: expected 2 to 256, a power of two")),
        Ok,
    )
}

/// `constexpr_lut_to_dense`. Newer form: indices of a packed type with the shape of the result,
/// lut (groups per axis.., entries, vector size). Older form: flat packed bytes, one table, shape.
fn lut(call: &Call<'_>) -> Outcome<Prepared> {
    let (indices, lut) = (required(call, "indices")?, required(call, "lut")?);
    if let Some(shape) = given_shape(call)? {
        let bits = index_bits(lut.count())?;
        let count = checked_count(&shape)?;
        if indices.storage.bytes().len() < (count * bits as usize).div_ceil(8) {
            return invalid(format!("too few index bytes for shape {shape:?}"));
        }
        let list = unpack(indices.storage.bytes(), bits, count);
        return decoded(look_up(&lut, &list, &shape, &vec![1; shape.len()], None)?);
    }
    let rank = indices.rank();
    if lut.rank() != rank + 2 {
        return invalid(format!("lut {:?} for indices {:?}", lut.shape(), indices.shape()));
    }
    let bits = match indices.element {
        Element::PackedUnsigned(bits) => bits,
        Element::U8 => 8,
        other => return invalid(format!("indices of type {}", other.name())),
    };
    let (groups, tail) = lut.shape().split_at(rank);
    if index_bits(tail[0])? != bits {
        return invalid(format!("{} entries for indices of {bits} bits", tail[0]));
    }
    if indices.shape().iter().zip(groups).any(|(&size, &groups)| groups == 0 || size % groups != 0)
    {
        return invalid(format!("lut {:?} for indices {:?}", lut.shape(), indices.shape()));
    }
    let vector = match (tail[1], call.integer("vector_axis")?) {
        (1, _) => None,
        (0, _) => return invalid("a lut of empty vectors"),
        (size, Some(axis)) => Some((axis_index(axis, rank)?, size)),
        (size, None) => return invalid(format!("vectors of {size} need `vector_axis`")),
    };
    let list = unpack(indices.storage.bytes(), bits, indices.count());
    decoded(look_up(&lut, &list, indices.shape(), groups, vector)?)
}

/// The table entries that the indices name. `vector`: axis and length of the vectors.
fn look_up(
    lut: &Tensor,
    indices: &[u8],
    shape: &[usize],
    groups: &[usize],
    vector: Option<(usize, usize)>,
) -> Outcome<Tensor> {
    match lut.element.size() {
        Some(1) => look_up_as::<u8>(lut, indices, shape, groups, vector),
        Some(2) => look_up_as::<u16>(lut, indices, shape, groups, vector),
        Some(4) => look_up_as::<u32>(lut, indices, shape, groups, vector),
        _ => unsupported(format!("a lut of {} values", lut.element.name())),
    }
}

fn look_up_as<T: Pod>(
    lut: &Tensor,
    indices: &[u8],
    shape: &[usize],
    groups: &[usize],
    vector: Option<(usize, usize)>,
) -> Outcome<Tensor> {
    let (axis, length) = vector.unwrap_or((shape.len().saturating_sub(1), 1));
    let table: &[T] = lut.dense();
    let Some(groups) = Groups::new(shape, groups) else {
        return invalid(format!("lut {:?} for indices {shape:?}", lut.shape()));
    };
    let (tables, run) = (groups.count(), groups.run());
    let entries = lut.count() / (tables * length).max(1);
    let mut target = shape.to_vec();
    if let Some(size) = target.get_mut(axis) {
        match size.checked_mul(length) {
            Some(long) => *size = long,
            None => return invalid("the result is too large"),
        }
    }
    let count = checked_count(&target)?;
    let mut buffer = Buffer::zeroed(count * size_of::<T>())?;
    let output: &mut [T] = buffer.slice_mut();
    let inner: usize = shape.get(axis + 1..).unwrap_or_default().iter().product();
    for (number, run_indices) in indices.chunks(run).enumerate() {
        let first = number * run;
        let own = &table[groups.of(first) * entries * length..];
        let own = &own[..entries * length];
        if length == 1 {
            for (slot, &index) in
                output[first..first + run_indices.len()].iter_mut().zip(run_indices)
            {
                *slot = own[index as usize];
            }
            continue;
        }
        for (offset, &index) in run_indices.iter().enumerate() {
            let flat = first + offset;
            let (outer, column) = (flat / inner, flat % inner);
            for component in 0..length {
                output[(outer * length + component) * inner + column] =
                    own[index as usize * length + component];
            }
        }
    }
    Ok(Tensor::owned(lut.element, &target, buffer))
}

/// Quantized elements, of a packed or byte-sized integer type, or floats, as f32.
fn values(tensor: &Tensor) -> Outcome<Vec<f32>> {
    match tensor.element {
        Element::PackedUnsigned(bits) => {
            let list = unpack(tensor.storage.bytes(), bits, tensor.count());
            Ok(list.into_iter().map(f32::from).collect())
        }
        Element::PackedSigned4 => {
            let list = unpack(tensor.storage.bytes(), 4, tensor.count());
            // The upper bit of the nibble is the sign.
            Ok(list.into_iter().map(|value| f32::from((value << 4) as i8 >> 4)).collect())
        }
        _ => tensor.floats(),
    }
}

/// `constexpr_affine_dequantize`: scale * (data - zero point), both per element of one axis or
/// for all.
fn affine(call: &Call<'_>) -> Outcome<Prepared> {
    let data = required(call, "quantized_data")?;
    let scale = required(call, "scale")?;
    let zero = required(call, "zero_point")?;
    let axis = axis_index(call.integer("axis")?.unwrap_or(0), data.rank())?;
    let size = data.shape()[axis];
    let (scales, zeros) = (scale.floats()?, values(&zero)?);
    if ![1, size].contains(&scales.len()) || ![1, size].contains(&zeros.len()) {
        return invalid(format!(
            "{} scales and {} zero points for axis {axis} of {:?}",
            scales.len(),
            zeros.len(),
            data.shape()
        ));
    }
    let inner: usize = data.shape()[axis + 1..].iter().product();
    let mut list = values(&data)?;
    for (row, piece) in list.chunks_mut(inner.max(1)).enumerate() {
        let factor = scales[(row % size).min(scales.len() - 1)];
        let origin = zeros[(row % size).min(zeros.len() - 1)];
        piece.iter_mut().for_each(|value| *value = (*value - origin) * factor);
    }
    decoded(floats(scale.element, data.shape(), &list)?)
}

/// `constexpr_blockwise_shift_scale`: scale * (data - offset), each scale for a block of elements.
fn blockwise(call: &Call<'_>) -> Outcome<Prepared> {
    let (data, scale) = (required(call, "data")?, required(call, "scale")?);
    let offset = call.constant("offset")?;
    let (shape, blocks) = (data.shape(), scale.shape());
    let groups = Groups::new(shape, blocks)
        .filter(|_| offset.as_ref().is_none_or(|offset| offset.shape() == blocks));
    let Some(groups) = groups else {
        return invalid(format!("scale {blocks:?} or the offset does not suit data {shape:?}"));
    };
    let scales = scale.floats()?;
    let offsets = offset.as_ref().map(values).transpose()?;
    let mut list = values(&data)?;
    for (number, run) in list.chunks_mut(groups.run()).enumerate() {
        let block = groups.of(number * groups.run());
        let origin = offsets.as_ref().map_or(0.0, |offsets| offsets[block]);
        run.iter_mut().for_each(|value| *value = (*value - origin) * scales[block]);
    }
    decoded(floats(scale.element, shape, &list)?)
}

/// `constexpr_cast`: a constant in another float type.
fn cast(call: &Call<'_>) -> Outcome<Prepared> {
    let source = required(call, "source_val")?;
    let name = call.text("output_dtype")?.unwrap_or("fp32");
    match Element::from_cast_name(name) {
        Some(element) if element.is_float() => {
            decoded(floats(element, source.shape(), &source.floats()?)?)
        }
        _ => unsupported(format!("a constant cast to `{name}`")),
    }
}

/// `constexpr_sparse_to_dense`: a bit per element says whether the next value or zero stands
/// there.
fn sparse(call: &Call<'_>) -> Outcome<Prepared> {
    let (data, mask) = (required(call, "nonzero_data")?, required(call, "mask")?);
    let shape = match given_shape(call)? {
        Some(shape) => shape,
        None => mask.shape().to_vec(),
    };
    let count = checked_count(&shape)?;
    if mask.storage.bytes().len() < count.div_ceil(8) {
        return invalid(format!("too few mask bits for shape {shape:?}"));
    }
    let bits = unpack(mask.storage.bytes(), 1, count);
    if bits.iter().filter(|&&bit| bit != 0).count() != data.count() {
        return invalid(format!("the mask does not name {} elements", data.count()));
    }
    if data.element.is_float() {
        let list = data.floats()?;
        let mut next = list.into_iter();
        let dense: Vec<f32> = bits
            .iter()
            .map(|&bit| if bit == 0 { 0.0 } else { next.next().unwrap_or(0.0) })
            .collect();
        return decoded(floats(data.element, &shape, &dense)?);
    }
    let mut next = data.integers()?.into_iter();
    let dense: Vec<i64> =
        bits.iter().map(|&bit| if bit == 0 { 0 } else { next.next().unwrap_or(0) }).collect();
    decoded(from_integers(data.element, &shape, &dense)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Input, Operand};
    use crate::testing::{Random, pack};
    use half::f16;
    use std::collections::BTreeMap;

    fn run(operation: &str, arguments: &[(&'static str, Tensor)]) -> Outcome<Tensor> {
        let arguments = arguments
            .iter()
            .map(|(name, tensor)| (*name, vec![Operand::Tensor(Input::Constant(tensor.clone()))]))
            .collect::<BTreeMap<_, _>>();
        let call = Call {
            operation,
            arguments,
            outputs: Vec::new(),
            last_uses: Vec::new(),
            in_place: None,
        };
        let Some(definition) = crate::kernels::find(operation) else { panic!("{operation}") };
        match (definition.prepare)(&call)? {
            Prepared::Constant(mut tensors) => Ok(tensors.remove(0)),
            Prepared::Step(_) => panic!("a constexpr operation is decoded at once"),
        }
    }

    fn packed(element: Element, shape: &[usize], values: &[u8]) -> Tensor {
        let bytes = pack(values, element.bits() as u8);
        Tensor::owned(element, shape, Buffer::from_bytes(&bytes))
    }

    #[test]
    fn every_index_width_looks_up_its_table() {
        let mut random = Random::new(9);
        for bits in [1u8, 2, 3, 4, 6, 8] {
            let entries = 1usize << bits;
            let shape = [6, 5, 1, 1];
            let indices: Vec<u8> = (0..30).map(|_| random.below(entries) as u8).collect();
            let table: Vec<f16> = (0..3 * entries).map(|_| f16::from_f32(random.unit())).collect();
            let element = if bits == 8 { Element::U8 } else { Element::PackedUnsigned(bits) };
            let lut = Tensor::from_slice(Element::F16, &[3, 1, 1, 1, entries, 1], &table);
            let arguments = [("indices", packed(element, &shape, &indices)), ("lut", lut)];
            let result = run("constexpr_lut_to_dense", &arguments).unwrap();
            assert_eq!(result.shape(), shape);
            for (flat, value) in result.dense::<f16>().iter().enumerate() {
                let group = flat / 10;
                assert_eq!(*value, table[group * entries + indices[flat] as usize]);
            }
            // the older form: flat bytes, one table, a shape
            let one = Tensor::from_slice(Element::F16, &[entries], &table[..entries]);
            let bytes = pack(&indices, bits);
            let flat = Tensor::from_slice(Element::U8, &[bytes.len()], &bytes);
            let sizes = Tensor::from_slice(Element::U32, &[2], &[5u32, 6]);
            let result =
                run("constexpr_lut_to_dense", &[("indices", flat), ("lut", one), ("shape", sizes)]);
            let result = result.unwrap();
            assert_eq!(result.shape(), [5, 6]);
            for (index, value) in indices.iter().zip(result.dense::<f16>()) {
                assert_eq!(*value, table[*index as usize]);
            }
        }
    }

    #[test]
    fn groups_along_both_axes_and_vectors() {
        // 2 x 4 indices; 2 groups along axis 1; vectors of 2 along axis 0
        let indices = packed(Element::PackedUnsigned(1), &[2, 4], &[0, 1, 0, 1, 1, 1, 0, 0]);
        let table: Vec<f32> = vec![1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
        let lut = Tensor::from_slice(Element::F32, &[1, 2, 2, 2], &table);
        let axis = Tensor::from_slice(Element::I32, &[], &[0i32]);
        let result = run(
            "constexpr_lut_to_dense",
            &[("indices", indices), ("lut", lut), ("vector_axis", axis)],
        );
        let result = result.unwrap();
        assert_eq!(result.shape(), [4, 4]);
        assert_eq!(
            result.floats().unwrap(),
            [
                1.0, 3.0, 10.0, 30.0, 2.0, 4.0, 20.0, 40.0, 3.0, 3.0, 10.0, 10.0, 4.0, 4.0, 20.0,
                20.0
            ]
        );
    }

    #[test]
    fn wrong_tables_are_refused() {
        let indices = packed(Element::PackedUnsigned(2), &[4], &[0, 1, 2, 3]);
        let lut = |shape: &[usize]| {
            Tensor::owned(Element::F16, shape, {
                Buffer::zeroed(2 * shape.iter().product::<usize>()).unwrap()
            })
        };
        for shape in [&[1, 8, 1][..], &[3, 4, 1], &[4, 1], &[1, 4, 2], &[0, 4, 1]] {
            let arguments = [("indices", indices.clone()), ("lut", lut(shape))];
            assert!(run("constexpr_lut_to_dense", &arguments).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn affine_and_blockwise_values() {
        let data = Tensor::from_slice(Element::I8, &[2, 2], &[1i8, -1, 4, 6]);
        let scale = Tensor::from_slice(Element::F32, &[2], &[0.5f32, 2.0]);
        let zero = Tensor::from_slice(Element::I8, &[2], &[-1i8, 4]);
        let arguments = [("quantized_data", data), ("scale", scale), ("zero_point", zero)];
        let result = run("constexpr_affine_dequantize", &arguments).unwrap();
        assert_eq!(result.floats().unwrap(), [1.0, 0.0, 0.0, 4.0]);

        // nibbles 1, -1, -8, 7 in two blocks
        let data = packed(Element::PackedSigned4, &[1, 4], &[1, 15, 8, 7]);
        let scale = Tensor::from_slice(Element::F16, &[1, 2], &[0.5f32, 2.0].map(f16::from_f32));
        let offset = packed(Element::PackedSigned4, &[1, 2], &[1, 14]);
        let arguments = [("data", data), ("scale", scale), ("offset", offset)];
        let result = run("constexpr_blockwise_shift_scale", &arguments).unwrap();
        assert_eq!(result.floats().unwrap(), [0.0, -1.0, -12.0, 18.0]);
    }

    #[test]
    fn sparse_values_go_where_the_mask_says() {
        let data = Tensor::from_slice(Element::F32, &[2], &[7.0f32, 8.0]);
        let mask = Tensor::from_slice(Element::U8, &[1], &[0b0001_0010u8]);
        let shape = Tensor::from_slice(Element::U32, &[1], &[6u32]);
        let arguments = [("nonzero_data", data), ("mask", mask), ("shape", shape)];
        let result = run("constexpr_sparse_to_dense", &arguments).unwrap();
        assert_eq!(result.floats().unwrap(), [0.0, 7.0, 0.0, 0.0, 8.0, 0.0]);
    }
}
