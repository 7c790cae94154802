//! Every matrix of a conversion beside the one of the model's files that it stands for.

use super::stored::{Found, Stored};
use crate::event::Event;
use crate::plugins::Plugins;
use crate::quantization::outline;
use crate::quantizer_choice::QuantizerChoice;
use crate::references::Weight;
use crate::rotation::Rotation;
use crate::statistics::Statistics;
use crate::weight_record::{Rotated, WeightRecord};
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
    /// Products of the matrices' inputs; none where they are too large.
    pub(super) statistics: Option<&'a Statistics>,
    /// Why they are too large.
    pub(super) refused: Option<&'a str>,
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

impl Sum {
    /// Whether this is the matrix that a weight is, or is a piece of.
    fn is_of(&self, reference: &WeightReference) -> bool {
        self.entry.tensor == reference.tensor && self.entry.role == reference.role
    }
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
        let (mut done, mut notes) = (0, Notes::default());
        for weight in matrices {
            check_cancelled()?;
            let tensor = weight.reference.tensor.as_str();
            let Some((model, place)) = stored.get(weight.id.as_str()) else {
                notes.absent.push(tensor);
                continue;
            };
            let elements: u64 = weight.shape.iter().product();
            let found = model.read(place).and_then(|found| match found.values.len() as u64 {
                count if count == elements => Ok(found),
                count => Err(format!("it has {count} elements, and {elements} in the model")),
            });
            let found = match found {
                Ok(found) => found,
                Err(why) => {
                    notes.unreadable.push((tensor, why));
                    continue;
                }
            };
            if rotation.is_none() && Rotation::concerns(&weight.reference) {
                rotation = Some(self.rotation_of(weight, &found)?);
            }
            let inputs = self.inputs(weight, rotation.flatten())?;
            if let Known::Nothing(why) = inputs {
                let known = notes.unknown.entry(why).or_default();
                // Pieces of a head are one matrix.
                let piece = sums.last().is_some_and(|sum| sum.is_of(&weight.reference));
                if !piece || known.last() != Some(&tensor) {
                    known.push(tensor);
                }
            }
            let error = self.error(weight, &found, rotation.flatten(), &inputs)?;
            add(&mut sums, weight, &found, error);
            done += 1;
            show(&Event::Measure { what: "comparing weights", unit: "weights", done, total });
        }
        let entry = |sum: Sum| TensorError {
            sqnr_db: sum.error.sqnr_db(),
            output_error: sum.error.output_error(),
            ..sum.entry
        };
        Ok(Compared {
            tensors: sums.into_iter().map(entry).collect(),
            notes: notes.told(self.refused),
        })
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

    fn error(
        &self,
        weight: &Weight,
        found: &Found,
        rotation: Option<u64>,
        inputs: &Known,
    ) -> Result<MatrixError> {
        let original = self.original(weight, rotation)?;
        let inputs = match inputs {
            Known::Nothing(_) => Inputs::Unknown,
            Known::Counts => Inputs::Counts(self.counts),
            Known::Products(values) => Inputs::Products(values),
        };
        MatrixError::of(&original, &found.values, columns(weight), inputs)
    }

    fn inputs(&self, weight: &Weight, rotation: Option<u64>) -> Result<Known> {
        if weight.reference.role == LOOKED_UP {
            let rows = weight.shape.first().copied().unwrap_or(0);
            let fits = self.counts.len() as u64 == rows;
            return Ok(if fits { Known::Counts } else { Known::Nothing(Unknown::Pieces) });
        }
        let Some(statistics) = self.statistics else {
            return Ok(Known::Nothing(Unknown::TooLarge));
        };
        let Some(known) = statistics.of(weight, &weight.reference.tensor)? else {
            return Ok(Known::Nothing(Unknown::NotTapped));
        };
        let rotated = match self.rotation(rotation) {
            Some(rotation) => rotation.statistics(&weight.reference, &known.view()?)?,
            None => None,
        };
        let bytes = rotated.as_deref().unwrap_or(&known.bytes);
        let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        Ok(Known::Products(values.collect()))
    }
}

/// What is known of a matrix's inputs.
enum Known {
    /// How often each row is looked up.
    Counts,
    /// The mean product of every two.
    Products(Vec<f32>),
    Nothing(Unknown),
}

/// Why nothing is known of a matrix's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unknown {
    TooLarge,
    NotTapped,
    Pieces,
}

/// What could not be measured.
#[derive(Default)]
struct Notes<'a> {
    absent: Vec<&'a str>,
    unreadable: Vec<(&'a str, String)>,
    unknown: BTreeMap<Unknown, Vec<&'a str>>,
}

impl Notes<'_> {
    /// For people; `refused` says why there are no products of inputs.
    fn told(&self, refused: Option<&str>) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(first) = self.absent.first() {
            notes.push(format!(
                "{} not in the conversion under the {} that this version of anemll gives {}, such as \
                 `{first}`",
                matrices(self.absent.len(), "is", "are"),
                if self.absent.len() == 1 { "name" } else { "names" },
                if self.absent.len() == 1 { "it" } else { "them" },
            ));
        }
        if let Some((first, why)) = self.unreadable.first() {
            notes.push(format!(
                "{} not be compared, such as `{first}`: {why}",
                matrices(self.unreadable.len(), "could", "could")
            ));
        }
        for (cause, tensors) in &self.unknown {
            let why = match cause {
                Unknown::TooLarge => refused.unwrap_or("its inputs were not looked at"),
                Unknown::NotTapped => "its inputs are not seen while the model runs",
                Unknown::Pieces => "it has another number of rows than the vocabulary has tokens",
            };
            let first = tensors.first().copied().unwrap_or_default();
            notes.push(format!(
                "the output error of {} unknown, such as `{first}`: {why}",
                matrices(tensors.len(), "is", "is")
            ));
        }
        notes
    }
}

/// `1 matrix is`, `2 matrices are`.
fn matrices(count: usize, one: &str, more: &str) -> String {
    if count == 1 { format!("1 matrix {one}") } else { format!("{count} matrices {more}") }
}

fn is_matrix(weight: &Weight) -> bool {
    weight.reference.shape.len() == 2 && weight.shape.iter().product::<u64>() > 0
}

/// The embedding, the layers, the head.
fn place(reference: &WeightReference) -> (bool, Option<u32>) {
    let is_behind = reference.layer.is_none() && reference.role != LOOKED_UP;
    (is_behind, reference.layer)
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
        && last.is_of(reference)
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

/// The rotations that the weights of a conversion may have: those that its records name, and, where
/// there are none, or one does not say, none and that of the usual quantizer.
pub(super) fn rotations(conversion: &Conversion, plugins: &Plugins) -> Vec<Option<u64>> {
    let records = conversion.directory.join(crate::weight_record::folder());
    let entries = std::fs::read_dir(records).into_iter().flatten().flatten();
    let recorded = entries.filter_map(|entry| WeightRecord::read(&entry.path()).ok());
    let seed = |Rotated(way): Rotated| {
        let seed = way.map(|way| way.seed);
        // What another version did with it is not known here.
        (Rotated(way) == Rotated::by(seed)).then_some(seed)
    };
    let recorded: Option<Vec<Option<u64>>> =
        recorded.map(|record| record.rotation.and_then(seed)).collect();
    let mut seeds = recorded.filter(|seeds| !seeds.is_empty()).unwrap_or_else(|| {
        let usual = QuantizerChoice::default().choose(plugins).ok().flatten();
        let nothing = outline(&ModelDescription::default(), false);
        let scheme = usual.and_then(|(_, quantizer)| quantizer.scheme(&nothing).ok());
        vec![None, scheme.and_then(|scheme| scheme.rotation)]
    });
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_apart() {
        let mut notes = Notes::default();
        assert!(notes.told(None).is_empty());
        notes.absent.push("a");
        notes.unreadable = vec![("b", "no such operation".to_owned()), ("c", "other".to_owned())];
        notes.unknown.insert(Unknown::NotTapped, vec!["d"]);
        notes.unknown.insert(Unknown::TooLarge, vec!["e", "f"]);
        assert_eq!(
            notes.told(Some("products take 3 GB")),
            [
                "1 matrix is not in the conversion under the name that this version of anemll gives it, such \
                 as `a`",
                "2 matrices could not be compared, such as `b`: no such operation",
                "the output error of 2 matrices is unknown, such as `e`: products take 3 GB",
                "the output error of 1 matrix is unknown, such as `d`: its inputs are not seen while the \
                 model runs",
            ]
        );
    }
}
