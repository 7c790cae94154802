//! In which weights two models differ: bytes, values, errors.

use super::graph::WeightPair;
use crate::inspect::open::Opened;
use crate::inspect::weights::form;
use anemll_mil::model;
use anemll_mlpackage::{BlobFile, BlobRecord};
use anemll_plugin_api::Result;
use anemll_services as services;
use anemll_weights::{Comparison, Decoder, Part, Values, Weight};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};

/// In what the weights differ. Those that equal operations use belong together; the others by
/// name.
#[derive(Debug, Default, Serialize)]
pub(super) struct WeightsDifference {
    /// Number of weights with equal bytes.
    pub(super) equal: u64,
    /// Weights of equal values that are stored differently.
    pub(super) equal_values: Vec<WeightDifference>,
    /// Weights of different values.
    pub(super) different: Vec<WeightDifference>,
    /// Names of weights of the first only.
    pub(super) removed: Vec<String>,
    /// Names of weights of the second only.
    pub(super) added: Vec<String>,
}

/// Two weights that belong together.
#[derive(Debug, Serialize)]
pub(super) struct WeightDifference {
    /// Name in the first.
    pub(super) name: String,
    /// Name in the second, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) other_name: Option<String>,
    /// How the first is stored.
    pub(super) first_form: String,
    /// How the second is stored.
    pub(super) second_form: String,
    /// Bytes of the first.
    pub(super) first_bytes: u64,
    /// Bytes of the second.
    pub(super) second_bytes: u64,
    /// How far the values are from each other; absent where they cannot be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<WeightError>,
    /// Why they cannot be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

/// As [`Comparison`].
#[derive(Debug, Serialize)]
pub(super) struct WeightError {
    /// Number of values that differ.
    pub(super) different: u64,
    /// Number of values.
    pub(super) count: u64,
    /// Values that are NaN or infinite on one side, left out of the rest.
    pub(super) not_comparable: u64,
    /// Largest absolute difference.
    pub(super) largest: f64,
    /// Mean absolute difference.
    pub(super) mean: f64,
    /// Cosine of both as vectors.
    pub(super) cosine: f64,
}

impl WeightsDifference {
    /// Whether all weights have equal bytes.
    pub(super) fn is_equal(&self) -> bool {
        self.equal_values.is_empty()
            && self.different.is_empty()
            && self.removed.is_empty()
            && self.added.is_empty()
    }
}

/// A model's weights by where they are used.
struct Side<'a> {
    opened: &'a Opened,
    weights: Vec<Weight<'a>>,
    places: HashMap<(&'a str, &'a str), usize>,
    names: HashMap<&'a str, usize>,
    decoders: HashMap<&'a str, Decoder<'a>>,
}

impl<'a> Side<'a> {
    fn of(opened: &'a Opened) -> Self {
        let weights = anemll_weights::list(opened.model());
        let mut places = HashMap::new();
        let mut names = HashMap::new();
        for (index, weight) in weights.iter().enumerate() {
            for place in &weight.places {
                places.insert(*place, index);
                names.entry(place.1).or_insert(index);
            }
        }
        let functions =
            model::program(opened.model()).into_iter().flat_map(|program| &program.functions);
        let decoders = functions
            .filter_map(|(name, body)| {
                let block = model::block(body).ok()?;
                Some((name.as_str(), Decoder::new(block, opened.files())))
            })
            .collect();
        Self { opened, weights, places, names, decoders }
    }

    fn values(&self, weight: &Weight<'_>) -> std::result::Result<Values<'a>, String> {
        let decoder = weight.functions.first().and_then(|name| self.decoders.get(name));
        decoder
            .ok_or("its function cannot be read")?
            .effective_values(weight.name)
            .map_err(|error| error.to_string())
    }

    /// The record of a part that stands in a weight file.
    fn record(&self, part: &Part<'_>) -> Option<(&BlobFile, BlobRecord)> {
        let place = part.place?;
        let file = self.opened.files().get(place.file)?;
        let record = file.record(place.offset).ok()?;
        (record.size_in_bytes() == part.bytes).then_some((file, record))
    }
}

/// Compares the weights that belong together.
pub(super) fn compare(
    first: &Opened,
    second: &Opened,
    pairs: &[WeightPair<'_>],
) -> Result<WeightsDifference> {
    let (ours, theirs) = (Side::of(first), Side::of(second));
    let mut together: BTreeSet<(usize, usize)> = pairs
        .iter()
        .filter_map(|(a, b)| Some((*ours.places.get(a)?, *theirs.places.get(b)?)))
        .collect();
    let mut known: BTreeSet<usize> = together.iter().map(|(a, _)| *a).collect();
    let mut other_known: BTreeSet<usize> = together.iter().map(|(_, b)| *b).collect();
    for (index, weight) in ours.weights.iter().enumerate() {
        if known.contains(&index) {
            continue;
        }
        let named = weight.places.iter().find_map(|(_, name)| theirs.names.get(name));
        if let Some(other) = named.filter(|other| !other_known.contains(other)) {
            together.insert((index, *other));
            known.insert(index);
            other_known.insert(*other);
        }
    }
    let look = |(a, b): (usize, usize)| -> Result<Answer> {
        services::check_cancelled()?;
        pair((&ours, &ours.weights[a]), (&theirs, &theirs.weights[b]))
    };
    let together: Vec<(usize, usize)> = together.into_iter().collect();
    let answers: Vec<Answer> = together.into_par_iter().map(look).collect::<Result<_>>()?;
    let mut found = WeightsDifference::default();
    for answer in answers {
        match answer {
            Answer::Equal => found.equal += 1,
            Answer::EqualValues(difference) => found.equal_values.push(difference),
            Answer::Different(difference) => found.different.push(difference),
        }
    }
    let rest = |side: &Side<'_>, known: &BTreeSet<usize>| -> Vec<String> {
        let all = side.weights.iter().enumerate();
        all.filter(|(index, _)| !known.contains(index))
            .map(|(_, weight)| weight.name.to_owned())
            .collect()
    };
    found.removed = rest(&ours, &known);
    found.added = rest(&theirs, &other_known);
    Ok(found)
}

enum Answer {
    Equal,
    EqualValues(WeightDifference),
    Different(WeightDifference),
}

fn pair(
    (ours, first): (&Side<'_>, &Weight<'_>),
    (theirs, second): (&Side<'_>, &Weight<'_>),
) -> Result<Answer> {
    let alike =
        first.operation == second.operation
            && first.kind == second.kind
            && first.parts.len() == second.parts.len()
            && first.parts.iter().zip(&second.parts).all(|(a, b)| {
                (&a.holder, a.data_type, &a.shape) == (&b.holder, b.data_type, &b.shape)
            });
    if alike && equal_bytes((ours, first), (theirs, second))? {
        return Ok(Answer::Equal);
    }
    let mut difference = WeightDifference {
        name: first.name.to_owned(),
        other_name: Some(second.name).filter(|name| *name != first.name).map(str::to_owned),
        first_form: described(first),
        second_form: described(second),
        first_bytes: first.bytes(),
        second_bytes: second.bytes(),
        error: None,
        problem: None,
    };
    let compared = match (ours.values(first), theirs.values(second)) {
        (Ok(first), Ok(second)) => Comparison::of(&first, &second)?
            .ok_or_else(|| format!("{} values became {}", first.count(), second.count())),
        (Err(problem), _) => Err(format!("in the first: {problem}")),
        (_, Err(problem)) => Err(format!("in the second: {problem}")),
    };
    Ok(match compared {
        Ok(found) if found.different == 0 && alike && in_program(first) => Answer::Equal,
        Ok(found) => {
            difference.error = Some(WeightError {
                different: found.different,
                count: found.count,
                not_comparable: found.not_comparable,
                largest: found.largest_error,
                mean: found.mean_error,
                cosine: found.cosine,
            });
            match found.different {
                0 => Answer::EqualValues(difference),
                _ => Answer::Different(difference),
            }
        }
        Err(problem) => {
            difference.problem = Some(problem);
            Answer::Different(difference)
        }
    })
}

/// Whether all parts of two weights stand in weight files and have equal bytes.
fn equal_bytes(
    (ours, first): (&Side<'_>, &Weight<'_>),
    (theirs, second): (&Side<'_>, &Weight<'_>),
) -> Result<bool> {
    for (a, b) in first.parts.iter().zip(&second.parts) {
        let (Some(a), Some(b)) = (ours.record(a), theirs.record(b)) else { return Ok(false) };
        if !equal(a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether two records have equal bytes.
fn equal(
    (file, record): (&BlobFile, BlobRecord),
    (other_file, other): (&BlobFile, BlobRecord),
) -> Result<bool> {
    const PIECE: usize = 1 << 20;
    let size = record.size_in_bytes();
    if size != other.size_in_bytes() {
        return Ok(false);
    }
    let length = usize::try_from(size).unwrap_or(usize::MAX).min(PIECE);
    let (mut a, mut b) = (vec![0; length], vec![0; length]);
    let mut start = 0;
    while start < size {
        // At most the buffers' length.
        let piece = usize::try_from((size - start).min(length as u64)).unwrap_or_default();
        file.read_at(&record, start, &mut a[..piece])?;
        other_file.read_at(&other, start, &mut b[..piece])?;
        if a[..piece] != b[..piece] {
            return Ok(false);
        }
        start += piece as u64;
    }
    Ok(true)
}

/// Whether parts stand in the program, whose bytes are not compared.
fn in_program(weight: &Weight<'_>) -> bool {
    weight.parts.iter().any(|part| part.place.is_none())
}

/// How a weight is stored, with its type and shape.
fn described(weight: &Weight<'_>) -> String {
    let kind = weight.kind.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{}, {kind}", form(weight))
}
