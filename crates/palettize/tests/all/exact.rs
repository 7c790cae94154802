//! The clusters are the best ones: compared with brute force on random and on adversarial cases.

use crate::common::{Random, brute_force, squared_error, total_error};
use anemll_palettize::{PaletteError, clusters};

/// Compares the squared error with the least one, for several numbers of clusters.
fn check(values: &[f64], weights: &[f64], counts: impl IntoIterator<Item = usize>, what: &str) {
    let all = squared_error(values, weights);
    for count in counts {
        let found = clusters(values, weights, count).unwrap();
        assert_eq!(found.len(), count.min(values.len()), "{what}: number of clusters");
        assert!(found.iter().all(|range| !range.is_empty()), "{what}: {found:?}");
        assert_eq!(found[0].start, 0);
        assert_eq!(found.last().unwrap().end, values.len());
        assert!(found.windows(2).all(|pair| pair[0].end == pair[1].start), "{what}: {found:?}");
        let error = total_error(values, weights, &found);
        let least = brute_force(values, weights, count);
        assert!(
            error <= least * (1.0 + 1e-9) + all * 1e-13,
            "{what}, {count} of {}: {error:e}, but {least:e} is possible\n{values:?}\n{weights:?}",
            values.len(),
        );
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

#[test]
fn thousands_of_random_cases() {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    for case in 0..6000 {
        let size = 1 + random.below(if case % 50 == 0 { 90 } else { 24 }) as usize;
        let style = random.below(7);
        let values = sorted(
            (0..size)
                .map(|at| match style {
                    0 => random.bell(),
                    1 => random.below(40) as f64,
                    2 => random.bell().powi(5),
                    3 => at as f64,
                    4 => (at / 4) as f64 * 100.0 + (at % 4) as f64,
                    5 => (random.below(2) as f64) * 1e4 + random.unit(),
                    _ => 2.0_f64.powi(random.below(40) as i32 - 24),
                })
                .collect(),
        );
        let heavy = random.below(4);
        let weights: Vec<f64> = values
            .iter()
            .map(|_| match heavy {
                0 => 1.0,
                1 => 1.0 + random.below(5) as f64,
                2 => random.unit() + 1e-3,
                _ => 10.0_f64.powi(random.below(9) as i32 - 4),
            })
            .collect();
        let counts = [1, 2, 3, 4, 8, 16, values.len() - 1, values.len(), values.len() + 5];
        let what = format!("case {case}, style {style}, weights {heavy}");
        check(&values, &weights, counts.into_iter().filter(|count| *count > 0), &what);
    }
}

#[test]
fn every_number_of_clusters_of_lattices_is_reached() {
    // Equal steps and weights: many prices at once are the best for a whole range of numbers.
    for size in 1..=48 {
        let values: Vec<f64> = (0..size).map(f64::from).collect();
        check(&values, &vec![1.0; values.len()], 1..=values.len() + 1, "lattice");
    }
    for period in 2..6_usize {
        let values: Vec<f64> =
            (0..40_usize).map(|at| (at / period * 10 + at % period) as f64).collect();
        check(&values, &[1.0; 40], 1..=40, "lattice of lattices");
        let weights: Vec<f64> = (0..40).map(|at| [1.0, 2.0, 1.0, 4.0][at % 4]).collect();
        check(&values, &weights, 1..=40, "lattice with periodic weights");
    }
}

#[test]
fn halves_of_every_size() {
    // All 16-bit codes around the places where their steps change, with subnormal ones.
    let steps = |from: u16, to: u16, by: usize| -> Vec<f64> {
        (from..to).step_by(by).map(|code| half::f16::from_bits(code).to_f64()).collect()
    };
    for values in [
        steps(0, 60, 1),
        steps(0x03E0, 0x0420, 1),
        steps(0x3BF0, 0x3C30, 1),
        steps(0, 0x7C00, 600),
        steps(0x7BC0, 0x7C00, 1),
    ] {
        let count = values.len();
        let mirrored = sorted(values.iter().flat_map(|value| [-value, *value]).collect());
        let weights: Vec<f64> = (0..mirrored.len()).map(|at| (1 + at % 7) as f64).collect();
        check(&values, &vec![1.0; count], 1..=count, "codes");
        check(&mirrored, &weights, [2, 3, 4, 16, 64], "mirrored codes");
    }
}

#[test]
fn numbers_at_the_ends_of_floats() {
    let tiny: Vec<f64> = (0..20).map(|at| f64::from(at * at) * f64::MIN_POSITIVE).collect();
    // Their squares are no floats, so that only the shape of the answer can be seen.
    for (values, weights) in [
        (tiny, vec![1.0; 20]),
        (vec![f64::MIN, -1.0, 0.0, 1.0, f64::MAX], vec![1.0; 5]),
        (vec![1.0, 2.0, 3.0, 4.0], vec![f64::MAX, f64::MIN_POSITIVE, 5e-324, 1.0]),
        ((0..30).map(f64::from).collect(), vec![f64::MAX; 30]),
        ((0..30).map(f64::from).collect(), vec![5e-324; 30]),
    ] {
        for count in 1..=values.len() + 1 {
            let found = clusters(&values, &weights, count).unwrap();
            assert_eq!(found.len(), count.min(values.len()), "{values:?}");
            assert_eq!(found.last().unwrap().end, values.len());
        }
    }
    // The same shape with other units is cut at the same places.
    let mut random = Random(77);
    let values = sorted((0..60).map(|_| random.bell()).collect());
    let weights: Vec<f64> = values.iter().map(|_| 1.0 + random.below(9) as f64).collect();
    let scaled = |values: &[f64], factor: f64| -> Vec<f64> {
        values.iter().map(|value| value * factor).collect()
    };
    let expected = clusters(&values, &weights, 8).unwrap();
    for power in [-900, -60, 60, 900] {
        let factor = 2.0_f64.powi(power);
        assert_eq!(clusters(&scaled(&values, factor), &weights, 8).unwrap(), expected);
        assert_eq!(clusters(&values, &scaled(&weights, factor), 8).unwrap(), expected);
    }
}

#[test]
fn larger_cases() {
    let mut random = Random(4711);
    for style in 0..3 {
        let values = sorted(
            (0..700)
                .map(|_| match style {
                    0 => half::bf16::from_f64(random.bell() * 0.05).to_f64(),
                    1 => half::f16::from_f64(random.bell() * 0.05).to_f64(),
                    _ => (random.bell() * 100.0).round(),
                })
                .collect(),
        );
        let weights: Vec<f64> = values.iter().map(|_| 1.0 + random.below(6) as f64).collect();
        check(&values, &weights, [2, 4, 8, 16, 64, 256], &format!("large, style {style}"));
    }
}

#[test]
fn what_cannot_be_clustered_is_refused() {
    let size = |values: &[f64], weights: &[f64], count| {
        matches!(clusters(values, weights, count), Err(PaletteError::Size(_)))
    };
    assert!(size(&[], &[], 1));
    assert!(size(&[1.0], &[1.0], 0));
    assert!(size(&[1.0], &[1.0, 2.0], 1));
    for (values, weights, place) in [
        ([1.0, 1.0], [1.0, 1.0], 1),
        ([2.0, 1.0], [1.0, 1.0], 1),
        ([f64::NAN, 1.0], [1.0, 1.0], 0),
        ([0.0, f64::INFINITY], [1.0, 1.0], 1),
        ([0.0, -0.0], [1.0, 1.0], 1),
        ([0.0, 1.0], [1.0, 0.0], 1),
        ([0.0, 1.0], [-1.0, 1.0], 0),
        ([0.0, 1.0], [1.0, f64::NAN], 1),
        ([0.0, 1.0], [1.0, f64::INFINITY], 1),
    ] {
        assert_eq!(clusters(&values, &weights, 1), Err(PaletteError::Element(place)));
    }
}
