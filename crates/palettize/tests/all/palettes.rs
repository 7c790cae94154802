//! Palettes of matrices.

use crate::common::{Random, brute_force};
use anemll_palettize::{BITS, Palette, PaletteError, Palettizer, palettize};
use half::{bf16, f16};

fn matrix(random: &mut Random, size: usize, lattice: bool) -> Vec<f16> {
    (0..size)
        .map(|_| {
            let value = random.bell() * 0.1;
            let value = if lattice { bf16::from_f64(value).to_f64() } else { value };
            f16::from_f64(value)
        })
        .collect()
}

/// Distinct values and their weights.
fn histogram(values: &[f16], importance: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut pairs: Vec<(f64, f64)> =
        values.iter().map(|value| value.to_f64()).zip(importance.iter().copied()).collect();
    pairs.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (mut distinct, mut weights): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for (value, weight) in pairs {
        match (distinct.last(), weights.last_mut()) {
            (Some(last), Some(sum)) if *last == value => *sum += weight,
            _ => {
                distinct.push(value);
                weights.push(weight);
            }
        }
    }
    (distinct, weights)
}

/// What holds for every palette: ascending entries, the nearest one for each element, and an error
/// that is told as it is.
fn check(values: &[f16], columns: usize, palette: &Palette) {
    let entries = 1 << palette.bits;
    let group = columns * palette.group_rows;
    assert_eq!(palette.indices.len(), values.len());
    assert_eq!(palette.lut.len(), values.len() / group * entries);
    let (mut squared, mut largest) = (0.0, 0.0_f64);
    for (at, (value, index)) in values.iter().zip(&palette.indices).enumerate() {
        let lut = &palette.lut[at / group * entries..][..entries];
        let distance = |entry: &f16| (entry.to_f64() - value.to_f64()).abs();
        let least = lut.iter().map(distance).fold(f64::INFINITY, f64::min);
        let lowest = lut.iter().position(|entry| distance(entry) == least).unwrap();
        assert_eq!(usize::from(*index), lowest, "the nearest entry, of two the lower one");
        squared += least * least;
        largest = largest.max(least);
    }
    assert!((palette.error.squared - squared).abs() <= squared * 1e-9);
    assert_eq!(palette.error.max_absolute, largest);
    for lut in palette.lut.chunks_exact(entries) {
        let last = lut.iter().position(|entry| *entry == lut[entries - 1]).unwrap();
        assert!(lut[..=last].windows(2).all(|pair| pair[0] < pair[1]), "{lut:?}");
        assert!(lut[last..].iter().all(|entry| entry.to_bits() == lut[last].to_bits()));
        assert!(lut.iter().all(|entry| entry.is_finite() && entry.to_bits() != 0x8000));
    }
}

#[test]
fn palettes_are_the_best_ones() {
    let mut random = Random(99);
    for case in 0..60 {
        let (rows, columns) = (8, 1 + random.below(40) as usize);
        let values = matrix(&mut random, rows * columns, case % 2 == 0);
        for (bits, group) in [(1, 8), (2, 4), (3, 2), (4, 8), (6, 8), (8, 1)] {
            let palette = palettize(&values, columns, group, bits, None).unwrap();
            check(&values, columns, &palette);
            // Entries are rounded to 11 bits, which costs a little.
            let mut least = 0.0;
            let mut rounding = 0.0;
            for group in values.chunks(group * columns) {
                let (distinct, weights) = histogram(group, &vec![1.0; group.len()]);
                least += brute_force(&distinct, &weights, 1 << bits);
                let largest =
                    group.iter().fold(0.0_f64, |most, value| most.max(value.to_f64().abs()));
                rounding += group.len() as f64 * (largest / 2048.0).powi(2);
            }
            let error = palette.error.squared;
            assert!(error >= least * (1.0 - 1e-9) && error <= least + rounding, "{error} {least}");
        }
    }
}

#[test]
fn importance_weighs_squares() {
    let mut random = Random(5);
    for _ in 0..40 {
        let (rows, columns) = (4, 1 + random.below(30) as usize);
        let values = matrix(&mut random, rows * columns, false);
        let importance: Vec<f32> = (0..columns).map(|_| random.unit().powi(6) as f32).collect();
        let palette = palettize(&values, columns, 4, 2, Some(&importance)).unwrap();
        check(&values, columns, &palette);
        let each: Vec<f64> =
            (0..values.len()).map(|at| f64::from(importance[at % columns])).collect();
        let (distinct, weights) = histogram(&values, &each);
        let least = brute_force(&distinct, &weights, 4);
        let rounding: f64 = each.iter().sum::<f64>() * (0.5_f64 / 2048.0).powi(2);
        let decoded = palette.decode(columns);
        let error: f64 = values
            .iter()
            .zip(&decoded)
            .zip(&each)
            .map(|((value, entry), weight)| weight * (value.to_f64() - entry.to_f64()).powi(2))
            .sum();
        assert!(error <= least + rounding, "{error} {least}");
    }
}

#[test]
fn importances_of_one_and_of_zero_are_none() {
    let mut random = Random(6);
    let values = matrix(&mut random, 16 * 24, false);
    let plain = palettize(&values, 24, 8, 4, None).unwrap();
    for every in [0.0, 1.0, 4.0] {
        let weighted = palettize(&values, 24, 8, 4, Some(&[every; 24])).unwrap();
        assert_eq!(weighted, plain, "{every}");
    }
    // A column of no importance does not move an entry, but its elements get one.
    let mut importance = [1.0; 24];
    importance[3] = 0.0;
    let mut other = values.clone();
    for row in other.chunks_exact_mut(24) {
        row[3] = f16::from_f64(random.bell() * 100.0);
    }
    let one = palettize(&values, 24, 8, 4, Some(&importance)).unwrap();
    let two = palettize(&other, 24, 8, 4, Some(&importance)).unwrap();
    assert_eq!(one.lut, two.lut);
    check(&other, 24, &two);
}

#[test]
fn few_distinct_values_are_kept_as_they_are() {
    let halves =
        |values: &[f32]| -> Vec<f16> { values.iter().map(|value| f16::from_f32(*value)).collect() };
    for bits in BITS {
        let palette = palettize(&halves(&[0.3; 12]), 6, 1, bits, None).unwrap();
        assert!(palette.lut.iter().all(|entry| *entry == f16::from_f32(0.3)));
        assert!(palette.indices.iter().all(|index| *index == 0));
        assert_eq!(palette.error.squared, 0.0);
    }
    let palette = palettize(&halves(&[2.0, -1.0, 0.0, -0.0]), 4, 1, 2, None).unwrap();
    assert_eq!(palette.lut, halves(&[-1.0, 0.0, 2.0, 2.0]));
    assert_eq!(palette.indices, [2, 0, 1, 1]);
    let palette = palettize(&halves(&[-0.0, -0.0]), 2, 1, 1, None).unwrap();
    assert_eq!(palette.lut[0].to_bits(), 0, "one zero for both");
    // A tie goes to the lower entry: 1 is as far from 0 as from 2.
    let palette = palettize(&halves(&[0.0; 4].map(|_: f32| 0.0)), 4, 1, 1, None).unwrap();
    assert_eq!(palette.indices, [0; 4]);
}

#[test]
fn the_whole_range_of_halves() {
    let all: Vec<f16> =
        (0..=u16::MAX).map(f16::from_bits).filter(|value| value.is_finite()).collect();
    for bits in BITS {
        let palette = palettize(&all, all.len(), 1, bits, None).unwrap();
        check(&all, all.len(), &palette);
    }
    let ends = [f16::MAX, f16::MIN, f16::from_bits(1), f16::from_bits(0x8001)];
    check(&ends, 4, &palettize(&ends, 4, 1, 1, None).unwrap());
}

#[test]
fn a_palettizer_keeps_nothing() {
    let mut random = Random(8);
    let first = matrix(&mut random, 64, false);
    let second = matrix(&mut random, 640, true);
    let run = |palettizer: &mut Palettizer, values: &[f16], importance: Option<&[f32]>| {
        let mut lut = [f16::ZERO; 16];
        let mut indices = vec![0; values.len()];
        let error = palettizer.group(values, 16, 4, importance, &mut lut, &mut indices);
        (error, lut, indices)
    };
    let mut used = Palettizer::new();
    run(&mut used, &second, Some(&[2.0; 16])).0.unwrap();
    let mut broken = first.clone();
    broken[18] = f16::NEG_INFINITY;
    let refused = run(&mut used, &broken, Some(&[1.0; 16])).0.unwrap_err();
    assert_eq!(refused, PaletteError::NotFinite { row: 1, column: 2, value: f32::NEG_INFINITY });
    for (values, importance) in [(&first, None), (&second, None), (&first, Some(&[0.5; 16][..]))] {
        assert_eq!(
            run(&mut used, values, importance),
            run(&mut Palettizer::new(), values, importance)
        );
    }
}

#[test]
fn bad_arguments_are_refused() {
    let values = [f16::ONE; 12];
    for bits in [0, 5, 7, 9, 32] {
        assert_eq!(palettize(&values, 3, 1, bits, None), Err(PaletteError::Bits(bits)));
    }
    for (columns, group) in [(0, 1), (3, 0), (5, 1), (3, 3), (3, 8), (usize::MAX, 2)] {
        let found = palettize(&values, columns, group, 4, None);
        assert!(matches!(found, Err(PaletteError::Size(_))), "{columns} {group}");
    }
    assert!(matches!(palettize(&values, 3, 1, 4, Some(&[1.0; 4])), Err(PaletteError::Size(_))));
    for value in [-1.0, f32::NAN, f32::INFINITY] {
        let found = palettize(&values, 3, 1, 4, Some(&[0.0, value, 1.0]));
        assert!(matches!(found, Err(PaletteError::Importance { column: 1, .. })));
    }
    let mut broken = values;
    broken[10] = f16::NAN;
    let error = palettize(&broken, 3, 2, 4, None).unwrap_err();
    assert!(matches!(error, PaletteError::NotFinite { row: 3, column: 1, .. }));
    assert_eq!(error.to_string(), "the value at row 3, column 1 is NaN");
    assert!(palettize(&[], 3, 1, 4, None).unwrap().lut.is_empty());
}
