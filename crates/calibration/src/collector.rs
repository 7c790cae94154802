//! Adding up what matrices are multiplied with.

use crate::taps::{InputAxis, Tap, Taps};
use anemll_codes as codes;
use anemll_generation::observation::Observer;
use anemll_gptq::ProductSums;
use anemll_plugin_api::{DType, Error, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The square of each input.
    Squares,
    /// The product of every two inputs.
    Products,
}

/// Sums of one value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sums {
    Squares(Vec<f64>),
    Products(ProductSums),
}

/// Sees the inputs of matrices while a model runs, and adds up their squares or products.
#[derive(Debug)]
pub struct Collector {
    taps: Taps,
    sums: BTreeMap<String, Sums>,
    /// Tokens of the batch that is run which are none of its padding.
    pub(crate) tokens: usize,
}

impl Collector {
    /// Sums of these values of `taps`, all of them zero.
    pub(crate) fn new(taps: &Taps, names: &BTreeSet<String>, kind: Kind) -> Self {
        let known = taps.values().iter().filter(|(name, _)| names.contains(*name));
        let sums = known.map(|(name, tap)| (name.clone(), Sums::new(kind, tap.inputs))).collect();
        Self { taps: taps.clone(), sums, tokens: 0 }
    }

    pub(crate) fn sums(&self) -> &BTreeMap<String, Sums> {
        &self.sums
    }

    pub(crate) fn sums_mut(&mut self) -> &mut BTreeMap<String, Sums> {
        &mut self.sums
    }
}

impl Sums {
    fn new(kind: Kind, inputs: usize) -> Self {
        match kind {
            Kind::Squares => Self::Squares(vec![0.0; inputs]),
            Kind::Products => Self::Products(ProductSums::new(inputs)),
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(kind: Kind, inputs: usize) -> u64 {
        let inputs = inputs as u64;
        match kind {
            Kind::Squares => inputs.saturating_mul(8),
            Kind::Products => inputs.saturating_mul(inputs).saturating_mul(4),
        }
    }

    /// Adds `tokens` tokens of `values`, a row of `stride` elements for each input.
    pub(crate) fn add(&mut self, values: &[f32], tokens: usize, stride: usize) {
        match self {
            Self::Products(sums) => sums.add(values, tokens, stride),
            Self::Squares(sums) => {
                for (sum, row) in sums.iter_mut().zip(values.chunks_exact(stride)) {
                    *sum += row[..tokens]
                        .iter()
                        .map(|value| f64::from(*value) * f64::from(*value))
                        .sum::<f64>();
                }
            }
        }
    }

    /// The shape of the means.
    pub(crate) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Squares(sums) => vec![sums.len()],
            Self::Products(sums) => vec![sums.inputs(); 2],
        }
    }

    /// Means over so many tokens.
    pub(crate) fn means(&self, tokens: u64) -> Vec<f32> {
        let share = 1.0 / tokens.max(1) as f64;
        match self {
            Self::Squares(sums) => sums.iter().map(|sum| (sum * share) as f32).collect(),
            Self::Products(sums) => sums.symmetric(share as f32),
        }
    }
}

impl Observer for Collector {
    fn taps(&self, package: &Path, function: &str) -> Vec<String> {
        let mut names = self.taps.of(package, function);
        names.retain(|name| self.sums.contains_key(name));
        names
    }

    fn see(&mut self, _: &Path, function: &str, value: &Tensor) -> Result<()> {
        let (Some(tap), Some(sums)) =
            (self.taps.values().get(&value.name), self.sums.get_mut(&value.name))
        else {
            return Ok(());
        };
        let failed = |what: String| {
            Error::new(codes::RUN_FAILED, format!("the runtime gave `{}` {what}", value.name))
                .with_at(format!("function `{function}`"))
        };
        if value.dtype != DType::FLOAT32 {
            return Err(failed(format!("as {}, not as float32", value.dtype)));
        }
        let (values, stride) = rows(value, tap).ok_or_else(|| {
            failed(format!("in the shape {:?}, without {} inputs", value.shape, tap.inputs))
        })?;
        let tokens = self.tokens.min(stride);
        let mut counted = values.iter().enumerate().filter(|(at, _)| at % stride < tokens);
        if let Some((at, number)) = counted.find(|(_, number)| !number.is_finite()) {
            let input = at / stride;
            return Err(Error::new(
                codes::CALIBRATION_INPUT,
                format!("the model computes {number} as the input {input} of `{}`", value.name),
            )
            .with_hint(
                "weights that are multiplied with it cannot be weighed; `anemll preflight` shows where \
                 values leave their range",
            ));
        }
        sums.add(&values, tokens, stride);
        Ok(())
    }
}

/// A value as a row for each input, and how many elements a row has; none where the shape is another.
fn rows(value: &Tensor, tap: &Tap) -> Option<(Vec<f32>, usize)> {
    let elements: usize = value.shape.iter().map(|size| *size as usize).product();
    let stride = elements.checked_div(tap.inputs).filter(|stride| *stride > 0)?;
    let floats = value.bytes.as_chunks::<4>().0.iter();
    let values: Vec<f32> = floats.map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let inputs = tap.inputs as u64;
    match (tap.axis, value.shape.as_slice()) {
        (InputAxis::Second, [1, found, ..]) if *found == inputs => Some((values, stride)),
        (InputAxis::Last, [.., found]) if *found == inputs => {
            let mut rows = vec![0.0; values.len()];
            for (token, values) in values.chunks_exact(tap.inputs).enumerate() {
                for (input, value) in values.iter().enumerate() {
                    rows[input * stride + token] = *value;
                }
            }
            Some((rows, stride))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(inputs: usize, axis: InputAxis) -> Tap {
        Tap { inputs, axis, tensors: BTreeSet::new() }
    }

    fn tensor(shape: &[u64], values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new("x", DType::FLOAT32, shape, bytes).unwrap()
    }

    #[test]
    fn inputs_of_conv_and_linear_become_the_same_rows() {
        let conv = tensor(&[1, 2, 1, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
        let linear = tensor(&[1, 3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        let (first, second) =
            (rows(&conv, &tap(2, InputAxis::Second)), rows(&linear, &tap(2, InputAxis::Last)));
        assert_eq!(first, second);
        assert_eq!(first.unwrap().1, 3);
        assert_eq!(rows(&conv, &tap(3, InputAxis::Second)), None);
        assert_eq!(rows(&linear, &tap(3, InputAxis::Last)), None);
    }

    #[test]
    fn sums_leave_padding_out() {
        let values = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0];
        let mut squares = Sums::new(Kind::Squares, 2);
        let mut products = Sums::new(Kind::Products, 2);
        for sums in [&mut squares, &mut products] {
            sums.add(&values, 2, 3);
        }
        assert_eq!((squares.shape(), squares.means(2)), (vec![2], vec![2.5, 12.5]));
        let means = vec![2.5, 5.5, 5.5, 12.5];
        assert_eq!((products.shape(), products.means(2)), (vec![2, 2], means));
    }
}
