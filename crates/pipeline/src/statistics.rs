//! Statistics of the weights' inputs as a conversion uses them: checked against the model.

use super::references::Weight;
use anemll_calibration::Statistics as File;
use anemll_codes as codes;
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::data::Plan;
use anemll_plugin_api::{Error, Result, Tensor};
use std::path::Path;

/// The role of a table that is looked up: it has no input, and so no statistics.
const LOOKED_UP: &str = "embedding";

/// An open file of statistics.
pub(super) struct Statistics {
    file: File,
    sha256: String,
}

impl Statistics {
    /// Reads a file of the user's. Without a directory of weights, the names in it are not checked.
    ///
    /// # Errors
    /// The file cannot be used, or names a weight that the model has not.
    pub(super) fn read(path: &Path, directory: Option<&ModelDirectory>) -> Result<Self> {
        let file = File::open(path)?;
        if let Some(model) = directory
            && let Some(name) = file.weights().find(|name| !model.tensors().contains_key(*name))
        {
            return Err(file
                .invalid(&format!(
                    "the statistics name `{name}`, which is not a weight of this model"
                ))
                .with_hint("take the statistics of the model that is converted"));
        }
        let sha256 = file.check_values()?;
        Ok(Self { file, sha256 })
    }

    /// What a calibration of this run has made.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn made(path: &Path) -> Result<Self> {
        Ok(Self { file: File::open(path)?, sha256: String::new() })
    }

    /// Refuses statistics that say they are of another model.
    ///
    /// # Errors
    /// They are.
    pub(super) fn check_source(&self, source_sha256: &str) -> Result<()> {
        match self.file.provenance() {
            Some(said) if said.source_sha256 != source_sha256 => Err(self
                .file
                .invalid("the statistics are of another model, or of this one before it changed")
                .with_hint("calibrate the model that is converted: `anemll calibrate`")),
            _ => Ok(()),
        }
    }

    /// sha256 of the file in hexadecimal: other statistics make another conversion.
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// How many tokens they are of; zero where they do not say.
    pub(super) fn tokens(&self) -> u64 {
        self.file.provenance().map_or(0, |said| said.tokens)
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether they are mean products of two inputs, for every weight.
    pub(super) fn have_products(&self) -> bool {
        self.file.weights().all(|name| self.file.shape(name).is_some_and(|shape| shape.len() == 2))
    }

    /// The statistics of a weight's input under `name`; none for a table that is looked up, and for
    /// a weight that the file does not have.
    ///
    /// # Errors
    /// They have another shape than the weight asks for, or cannot be read.
    pub(super) fn of(&self, weight: &Weight, name: &str) -> Result<Option<Tensor>> {
        match self.check_shape(weight)? {
            true => self.file.tensor(&weight.reference.tensor, name),
            false => Ok(None),
        }
    }

    /// The mean squares of a weight's inputs under `name`; otherwise as [`Self::of`].
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(super) fn squares(&self, weight: &Weight, name: &str) -> Result<Option<Tensor>> {
        match self.check_shape(weight)? {
            true => self.file.squares(&weight.reference.tensor, name),
            false => Ok(None),
        }
    }

    /// Whether there are statistics of a weight.
    fn check_shape(&self, weight: &Weight) -> Result<bool> {
        let tensor = &weight.reference.tensor;
        if weight.reference.role == LOOKED_UP {
            return Ok(false);
        }
        let Some(shape) = self.file.shape(tensor) else { return Ok(false) };
        let inputs: u64 = weight.shape.iter().skip(1).product();
        if shape != [inputs] && shape != [inputs, inputs] {
            return Err(self.file.invalid(&format!(
                "the statistics of `{tensor}` have the shape {shape:?}, expected [{inputs}] or [{inputs}, {inputs}]"
            )));
        }
        Ok(true)
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
                && self.file.shape(&weight.reference.tensor).is_none()
        });
        match missing {
            Some(weight) => Err(self
                .file
                .invalid(&format!(
                    "the statistics have no tensor `{}`, a weight that is to be encoded",
                    weight.reference.tensor
                ))
                .with_hint(
                    "gather statistics of every weight with `anemll calibrate`, or leave \
                     --calibration out",
                )),
            None => Ok(()),
        }
    }
}

/// Whoever gives statistics wants them used.
pub(super) fn for_nobody() -> Error {
    Error::new(codes::USAGE, "--calibration STATS is for a quantizer")
        .with_hint("give bits with --lut, or a quantizer with --quantizer")
}
