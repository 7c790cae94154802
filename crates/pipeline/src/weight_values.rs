//! The values of a weight, as 16-bit floats in the element order of the package.

use super::kept::Kept;
use super::references::Weight;
use super::rotation::Rotation;
use anemll_codes as codes;
use anemll_huggingface::{
    Fp16Options, Fp16Report, ModelDirectory, SourceType, TensorData, to_f32, to_fp16,
};
use anemll_plugin_api::data::{Axis, Transform, WeightReference};
use anemll_plugin_api::{Error, Result};
use half::f16;
use std::sync::Arc;

/// Where the values of weights come from, and what is done with those that do not suit.
pub(super) struct WeightSource<'a> {
    /// The model.
    pub(super) directory: &'a ModelDirectory,
    /// Clamp finite values beyond fp16 instead of refusing them.
    pub(super) clamp: bool,
    /// Take zeros for weights that the source lacks instead of refusing.
    pub(super) allow_missing: bool,
    /// What is known from other conversions.
    pub(super) kept: Option<&'a Arc<Kept>>,
}

impl WeightSource<'_> {
    /// Whether zeros stand in for a weight.
    pub(super) fn is_missing(&self, weight: &Weight) -> bool {
        self.allow_missing && !self.directory.tensors().contains_key(&weight.reference.tensor)
    }

    /// Reads a weight as fp16, with its own of these transforms and then the rotation, in the element
    /// order of the package.
    pub(super) fn read(
        &self,
        weight: &Weight,
        transforms: &[Transform],
        rotation: Option<Rotation<'_>>,
    ) -> Result<(Vec<f16>, Fp16Report)> {
        let kept = self.kept.filter(|_| transforms.is_empty());
        let seed = rotation.map(|rotation| rotation.seed);
        if let Some(known) = kept.and_then(|kept| kept.get(weight, seed)) {
            return Ok(known);
        }
        let values = self.read_anew(weight, transforms, rotation)?;
        if let Some(kept) = kept {
            kept.put(weight, seed, &values);
        }
        Ok(values)
    }

    fn read_anew(
        &self,
        weight: &Weight,
        transforms: &[Transform],
        rotation: Option<Rotation<'_>>,
    ) -> Result<(Vec<f16>, Fp16Report)> {
        let reference = &weight.reference;
        // A weight that the index promises is not absent but not fetched.
        if let Some(absence) = self.directory.absence(&reference.tensor) {
            return Err(Error::from(absence));
        }
        if self.is_missing(weight) {
            let elements: u64 = weight.shape.iter().product();
            return Ok((vec![f16::ZERO; elements as usize], Fp16Report::default()));
        }
        let mut source =
            self.directory.weight(&reference.tensor, &reference.shape, &reference.dimensions)?;
        if let Some([first, end]) = reference.rows {
            source = source.rows(first, end)?;
        }
        let options = Fp16Options { clamp: self.clamp, scale: reference.scale, add: reference.add };
        let mut transforms =
            transforms.iter().filter(|transform| transform.weight == weight.id).peekable();
        let rotation = rotation.filter(|_| Rotation::concerns(reference));
        let (values, report) = if transforms.peek().is_none() && rotation.is_none() {
            to_fp16(&source, &options)?
        } else {
            let shape = source.shape();
            let columns: u64 = shape.iter().skip(1).product();
            let mut values = to_f32(&source)?;
            for transform in transforms {
                apply(transform, &mut values, shape.first().copied().unwrap_or(1), columns)?;
            }
            if let Some(rotation) = rotation {
                rotation.weight(reference, &shape, &mut values)?;
            }
            let bytes = bytemuck::cast_slice(&values);
            TensorData::new(&reference.tensor, SourceType::Float32, &shape, bytes)
                .and_then(|transformed| to_fp16(&transformed, &options))?
        };
        let elements: u64 = weight.shape.iter().product();
        if values.len() as u64 != elements {
            return Err(Error::new(
                codes::WEIGHT_REFERENCE_INVALID,
                format!(
                    "the reference to `{}` gives {} values, but its type {:?} has {elements}",
                    reference.tensor,
                    values.len(),
                    weight.shape
                ),
            )
            .with_hint("this is a bug in the arch plugin; please report it to its author"));
        }
        Ok((permute(values, reference, &source.shape())?, report))
    }

    /// A weight with all digits that the weight files have, rotated, in the element order of the
    /// package.
    pub(super) fn exact(
        &self,
        weight: &Weight,
        rotation: Option<Rotation<'_>>,
    ) -> Result<Vec<f32>> {
        let reference = &weight.reference;
        let mut source =
            self.directory.weight(&reference.tensor, &reference.shape, &reference.dimensions)?;
        if let Some([first, end]) = reference.rows {
            source = source.rows(first, end)?;
        }
        let shape = source.shape();
        let mut values = to_f32(&source)?;
        if let Some(rotation) = rotation.filter(|_| Rotation::concerns(reference)) {
            rotation.weight(reference, &shape, &mut values)?;
        }
        let (scale, add) = (reference.scale.unwrap_or(1.0), reference.add.unwrap_or(0.0));
        values.iter_mut().for_each(|value| *value = *value * scale + add);
        permute(values, reference, &shape)
    }
}

/// Multiplies the rows or the columns of a `rows` x `columns` matrix.
fn apply(transform: &Transform, values: &mut [f32], rows: u64, columns: u64) -> Result<()> {
    let (expected, name) = match transform.axis {
        Axis::Rows => (rows, "rows"),
        Axis::Columns => (columns, "columns"),
        _ => {
            return Err(Error::new(
                codes::PLUGIN_BAD_ANSWER,
                format!(
                    "a transform of `{}` is along an axis that this version does not know",
                    transform.weight
                ),
            )
            .with_hint("update anemll, or use an older build of the quantizer"));
        }
    };
    if transform.factors.len() as u64 != expected {
        return Err(Error::new(
            codes::PLUGIN_BAD_ANSWER,
            format!(
                "a transform of `{}` has {} factors, but the weight has {expected} {name}",
                transform.weight,
                transform.factors.len(),
            ),
        ));
    }
    for (row, values) in values.chunks_exact_mut(columns as usize).enumerate() {
        match transform.axis {
            Axis::Rows => values.iter_mut().for_each(|value| *value *= transform.factors[row]),
            _ => {
                for (value, factor) in values.iter_mut().zip(&transform.factors) {
                    *value *= factor;
                }
            }
        }
    }
    Ok(())
}

/// Reorders the axes of a row-major tensor.
fn permute<T: Copy>(values: Vec<T>, reference: &WeightReference, shape: &[u64]) -> Result<Vec<T>> {
    let Some(order) = &reference.permute else { return Ok(values) };
    let order: Vec<usize> = order.iter().map(|axis| *axis as usize).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..shape.len()) {
        return Err(Error::new(
            codes::WEIGHT_REFERENCE_INVALID,
            format!("the reference to `{}` permutes {shape:?} by {order:?}", reference.tensor),
        )
        .with_hint("this is a bug in the arch plugin; please report it to its author"));
    }
    let shape: Vec<usize> = shape.iter().map(|size| *size as usize).collect();
    let strides: Vec<usize> =
        (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    let target: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    let mut index = vec![0usize; target.len()];
    let mut permuted = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        let offset: usize = index.iter().zip(&order).map(|(at, axis)| at * strides[*axis]).sum();
        permuted.push(values[offset]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < target[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(permuted)
}
