//! Every matrix of a conversion beside the one of the model's files that it stands for.

use super::stored::{Found, Stored};
use crate::event::Event;
use crate::plugins::Plugins;
use crate::quantization::outline;
use crate::quantizer_choice::QuantizerChoice;
use crate::references::Weight;
use crate::rotation::Rotation;
use crate::statistics::Statistics;
use crate::weight_record::WeightRecord;
use crate::weight_values::WeightSource;
use anemll_calibration::{Inputs, MatrixError, TensorError};
use anemll_conversion::Conversion;
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::Result;
use anemll_plugin_api::data::{ModelDescription, WeightReference};
use anemll_services::check_cancelled;
use std::collections::{BTreeMap, HashMap};

/// The role of a table that is looked up.
const LOOKED_UP: &str = "embedding";

/// What the matrices of a conversion are compared by.
pub(super) struct Tensors<'a> {
    pub(super) conversion: &'a Conversion,
    /// The weights of its programs.
    pub(super) named: &'a [Weight],
    pub(super) directory: &'a ModelDirectory,
    /// Of the matrices' inputs.
    pub(super) statistics: &'a Statistics,
    /// How often each token was looked up.
    pub(super) counts: &'a [f32],
    /// Seeds of rotations that the weights may have been written with.
    pub(super) rotations: Vec<Option<u64>>,
}

/// What came of it.
pub(super) struct Compared {
    pub(super) tensors: Vec<TensorError>,
    pub(super) notes: Vec<String>,
}

/// One matrix, of which pieces are added up.
struct Sum {
    entry: TensorError,
    error: MatrixError,
}

impl Tensors<'_> {
    /// Compares all of them, in the order in which the model uses them.
    pub(super) fn compare(&self, show: &dyn Fn(&Event<'_>)) -> Result<Compared> {
        let models = Stored::all(self.conversion)?;
        let mut matrices: Vec<&Weight> =
            self.named.iter().filter(|weight| is_matrix(weight)).collect();
        matrices.sort_by_key(|weight| place(&weight.reference));
        let by_name: HashMap<&str, &Weight> =
            matrices.iter().map(|weight| (weight.id.as_str(), *weight)).collect();
        let mut stored = BTreeMap::new();
        for model in &models {
            for weight in anemll_weights::list(model.model()) {
                if let Some(named) = by_name.get(weight.name) {
                    stored.entry(named.id.as_str()).or_insert((model, weight));
                }
            }
        }
        let total = stored.len() as u64;
        let mut rotation = None;
        let mut sums: Vec<Sum> = Vec::new();
        let (mut done, mut missing, mut unknown) = (0, Vec::new(), 0_usize);
        for weight in matrices {
            check_cancelled()?;
            let found = match stored.get(weight.id.as_str()) {
                Some((model, found)) => model.read(found)?,
                None => None,
            };
            let elements: u64 = weight.shape.iter().product();
            let Some(found) = found.filter(|found| found.values.len() as u64 == elements) else {
                missing.push(weight.reference.tensor.as_str());
                continue;
            };
            if rotation.is_none() && Rotation::concerns(&weight.reference) {
                rotation = Some(self.rotation_of(weight, &found)?);
            }
            let error = self.error(weight, &found, rotation.flatten())?;
            unknown += usize::from(error.output_error().is_none());
            add(&mut sums, weight, &found, error);
            done += 1;
            show(&Event::Measure { what: "comparing weights", unit: "weights", done, total });
        }
        let mut notes = Vec::new();
        if let Some(first) = missing.first() {
            notes.push(format!(
                "{} matrices are not in the conversion under the names that this version gives, such as \
                 `{first}`: they are not compared",
                missing.len()
            ));
        }
        if unknown > 0 {
            notes.push(format!(
                "the output error of {unknown} matrices is not known: the products of every two inputs \
                 take more memory than there is (--memory), or are of values that are not tapped"
            ));
        }
        let entry = |sum: Sum| TensorError {
            sqnr_db: sum.error.sqnr_db(),
            output_error: sum.error.output_error(),
            ..sum.entry
        };
        Ok(Compared { tensors: sums.into_iter().map(entry).collect(), notes })
    }

    /// The rotation under which a stored weight is nearest to the original.
    fn rotation_of(&self, weight: &Weight, found: &Found) -> Result<Option<u64>> {
        let [only] = self.rotations[..] else {
            let mut best = (f64::NEG_INFINITY, None);
            for seed in &self.rotations {
                let original = self.original(weight, *seed)?;
                let columns = columns(weight);
                let error = MatrixError::of(&original, &found.values, columns, Inputs::Unknown)?;
                let sqnr = error.sqnr_db().unwrap_or(f64::INFINITY);
                if sqnr > best.0 {
                    best = (sqnr, *seed);
                }
            }
            return Ok(best.1);
        };
        Ok(only)
    }

    fn original(&self, weight: &Weight, rotation: Option<u64>) -> Result<Vec<f32>> {
        let source = WeightSource {
            directory: self.directory,
            clamp: true,
            allow_missing: false,
            kept: None,
        };
        source.exact(weight, self.rotation(rotation))
    }

    fn rotation(&self, seed: Option<u64>) -> Option<Rotation<'_>> {
        Some(Rotation { seed: seed?, directory: self.directory })
    }

    fn error(&self, weight: &Weight, found: &Found, rotation: Option<u64>) -> Result<MatrixError> {
        let original = self.original(weight, rotation)?;
        let columns = columns(weight);
        let of = |inputs| MatrixError::of(&original, &found.values, columns, inputs);
        if weight.reference.role == LOOKED_UP {
            let counts =
                Some(self.counts).filter(|counts| counts.len() * columns == original.len());
            return of(counts.map_or(Inputs::Unknown, Inputs::Counts));
        }
        let Some(known) = self.statistics.of(weight, &weight.reference.tensor)? else {
            return of(Inputs::Unknown);
        };
        let are_squares = known.shape.len() == 1;
        let rotated = match self.rotation(rotation) {
            // Mean squares say nothing of rotated inputs.
            Some(_) if are_squares && reads_rotated(&weight.reference) => {
                return of(Inputs::Unknown);
            }
            Some(rotation) => rotation.statistics(&weight.reference, &known.view()?)?,
            None => None,
        };
        let bytes = rotated.as_deref().unwrap_or(&known.bytes);
        let values: Vec<f32> =
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        of(if are_squares { Inputs::Squares(&values) } else { Inputs::Products(&values) })
    }
}

fn is_matrix(weight: &Weight) -> bool {
    weight.reference.shape.len() == 2 && weight.shape.iter().product::<u64>() > 0
}

/// The embedding, the layers, the head.
fn place(reference: &WeightReference) -> (bool, Option<u32>) {
    let is_behind = reference.layer.is_none() && reference.role != LOOKED_UP;
    (is_behind, reference.layer)
}

fn reads_rotated(reference: &WeightReference) -> bool {
    Rotation::concerns(reference) && reference.gain.is_some()
}

/// Elements of a row.
fn columns(weight: &Weight) -> usize {
    weight.shape.iter().skip(1).product::<u64>() as usize
}

/// Adds a weight to the entry of its tensor, which the piece before it may have begun.
fn add(sums: &mut Vec<Sum>, weight: &Weight, found: &Found, error: MatrixError) {
    let reference = &weight.reference;
    let rows = weight.shape.first().copied().unwrap_or(0);
    if let Some(last) = sums.last_mut()
        && last.entry.tensor == reference.tensor
        && last.entry.role == reference.role
    {
        last.entry.shape[0] += rows;
        last.entry.bytes += found.bytes;
        last.error = last.error.and(error);
        return;
    }
    sums.push(Sum {
        entry: TensorError {
            tensor: reference.tensor.clone(),
            role: reference.role.clone(),
            layer: reference.layer,
            shape: [rows, columns(weight) as u64],
            form: found.form.clone(),
            bytes: found.bytes,
            sqnr_db: None,
            output_error: None,
        },
        error,
    });
}

/// The rotations that the weights of a conversion may have: the one that its records name, or, where
/// there are none, none and that of the usual quantizer.
pub(super) fn rotations(conversion: &Conversion, plugins: &Plugins) -> Vec<Option<u64>> {
    let records = conversion.directory.join(crate::weight_record::folder());
    let entries = std::fs::read_dir(records).into_iter().flatten().flatten();
    let recorded = entries.filter_map(|entry| WeightRecord::read(&entry.path()).ok());
    let mut seeds: Vec<Option<u64>> = recorded.map(|record| record.rotation).collect();
    if seeds.is_empty() {
        let usual = QuantizerChoice::default().choose(plugins).ok().flatten();
        let nothing = outline(&ModelDescription::default(), false);
        let scheme = usual.and_then(|(_, quantizer)| quantizer.scheme(&nothing).ok());
        seeds = vec![None, scheme.and_then(|scheme| scheme.rotation)];
    }
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}
