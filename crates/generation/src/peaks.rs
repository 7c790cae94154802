//! The largest values that a model computes, layer by layer, and which of them float16 cannot hold.

use crate::observation::{Observer, each_block, half_type, reads};
use anemll_codes as codes;
use anemll_mil::ops;
use anemll_plugin_api::{DType, Error, Result, Tensor};
use coreml_proto::mil;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The largest finite float16.
pub const LIMIT: f32 = 65504.0;
/// From here on a value is within a factor of 2 of the limit.
const NEAR: f32 = LIMIT / 2.0;

/// The largest value of an operation over all tokens, or of a layer over its operations.
#[derive(Debug, Clone, Serialize)]
pub struct Peak {
    /// Layer, counted from 0; null outside of the layers.
    pub layer: Option<u32>,
    /// The value with the largest absolute value.
    pub peak: f32,
    /// `beyond` the range of float16, `near` it (within a factor of 2), or `within`.
    pub range: &'static str,
    /// Token at which it stands; null where no axis counts tokens.
    pub position: Option<u64>,
    /// Name of the value in the program.
    pub value: String,
    /// Operation that computes it.
    pub operation: String,
    /// Values that are infinite or NaN even in f32, not counting minus infinity, which masks.
    pub not_finite: u64,
}

impl Peak {
    fn classify(&mut self) {
        self.range = match self.peak.abs() {
            _ if self.not_finite > 0 => "beyond",
            peak if peak > LIMIT => "beyond",
            peak if peak >= NEAR => "near",
            _ => "within",
        };
    }

    /// Whether it is worse than another one.
    pub fn is_larger(&self, known: &Self) -> bool {
        self.not_finite > 0 || self.peak.abs() > known.peak.abs()
    }
}

/// Notes the peaks of all values that operations compute.
pub struct Peaks {
    /// Values to see, by package and function.
    taps: BTreeMap<(PathBuf, String), Vec<String>>,
    /// Operation of each value.
    operations: BTreeMap<String, String>,
    batch: u64,
    /// Position of the first token of this batch.
    pub first: u64,
    /// Tokens of this batch that are none of the padding.
    pub tokens: u64,
    found: BTreeMap<String, Peak>,
}

impl Peaks {
    /// Peaks of the float16 values of these functions of packages, in batches of so many tokens.
    ///
    /// # Errors
    /// A package that cannot be read.
    pub fn new(functions: &[(PathBuf, String)], batch: u64) -> Result<Self> {
        let mut peaks = Self {
            taps: BTreeMap::new(),
            operations: BTreeMap::new(),
            batch,
            first: 0,
            tokens: 0,
            found: BTreeMap::new(),
        };
        each_block(functions, |path, function, block| {
            let mut taps = Vec::new();
            // Norms are made of x and -x; the latter would only repeat the peaks of another layer.
            let mut minus_one = BTreeSet::new();
            for operation in &block.operations {
                let kind = operation.r#type.as_str();
                if kind == "const" && is_minus_one(operation) {
                    minus_one.extend(operation.outputs.iter().map(|output| output.name.as_str()));
                }
                let negates =
                    kind == "mul" && reads(operation).any(|name| minus_one.contains(name));
                // What only moves elements has the peaks of its operands.
                if negates || ops::facts(kind).moves() || ops::is_constant(kind) {
                    continue;
                }
                for output in operation.outputs.iter().filter(|one| half_type(one).is_some()) {
                    taps.push(output.name.clone());
                    peaks.operations.insert(output.name.clone(), kind.to_owned());
                }
            }
            peaks.taps.insert((path.to_owned(), function.to_owned()), taps);
            Ok(())
        })?;
        Ok(peaks)
    }

    /// What was found, each value classified.
    pub fn into_values(self) -> Vec<Peak> {
        let mut values: Vec<Peak> = self.found.into_values().collect();
        values.iter_mut().for_each(Peak::classify);
        values
    }
}

/// Whether a constant is the float16 number -1.
fn is_minus_one(operation: &mil::Operation) -> bool {
    let value = operation.attributes.get("val");
    let bytes = value.and_then(|value| anemll_mil::literal::tensor_bytes(value).ok());
    bytes.is_some_and(|(_, bytes)| bytes[..] == half::f16::NEG_ONE.to_le_bytes())
}

/// The layer in a value's name, `layers_3_mlp_…`.
pub(crate) fn layer_of(name: &str) -> Option<u32> {
    let (_, rest) = name.split_once("layers_")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

impl Observer for Peaks {
    fn taps(&self, package: &Path, function: &str) -> Vec<String> {
        let key = (package.to_owned(), function.to_owned());
        self.taps.get(&key).cloned().unwrap_or_default()
    }

    fn see(&mut self, _: &Path, function: &str, value: &Tensor) -> Result<()> {
        if value.dtype != DType::FLOAT32 {
            return Err(Error::new(
                codes::RUN_FAILED,
                format!("the runtime gave `{}` as {}, not as float32", value.name, value.dtype),
            )
            .with_at(format!("function `{function}`")));
        }
        let Some(operation) = self.operations.get(&value.name) else { return Ok(()) };
        let axis = value.shape.iter().position(|size| *size == self.batch && self.batch > 1);
        let inner: u64 = match axis {
            Some(axis) => value.shape[axis + 1..].iter().product(),
            None => 1,
        };
        let entry = self.found.entry(value.name.clone()).or_insert_with(|| Peak {
            layer: layer_of(&value.name),
            peak: 0.0,
            range: "within",
            position: None,
            value: value.name.clone(),
            operation: operation.clone(),
            not_finite: 0,
        });
        for (index, bytes) in value.bytes.as_chunks::<4>().0.iter().enumerate() {
            let number = f32::from_le_bytes(*bytes);
            if number.abs() <= entry.peak.abs() || number == f32::NEG_INFINITY {
                continue;
            }
            let row = index as u64 / inner.max(1) % self.batch.max(1);
            // What the padding of the last batch gives is no finding.
            if axis.is_some() && row >= self.tokens {
                continue;
            }
            if number.is_finite() {
                entry.peak = number;
                entry.position = axis.map(|_| self.first + row);
            } else {
                entry.not_finite += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peaks(batch: u64, first: u64, tokens: u64) -> Peaks {
        Peaks {
            taps: BTreeMap::new(),
            operations: BTreeMap::from([("layers_7_mlp_x".to_owned(), "mul".to_owned())]),
            batch,
            first,
            tokens,
            found: BTreeMap::new(),
        }
    }

    fn tensor(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor { name: name.to_owned(), dtype: DType::FLOAT32, shape: shape.to_vec(), bytes }
    }

    #[test]
    fn peaks_have_their_token_and_leave_padding_and_masks_out() {
        let mut peaks = peaks(3, 10, 2);
        let values = [1.0, -5.0, 99.0, f32::NEG_INFINITY, -70000.0, 1e9];
        peaks
            .see(Path::new(""), "main", &tensor("layers_7_mlp_x", &[1, 2, 1, 3], &values))
            .unwrap();
        let peak = &peaks.found["layers_7_mlp_x"];
        assert_eq!((peak.layer, peak.peak, peak.position), (Some(7), -70000.0, Some(11)));
        assert_eq!((peak.operation.as_str(), peak.not_finite), ("mul", 0));
        let mut halves = tensor("x", &[1], &[1.0]);
        halves.dtype = DType::FLOAT16;
        assert_eq!(peaks.see(Path::new(""), "main", &halves).unwrap_err().code, codes::RUN_FAILED);
    }

    #[test]
    fn layers_are_read_from_names() {
        assert_eq!(layer_of("layers_12_self_attn_add_0"), Some(12));
        assert_eq!(layer_of("model_layers_0_x"), Some(0));
        assert_eq!(layer_of("lm_head_conv"), None);
        assert_eq!(layer_of("layers_"), None);
    }
}
