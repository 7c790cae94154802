//! Palettized weights that are the same although their palettes or indices differ: entries in
//! another order, entries twice, entries that no index uses, other bit widths or groups.

use crate::error::Result;
use crate::lut::{Kind, LutDecoder, Palettized, pieces};
use crate::rewrite::{Member, Place, palettized, replace};
use crate::store::RecordStore;
use crate::{Cancelled, check};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Indices whose values are looked at first.
const SAMPLE: u64 = 1024;

/// Makes every palettized weight that decodes to the values of an earlier one use the operands of
/// the first such weight. Gives the places that were changed, each with the one it now equals.
pub(crate) fn share(
    store: &RecordStore,
    members: &mut [Member],
    cancelled: Cancelled<'_>,
) -> Result<BTreeMap<Place, Place>> {
    let mut places: Vec<(Place, usize)> = Vec::new();
    let mut distinct: Vec<(Palettized, Place)> = Vec::new();
    let mut known: HashMap<Palettized, usize> = HashMap::new();
    for member in 0..members.len() {
        for (place, _, weight) in palettized(members, member) {
            let next = distinct.len();
            let number = *known.entry(weight.clone()).or_insert(next);
            if number == next {
                distinct.push((weight, place.clone()));
            }
            places.push((place, number));
        }
    }
    let mut comparable: BTreeMap<&Kind, Vec<usize>> = BTreeMap::new();
    for (number, (weight, _)) in distinct.iter().enumerate() {
        comparable.entry(weight.kind()).or_default().push(number);
    }
    let mut alike: BTreeMap<(&Kind, Vec<u8>), Vec<usize>> = BTreeMap::new();
    for (kind, group) in comparable {
        if group.len() < 2 {
            continue;
        }
        for number in group {
            check(cancelled)?;
            let sample = sample(store, &distinct[number].0)?;
            alike.entry((kind, sample)).or_default().push(number);
        }
    }
    let alike: Vec<Vec<usize>> = alike.into_values().filter(|group| group.len() > 1).collect();
    let equal: Vec<Vec<(usize, usize)>> = alike
        .par_iter()
        .map(|group| {
            let mut found = Vec::new();
            let mut firsts: Vec<usize> = Vec::new();
            for number in group {
                let mut same = None;
                for first in &firsts {
                    if equals(store, &distinct[*first].0, &distinct[*number].0, cancelled)? {
                        same = Some(*first);
                        break;
                    }
                }
                match same {
                    Some(first) => found.push((*number, first)),
                    None => firsts.push(*number),
                }
            }
            Ok(found)
        })
        .collect::<Result<_>>()?;
    let equal: HashMap<usize, usize> = equal.into_iter().flatten().collect();
    let mut changed = BTreeMap::new();
    for (place, number) in places {
        if let Some(first) = equal.get(&number) {
            let anchor = distinct[*first].1.clone();
            replace(members, &place, &anchor);
            changed.insert(place, anchor);
        }
    }
    Ok(changed)
}

/// The values of the first indices and of some in the middle.
fn sample(store: &RecordStore, weight: &Palettized) -> Result<Vec<u8>> {
    let mut decoder = LutDecoder::new(store, weight)?;
    let (mut all, mut bytes) = (Vec::new(), Vec::new());
    for start in [0, weight.count() / 2 / 8 * 8] {
        let count = usize::try_from((weight.count() - start).min(SAMPLE)).unwrap_or_default();
        decoder.bytes(start, count, &mut bytes)?;
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// Whether two weights of one kind decode to the same bytes.
fn equals(
    store: &RecordStore,
    left: &Palettized,
    right: &Palettized,
    cancelled: Cancelled<'_>,
) -> Result<bool> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let (mut left_decoder, mut right_decoder) =
        (LutDecoder::new(store, left)?, LutDecoder::new(store, right)?);
    for (start, count) in pieces(left.count()) {
        check(cancelled)?;
        left_decoder.bytes(start, count, &mut a)?;
        right_decoder.bytes(start, count, &mut b)?;
        if a != b {
            return Ok(false);
        }
    }
    Ok(true)
}
