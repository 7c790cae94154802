//! Palettes of vectors.

use crate::common::Random;
use anemll_palettize::{Nearest, PaletteError, palettize_vectors};
use half::f16;

fn bell(count: usize, seed: u64) -> Vec<f16> {
    let mut random = Random(seed);
    (0..count).map(|_| f16::from_f64(random.bell())).collect()
}

/// The mean square of the difference, by columns that count differently.
fn loss(
    values: &[f16],
    columns: usize,
    found: &anemll_palettize::VectorPalette,
    of: &[f32],
) -> f64 {
    let length = found.length;
    let mut sum = 0.0;
    for (at, value) in values.iter().enumerate() {
        let (row, column) = (at / columns, at % columns);
        let index = usize::from(found.indices[row / length * columns + column]);
        let distance = f64::from(*value) - f64::from(found.lut[index * length + row % length]);
        sum += f64::from(of[column]) * distance * distance;
    }
    sum
}

#[test]
fn as_many_distinct_vectors_as_entries_are_kept() {
    // Four different pairs, laid out in two rows.
    let pairs = [[1.0, -2.0], [3.0, 0.5], [-4.0, -4.0], [0.0, 8.0]];
    let columns = 40;
    let chosen: Vec<usize> = (0..columns).map(|column| (column * 7 + column / 5) % 4).collect();
    let values: Vec<f16> = (0..2)
        .flat_map(|row| chosen.iter().map(move |pair| f16::from_f64(pairs[*pair][row])))
        .collect();
    let found = palettize_vectors(&values, columns, 2, 2, None).unwrap();
    assert_eq!(found.indices.len(), columns);
    assert_eq!(found.error.max_absolute, 0.0);
}

#[test]
fn vectors_lose_less_than_single_numbers_of_as_many_bits() {
    let (columns, rows) = (96, 64);
    let values = bell(columns * rows, 5);
    let even = vec![1.0; columns];
    let single = anemll_palettize::palettize(&values, columns, rows, 2, None).unwrap();
    let pairs = palettize_vectors(&values, columns, 2, 4, None).unwrap();
    let lost = loss(&values, columns, &pairs, &even);
    assert!((lost - pairs.error.squared).abs() < 1e-6 * lost);
    assert!(lost < 0.93 * single.error.squared, "{lost} {}", single.error.squared);
    let fours = palettize_vectors(&values, columns, 4, 8, None).unwrap();
    assert!(fours.error.squared < lost);
}

#[test]
fn what_counts_more_is_kept_better() {
    let (columns, rows) = (64, 32);
    let values = bell(columns * rows, 9);
    let importance: Vec<f32> =
        (0..columns).map(|column| if column % 8 == 0 { 100.0 } else { 1.0 }).collect();
    let even = palettize_vectors(&values, columns, 2, 4, None).unwrap();
    let weighted = palettize_vectors(&values, columns, 2, 4, Some(&importance)).unwrap();
    let of = |found| loss(&values, columns, found, &importance);
    assert!(of(&weighted) < of(&even));
    let none = palettize_vectors(&values, columns, 2, 4, Some(&vec![0.0; columns])).unwrap();
    assert_eq!(none, even);
}

/// More vectors than the search looks at while it splits, and values that are all alike.
#[test]
fn large_and_flat_matrices_have_tables() {
    let (columns, rows) = (512, 512);
    let found = palettize_vectors(&bell(columns * rows, 3), columns, 2, 4, None).unwrap();
    let used: std::collections::BTreeSet<u8> = found.indices.iter().copied().collect();
    assert_eq!(used.len(), 16);
    let flat = vec![f16::from_f32(0.25); 4 * 8];
    let found = palettize_vectors(&flat, 8, 2, 4, None).unwrap();
    assert_eq!(found.error.squared, 0.0);
}

/// The search begins with some of the vectors of a large matrix: these are of all columns, so that none
/// that counts is overlooked.
#[test]
fn columns_that_count_are_seen_wherever_they_are() {
    let (columns, rows) = (1024, 1024);
    let values = bell(columns * rows, 21);
    let importance: Vec<f32> = (0..columns).map(|at| f32::from(u8::from(at % 64 == 1))).collect();
    let found = palettize_vectors(&values, columns, 2, 4, Some(&importance)).unwrap();
    let alone: Vec<f16> = values.iter().skip(1).step_by(64).copied().collect();
    let best = palettize_vectors(&alone, columns / 64, 2, 4, None).unwrap();
    let lost = loss(&values, columns, &found, &importance);
    assert!(lost < 1.1 * best.error.squared, "{lost} {}", best.error.squared);
}

#[test]
fn the_nearest_vector_is_found() {
    let mut random = Random(77);
    let entries: Vec<f32> = (0..64 * 2).map(|_| random.bell() as f32).collect();
    let finder = Nearest::new(&entries, 2);
    for _ in 0..500 {
        let vector = [random.bell() as f32, random.bell() as f32];
        let distance = |index: usize| {
            let entry = &entries[2 * index..];
            (entry[0] - vector[0]).powi(2) + (entry[1] - vector[1]).powi(2)
        };
        let best = (0..64).map(distance).fold(f32::INFINITY, f32::min);
        assert!((distance(finder.find(&vector)) - best).abs() < 1e-5);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let values = bell(4 * 6, 1);
    let refused = |columns, length, bits, importance| {
        palettize_vectors(&values, columns, length, bits, importance).unwrap_err()
    };
    assert!(matches!(refused(6, 2, 5, None), PaletteError::Bits(5)));
    assert!(matches!(refused(6, 3, 4, None), PaletteError::Size(_)));
    assert!(matches!(refused(8, 2, 4, None), PaletteError::Size(_)));
    assert!(matches!(refused(0, 2, 4, None), PaletteError::Size(_)));
    assert!(matches!(refused(6, 2, 4, Some(&[1.0])), PaletteError::Size(_)));
    let below = [1.0, 1.0, -1.0, 1.0, 1.0, 1.0];
    assert!(matches!(refused(6, 2, 4, Some(&below)), PaletteError::Importance { column: 2, .. }));
    let mut values = values.clone();
    values[13] = f16::INFINITY;
    let error = palettize_vectors(&values, 6, 2, 4, None).unwrap_err();
    assert!(matches!(error, PaletteError::NotFinite { row: 2, column: 1, .. }));
}
