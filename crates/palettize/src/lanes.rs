//! The inner loops over neighbouring beginnings and ends of clusters.
//!
//! They are written for vector instructions: arrays of [`LANES`] numbers, selections instead of
//! branches, and slices that reach as far beyond their last element.

use crate::prefix::Prefix;

/// Numbers that are worked on side by side; slices have as many more elements than are meant.
pub(crate) const LANES: usize = 4;

type Lanes = [f64; LANES];

/// What a cluster gains between two prefix sums `[W, S]`.
#[inline(always)]
pub(crate) fn gain(end: [f64; 2], start: [f64; 2]) -> f64 {
    let (weight, moment) = (end[0] - start[0], end[1] - start[1]);
    // Weights that are lost beside much larger ones gain nothing.
    moment * moment / if weight > 0.0 { weight } else { f64::INFINITY }
}

/// The lanes from `start` on.
#[inline(always)]
fn lanes(numbers: &[f64], start: usize) -> &Lanes {
    numbers[start..].first_chunk().unwrap_or(&[0.0; LANES])
}

/// The sums of `best` and the gain of a cluster until `end`, for beginnings from `start` on.
#[inline(always)]
fn totals(prefix: &Prefix, best: &Lanes, start: usize, end: [f64; 2]) -> Lanes {
    let (weights, moments) = prefix.lanes(start);
    let mut sums = [0.0; LANES];
    for lane in 0..LANES {
        sums[lane] = best[lane] + gain(end, [weights[lane], moments[lane]]);
    }
    sums
}

/// The largest sum of `best` and the gain of a cluster that begins in `first..=last` and ends at
/// `end`, behind `last`, and the first beginning that has it. `best[0]` belongs to `base`.
#[inline(always)]
pub(crate) fn largest(
    prefix: &Prefix,
    best: &[f64],
    base: usize,
    (first, last): (usize, usize),
    end: usize,
) -> (usize, f64) {
    let until = prefix.until(end);
    let (mut found, mut most) = (last, f64::NEG_INFINITY);
    if last - first < LANES {
        for start in first..=last {
            let total = best[start - base] + gain(until, prefix.until(start));
            if total > most {
                (found, most) = (start, total);
            }
        }
        return (found, most);
    }
    let mut tops = [f64::NEG_INFINITY; LANES];
    // Places are floats: a comparison of floats selects them without a conversion.
    let mut places = [0.0; LANES];
    let mut start = first;
    loop {
        let sums = totals(prefix, lanes(best, start - base), start, until);
        let place = start as f64;
        for lane in 0..LANES {
            let better = sums[lane] > tops[lane];
            tops[lane] = if better { sums[lane] } else { tops[lane] };
            places[lane] = if better { place } else { places[lane] };
        }
        if start + LANES > last {
            break;
        }
        // The last ones are looked at with some of those before once more.
        start = (start + LANES).min(last + 1 - LANES);
    }
    for lane in 0..LANES {
        let place = places[lane] as usize + lane;
        if tops[lane] > most || (tops[lane] == most && place < found) {
            (found, most) = (place, tops[lane]);
        }
    }
    (found, most)
}

/// As [`largest`], for [`LANES`] ends from `end` on at once: the beginnings and the sums. Unless
/// `APART`, ends may lie before some of the beginnings.
#[inline(always)]
pub(crate) fn largest_each<const APART: bool>(
    prefix: &Prefix,
    best: &[f64],
    base: usize,
    (first, last): (usize, usize),
    end: usize,
) -> (Lanes, Lanes) {
    let (weights, moments) = prefix.lanes(end);
    let mut tops = [f64::NEG_INFINITY; LANES];
    let mut starts = [first as f64; LANES];
    for start in first..=last {
        let (best, sums, place) = (best[start - base], prefix.until(start), start as f64);
        for lane in 0..LANES {
            let total = best + gain([weights[lane], moments[lane]], sums);
            // Clusters have at least one value.
            let total = if APART || start < end + lane { total } else { f64::NEG_INFINITY };
            let better = total > tops[lane];
            tops[lane] = if better { total } else { tops[lane] };
            starts[lane] = if better { place } else { starts[lane] };
        }
    }
    (starts, tops)
}

/// The first beginning in `low..high` with which a cluster until `high` has a larger sum than
/// `most`; `high` if there is none.
#[inline(always)]
pub(crate) fn first_larger(
    prefix: &Prefix,
    best: &[f64],
    (low, high): (usize, usize),
    most: f64,
) -> usize {
    let until = prefix.until(high);
    let total = |start: usize| best[start] + gain(until, prefix.until(start));
    let mut tops = [most; LANES];
    let mut start = low;
    while start + LANES <= high {
        let sums = totals(prefix, lanes(best, start), start, until);
        for lane in 0..LANES {
            tops[lane] = if sums[lane] > tops[lane] { sums[lane] } else { tops[lane] };
        }
        start += LANES;
    }
    if tops == [most; LANES] {
        return (start..high).find(|start| total(*start) > most).unwrap_or(high);
    }
    (low..high).find(|start| total(*start) > most).unwrap_or(high)
}
