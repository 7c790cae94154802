//! `--statistics`: what the inputs of the weights are like, for quantizers that use it.
//!
//! The format is described in docs/reference/statistics.md: a safetensors file with one float32
//! tensor for each weight, of its name.

use super::references::Weight;
use anemll_codes as codes;
use anemll_files::Limit;
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::data::Plan;
use anemll_plugin_api::{DType, Error, Result, TensorView};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The role of a table that is looked up: it has no input, and so no statistics.
const LOOKED_UP: &str = "embedding";

/// An open file of statistics.
pub(super) struct Statistics {
    at: String,
    sha256: String,
    bytes: Vec<u8>,
    tensors: BTreeMap<String, Place>,
}

/// Where one tensor lies in the file.
struct Place {
    shape: Vec<u64>,
    range: Range<usize>,
}

/// One number for each input of each weight: far less than the weights themselves.
const LIMIT: Limit = Limit::new("a file of statistics", 4_000_000_000);

impl Statistics {
    /// Reads a file. Without a directory of weights, the names in it are not checked.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn read(path: &Path, directory: Option<&ModelDirectory>) -> Result<Self> {
        let at = path.display().to_string();
        let invalid =
            |reason: String| Error::new(codes::STATISTICS_INVALID, reason).with_at(at.clone());
        let unreadable =
            |source: std::io::Error| invalid(format!("the statistics cannot be read: {source}"));
        let bytes = anemll_files::read(path, LIMIT).map_err(unreadable)?;
        let damaged =
            |source| invalid(format!("the statistics are not a safetensors file: {source}"));
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let start = header.saturating_add(8);
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let refuse =
                |reason: String| Err(invalid(format!("the statistics of `{name}` {reason}")));
            if directory.is_some_and(|model| !model.tensors().contains_key(&name)) {
                return Err(invalid(format!(
                    "the statistics name `{name}`, which the model has not"
                ))
                .with_hint("take the statistics of the model that is converted"));
            }
            if info.dtype != Dtype::F32 {
                return refuse(format!("are {:?}, not F32", info.dtype));
            }
            let range = start.saturating_add(info.data_offsets.0)
                ..start.saturating_add(info.data_offsets.1);
            let Some(values) = bytes.get(range.clone()) else {
                return refuse("lie outside of the file".to_owned());
            };
            let values = values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            if let Some((index, value)) = values.enumerate().find(|(_, value)| !value.is_finite()) {
                return refuse(format!("have the value {value} at {index}"));
            }
            let shape = info.shape.iter().map(|size| *size as u64).collect();
            tensors.insert(name, Place { shape, range });
        }
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Ok(Self { at, sha256, bytes, tensors })
    }

    /// sha256 of the file in hexadecimal: other statistics make another conversion.
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The statistics of a weight's input under `name`; none for a table that is looked up, and for
    /// a weight that the file does not have.
    ///
    /// # Errors
    /// They have another shape than the weight asks for.
    pub(super) fn of<'a>(
        &'a self,
        weight: &Weight,
        name: &'a str,
    ) -> Result<Option<TensorView<'a>>> {
        let tensor = &weight.reference.tensor;
        if weight.reference.role == LOOKED_UP {
            return Ok(None);
        }
        let Some(place) = self.tensors.get(tensor) else { return Ok(None) };
        let inputs: u64 = weight.shape.iter().skip(1).product();
        if place.shape != [inputs] && place.shape != [inputs, inputs] {
            return Err(self.invalid(format!(
                "the statistics of `{tensor}` have the shape {:?}, expected [{inputs}] or [{inputs}, {inputs}]",
                place.shape
            )));
        }
        let bytes = self.bytes.get(place.range.clone()).unwrap_or_default();
        TensorView::new(name, DType::FLOAT32, &place.shape, bytes).map(Some)
    }

    /// Whoever gives statistics wants them used: a weight that is encoded must not lack them.
    ///
    /// # Errors
    /// One does; the message names it.
    pub(super) fn check_complete(&self, weights: &[&Weight], plan: &Plan) -> Result<()> {
        let encoded = |weight: &&&Weight| {
            plan.decisions.get(&weight.id).is_some_and(|decision| decision.encoding.is_some())
        };
        let missing = weights.iter().filter(encoded).find(|weight| {
            weight.reference.role != LOOKED_UP
                && !self.tensors.contains_key(&weight.reference.tensor)
        });
        match missing {
            Some(weight) => Err(self
                .invalid(format!(
                    "the statistics have no tensor `{}`, a weight that is to be encoded",
                    weight.reference.tensor
                ))
                .with_hint("gather statistics of every weight, or leave --statistics out")),
            None => Ok(()),
        }
    }

    fn invalid(&self, message: String) -> Error {
        Error::new(codes::STATISTICS_INVALID, message).with_at(self.at.clone())
    }
}
