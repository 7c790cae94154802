//! Palettized weights that are nearly the same: of one tensor, palettized in two runs of k-means.
//!
//! The rule is the one of ANEMLL-Dedup: the cosine of the decoded values is at least one bound, and
//! the mean of their absolute differences at most another.

use crate::error::Result;
use crate::lut::{LutDecoder, Palettized, pieces};
use crate::rewrite::{Member, Place, palettized, replace, result_name};
use crate::store::RecordStore;
use crate::{Cancelled, check};
use anemll_mil::model;
use coreml_proto::mil::argument::binding::Binding;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr;

/// How far two weights may be from each other to be taken as one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// Smallest cosine of the angle between them, above 0.
    pub cosine: f64,
    /// Largest mean of the absolute differences.
    pub mean_error: f64,
    /// Largest absolute difference, if it is bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_error: Option<f64>,
}

impl Tolerance {
    /// The bounds of ANEMLL-Dedup: cosine 0.9999, mean error 0.001.
    pub const ANEMLL: Self = Self { cosine: 0.9999, mean_error: 0.001, largest_error: None };

    fn allows(&self, difference: &Difference) -> bool {
        // Written so that a number which is not a number is never within bounds.
        difference.cosine >= self.cosine
            && difference.mean_error <= self.mean_error
            && self.largest_error.is_none_or(|bound| difference.largest_error <= bound)
    }
}

impl FromStr for Tolerance {
    type Err = String;

    /// Reads `cos=0.9999,mae=0.001`, in any order, with `max=` for the largest error if it is to
    /// be bounded. `cos` and `mae` must both be given.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut bounds: BTreeMap<&str, f64> = BTreeMap::new();
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is not KEY=NUMBER"))?;
            let number: f64 = value.parse().map_err(|_| format!("`{value}` is not a number"))?;
            let (low, high) = match key {
                "cos" => (f64::MIN_POSITIVE, 1.0),
                "mae" | "max" => (0.0, f64::MAX),
                _ => return Err(format!("`{key}` is not one of cos, mae, max")),
            };
            if !(low..=high).contains(&number) {
                return Err(format!("`{part}` is out of range"));
            }
            if bounds.insert(key, number).is_some() {
                return Err(format!("`{key}` is given twice"));
            }
        }
        match (bounds.get("cos"), bounds.get("mae")) {
            (Some(cosine), Some(mean_error)) => Ok(Self {
                cosine: *cosine,
                mean_error: *mean_error,
                largest_error: bounds.get("max").copied(),
            }),
            _ => Err("give both bounds, such as cos=0.9999,mae=0.001".to_owned()),
        }
    }
}

/// How far two weights are from each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Cosine of the angle between them; 0 if one of them is zero everywhere.
    pub cosine: f64,
    /// Largest absolute difference.
    pub largest_error: f64,
    /// Mean of the absolute differences.
    pub mean_error: f64,
}

/// What was found for a weight: the nearest weight of an earlier function, and whether it is near
/// enough to have replaced this one.
#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    pub(crate) anchor: Place,
    pub(crate) difference: Difference,
    pub(crate) accepted: bool,
}

/// A palettized weight that others may be compared with.
struct Candidate {
    place: Place,
    name: String,
    weight: Palettized,
    consumers: BTreeSet<String>,
}

/// Replaces palettized weights by weights of earlier functions within the tolerance. Partners are
/// found by name, else by name without a trailing number, else by their order among the weights of
/// the same shape and use.
pub(crate) fn share(
    store: &RecordStore,
    members: &mut [Member],
    tolerance: &Tolerance,
    cancelled: Cancelled<'_>,
) -> Result<BTreeMap<Place, Neighbour>> {
    let mut found = BTreeMap::new();
    for member in 1..members.len() {
        let earlier: Vec<Candidate> =
            (0..member).flat_map(|earlier| candidates(members, earlier)).collect();
        let shared: HashSet<&Palettized> =
            earlier.iter().map(|candidate| &candidate.weight).collect();
        let own: Vec<Candidate> = candidates(members, member);
        let neighbours: Vec<(Place, Neighbour)> = own
            .par_iter()
            .filter(|candidate| !shared.contains(&candidate.weight))
            .filter_map(|candidate| {
                let partners = partners(candidate, &own, &earlier);
                match nearest(store, candidate, &partners, tolerance, cancelled) {
                    Ok(neighbour) => Some(Ok((candidate.place.clone(), neighbour?))),
                    Err(error) => Some(Err(error)),
                }
            })
            .collect::<Result<_>>()?;
        for (place, neighbour) in neighbours {
            if neighbour.accepted {
                replace(members, &place, &neighbour.anchor);
            }
            found.insert(place, neighbour);
        }
    }
    Ok(found)
}

/// The palettized weights of floating point numbers of a function.
fn candidates(members: &[Member], member: usize) -> Vec<Candidate> {
    let consumers = consumers(&members[member]);
    palettized(members, member)
        .filter(|(_, _, weight)| weight.is_float())
        .map(|(place, operation, weight)| {
            let name = result_name(operation).to_owned();
            let consumers = consumers.get(&name).cloned().unwrap_or_default();
            Candidate { place, name, weight, consumers }
        })
        .collect()
}

/// For each value the types of the operations that use it.
fn consumers(member: &Member) -> HashMap<String, BTreeSet<String>> {
    let mut found: HashMap<String, BTreeSet<String>> = HashMap::new();
    let functions = model::program(&member.model).into_iter().flat_map(|p| p.functions.values());
    for block in functions.flat_map(|function| function.block_specializations.values()) {
        for operation in &block.operations {
            let bindings = operation.inputs.values().flat_map(|argument| &argument.arguments);
            for binding in bindings {
                if let Some(Binding::Name(name)) = &binding.binding {
                    found.entry(name.clone()).or_default().insert(operation.r#type.clone());
                }
            }
        }
    }
    found
}

/// A name without the number that tools add to tell equal names apart.
fn plain(name: &str) -> &str {
    match name.rsplit_once('_') {
        Some((front, number))
            if !front.is_empty()
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            front
        }
        _ => name,
    }
}

/// The earlier weights that may be of the same tensor, the likeliest kind only.
fn partners<'a>(
    candidate: &Candidate,
    own: &[Candidate],
    earlier: &'a [Candidate],
) -> Vec<&'a Candidate> {
    let comparable = |other: &&Candidate| candidate.weight.kind() == other.weight.kind();
    let by = |test: &dyn Fn(&Candidate) -> bool| -> Vec<&'a Candidate> {
        earlier.iter().filter(comparable).filter(|other| test(other)).collect()
    };
    let named = by(&|other| other.name == candidate.name);
    if !named.is_empty() {
        return named;
    }
    let named = by(&|other| plain(&other.name) == plain(&candidate.name));
    if !named.is_empty() {
        return named;
    }
    let alike = |other: &Candidate| {
        candidate.weight.kind() == other.weight.kind() && other.consumers == candidate.consumers
    };
    let mine: Vec<&Candidate> = own.iter().filter(|other| alike(other)).collect();
    let Some(order) = mine.iter().position(|other| other.place == candidate.place) else {
        return Vec::new();
    };
    let mut members: BTreeMap<usize, Vec<&'a Candidate>> = BTreeMap::new();
    for other in earlier.iter().filter(|other| alike(other)) {
        members.entry(other.place.member).or_default().push(other);
    }
    members
        .into_values()
        .filter(|theirs| theirs.len() == mine.len())
        .filter_map(|theirs| theirs.get(order).copied())
        .collect()
}

/// The first partner within the tolerance, else the one with the largest cosine.
fn nearest(
    store: &RecordStore,
    candidate: &Candidate,
    partners: &[&Candidate],
    tolerance: &Tolerance,
    cancelled: Cancelled<'_>,
) -> Result<Option<Neighbour>> {
    let mut best: Option<Neighbour> = None;
    for partner in partners {
        let difference = difference(store, &partner.weight, &candidate.weight, cancelled)?;
        let accepted = tolerance.allows(&difference);
        let neighbour = Neighbour { anchor: partner.place.clone(), difference, accepted };
        if accepted {
            return Ok(Some(neighbour));
        }
        if best.as_ref().is_none_or(|best| best.difference.cosine < difference.cosine) {
            best = Some(neighbour);
        }
    }
    Ok(best)
}

fn difference(
    store: &RecordStore,
    left: &Palettized,
    right: &Palettized,
    cancelled: Cancelled<'_>,
) -> Result<Difference> {
    let (mut a, mut b) = (LutDecoder::new(store, left)?, LutDecoder::new(store, right)?);
    let (a_table, b_table) = (a.table_values(), b.table_values());
    let vector = usize::try_from(left.kind().vector.0).unwrap_or(1);
    let (mut a_places, mut b_places) = (Vec::new(), Vec::new());
    let (mut product, mut a_square, mut b_square) = (0.0_f64, 0.0_f64, 0.0_f64);
    let (mut sum, mut largest, mut elements) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (start, count) in pieces(left.count()) {
        check(cancelled)?;
        a_places.clear();
        b_places.clear();
        a.walk(start, count, |place| a_places.push(place))?;
        b.walk(start, count, |place| b_places.push(place))?;
        for (place, other) in a_places.iter().zip(&b_places) {
            let (Some(x), Some(y)) =
                (a_table.get(*place..place + vector), b_table.get(*other..other + vector))
            else {
                continue;
            };
            for (x, y) in x.iter().zip(y) {
                let (x, y) = (f64::from(*x), f64::from(*y));
                product += x * y;
                a_square += x * x;
                b_square += y * y;
                let error = (x - y).abs();
                sum += error;
                // `max` would hide what is not a number.
                largest = if error > largest || error.is_nan() { error } else { largest };
                elements += 1.0;
            }
        }
    }
    let length = (a_square * b_square).sqrt();
    let cosine = if length == 0.0 { 0.0 } else { product / length };
    Ok(Difference { cosine, largest_error: largest, mean_error: sum / elements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerances_are_read() {
        assert_eq!("cos=0.9999,mae=0.001".parse(), Ok(Tolerance::ANEMLL));
        let strict: Tolerance = "max=0.01,mae=0.001,cos=0.9999".parse().unwrap();
        assert_eq!(strict.largest_error, Some(0.01));
        for wrong in [
            "",
            "cos",
            "cos=",
            "cos=1",
            "mae=0.1",
            "cos=0,mae=1",
            "cos=2,mae=1",
            "cos=-1,mae=1",
            "cos=nan,mae=1",
            "cos=1,mae=-1",
            "cos=1,mae=inf",
            "cos=1,cos=1,mae=1",
            "cos=1,mse=1",
            "cos=1,mae=1,",
            "cos=0.9 ,mae=1",
        ] {
            assert!(wrong.parse::<Tolerance>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_never_near() {
        let nan = f64::NAN;
        for (cosine, mean_error) in [(nan, 0.0), (1.0, nan), (0.9998, 0.0), (1.0, 0.002)] {
            let difference = Difference { cosine, largest_error: 0.0, mean_error };
            assert!(!Tolerance::ANEMLL.allows(&difference), "{difference:?}");
        }
        let fine = Difference { cosine: 0.9999, largest_error: 9.0, mean_error: 0.001 };
        assert!(Tolerance::ANEMLL.allows(&fine));
        assert!(!Tolerance { largest_error: Some(1.0), ..Tolerance::ANEMLL }.allows(&fine));
    }

    #[test]
    fn names_lose_their_number() {
        assert_eq!(
            plain("layers_0_q_proj_weight_palettized_3"),
            "layers_0_q_proj_weight_palettized"
        );
        assert_eq!(plain("layers_0"), "layers");
        for name in ["weight", "weight_", "_7", "weight_7a", ""] {
            assert_eq!(plain(name), name);
        }
    }
}
