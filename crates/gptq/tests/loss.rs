//! Losses of small matrices: against every possibility, and from step to step.

use anemll_gptq::{Method, Moments, quantize, quantize_vectors};
use anemll_palettize::{palettize, palettize_vectors};
use half::f16;

fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn moments(columns: usize, tokens: usize, seed: u64) -> Vec<f32> {
    let mut next = noise(seed);
    let mut sums = vec![0.0; columns * columns];
    for _ in 0..tokens {
        let common = next();
        let inputs: Vec<f32> =
            (0..columns).map(|at| (next() + common) * (1.0 + (at % 7) as f32)).collect();
        for (row, left) in sums.chunks_exact_mut(columns).zip(&inputs) {
            row.iter_mut().zip(&inputs).for_each(|(sum, right)| *sum += left * right);
        }
    }
    sums.iter().map(|sum| sum / tokens as f32).collect()
}

fn weights(count: usize, seed: u64) -> Vec<f16> {
    let mut next = noise(seed);
    (0..count).map(|_| f16::from_f32(next() * next() * 0.2)).collect()
}

/// `tr((W - Q) H (W - Q)ᵀ)` with `H` as given, in 64 bits.
fn loss(values: &[f16], lut: &[f16], indices: &[u8], group: usize, bits: u32, h: &[f32]) -> f64 {
    let columns = h.len().isqrt();
    let rest: Vec<f64> = values
        .iter()
        .zip(indices)
        .enumerate()
        .map(|(at, (value, index))| {
            value.to_f64() - lut[((at / group) << bits) + usize::from(*index)].to_f64()
        })
        .collect();
    rest.chunks_exact(columns)
        .map(|row| {
            let lines = h.chunks_exact(columns).zip(row);
            let line = |line: &[f32]| -> f64 {
                line.iter().zip(row).map(|(h, rest)| f64::from(*h) * rest).sum()
            };
            lines.map(|(h, rest)| rest * line(h)).sum::<f64>()
        })
        .sum()
}

const PLAIN: Method = Method { feedback: 0, rounds: 0, passes: 0 };
const FEEDBACK: Method = Method::GPTQ;
const TURNS: Method = Method { feedback: 3, rounds: 0, passes: 0 };
const DESCENT: Method = Method { feedback: 3, rounds: 2, passes: 2 };

#[test]
fn every_part_of_the_method_lowers_the_loss() {
    for (columns, bits) in [(96, 4), (200, 3), (130, 2), (64, 6)] {
        let h = moments(columns, 4 * columns, 5);
        let ready = Moments::new(&h, columns, 0.01).unwrap();
        let values = weights(32 * columns, 7);
        let of = |method: Method| {
            let made = quantize(&values, 8, bits, &ready, method).unwrap();
            assert!(made.lut.chunks_exact(1 << bits).all(|table| table.is_sorted()));
            loss(&values, &made.lut, &made.indices, 8 * columns, bits, &h)
        };
        let unweighted = palettize(&values, columns, 8, bits, None).unwrap();
        let unweighted = loss(&values, &unweighted.lut, &unweighted.indices, 8 * columns, bits, &h);
        let (plain, feedback, turns, whole) = (of(PLAIN), of(FEEDBACK), of(TURNS), of(DESCENT));
        let lnq = of(Method::LNQ);
        println!("{columns} columns, {bits} bits: {unweighted} {plain} {feedback} {turns} {whole}");
        assert!(feedback < 0.7 * plain, "{bits} bits: {feedback} {plain}");
        assert!(turns < feedback, "{bits} bits: {turns} {feedback}");
        assert!(whole < turns, "{bits} bits: {whole} {turns}");
        assert!(lnq < feedback, "{bits} bits: {lnq} {feedback}");
    }
}

#[test]
fn with_independent_inputs_feedback_changes_nothing() {
    let columns = 70;
    let mut h = vec![0.0; columns * columns];
    for at in 0..columns {
        h[at * (columns + 1)] = 1.0 + at as f32;
    }
    let ready = Moments::new(&h, columns, 1e-6).unwrap();
    let values = weights(16 * columns, 3);
    let plain = quantize(&values, 8, 4, &ready, PLAIN).unwrap();
    let importance: Vec<f32> = (0..columns).map(|at| 1.0 + at as f32).collect();
    let palette = palettize(&values, columns, 8, 4, Some(&importance)).unwrap();
    assert_eq!((plain.lut, plain.indices.clone()), (palette.lut, palette.indices));
    assert_eq!(quantize(&values, 8, 4, &ready, FEEDBACK).unwrap().indices, plain.indices);
}

#[test]
fn a_small_row_comes_near_to_the_best_of_all_indices() {
    let columns = 8;
    let mut found = 0.0;
    let mut best_of_all = 0.0;
    for seed in 0..20 {
        let h = moments(columns, 40, seed);
        let ready = Moments::new(&h, columns, 1e-4).unwrap();
        let values = weights(columns, 100 + seed);
        let made = quantize(&values, 1, 1, &ready, DESCENT).unwrap();
        let of = |indices: &[u8]| loss(&values, &made.lut, indices, columns, 1, &h);
        let all = (0..1_u32 << columns)
            .map(|bits| of(&(0..columns).map(|at| (bits >> at & 1) as u8).collect::<Vec<_>>()));
        best_of_all += all.fold(f64::INFINITY, f64::min);
        found += of(&made.indices);
    }
    assert!(found <= 1.1 * best_of_all, "{found} {best_of_all}");
}

#[test]
fn pieces_of_a_matrix_give_what_the_whole_gives() {
    let columns = 90;
    let h = moments(columns, 300, 2);
    let ready = Moments::new(&h, columns, 0.01).unwrap();
    let values = weights(48 * columns, 11);
    let whole = quantize(&values, 8, 4, &ready, DESCENT).unwrap();
    let of = |values: &[f16], made: &anemll_gptq::Quantized| {
        loss(values, &made.lut, &made.indices, 8 * columns, 4, &h)
    };
    let mut lost = 0.0;
    for piece in values.chunks(16 * columns) {
        lost += of(piece, &quantize(piece, 8, 4, &ready, DESCENT).unwrap());
    }
    let whole = of(&values, &whole);
    assert!((lost / whole - 1.0).abs() < 1e-3, "{lost} {whole}");
}

#[test]
fn few_values_are_kept_exactly_and_bad_ones_are_named() {
    let columns = 16;
    let h = moments(columns, 64, 2);
    let ready = Moments::new(&h, columns, 0.01).unwrap();
    let mut values: Vec<f16> =
        (0..8 * columns).map(|at| f16::from_f32([-1.0, 0.5, 2.0][at % 3])).collect();
    let made = quantize(&values, 8, 2, &ready, DESCENT).unwrap();
    assert_eq!(made.error.squared, 0.0);
    values[3 * columns + 5] = f16::NAN;
    let error = quantize(&values, 8, 2, &ready, DESCENT).unwrap_err();
    assert!(error.to_string().contains("row 3"), "{error}");
}

/// Elements as the entries of their tuples.
fn pairs(found: &anemll_palettize::VectorPalette, columns: usize) -> Vec<u8> {
    let rows = found.indices.len() / columns * found.length;
    (0..rows * columns)
        .map(|at| {
            let (row, column) = (at / columns, at % columns);
            let index = usize::from(found.indices[row / found.length * columns + column]);
            (index * found.length + row % found.length) as u8
        })
        .collect()
}

#[test]
fn every_turn_with_vectors_lowers_the_loss() {
    let (columns, length, bits) = (96, 2, 4);
    let h = moments(columns, 4 * columns, 5);
    let ready = Moments::new(&h, columns, 0.01).unwrap();
    let values = weights(64 * columns, 7);
    // As a table of single numbers, of which elements of even rows use the even ones.
    let of = |turns| {
        let made = quantize_vectors(&values, length, bits, &ready, turns).unwrap();
        loss(&values, &made.lut, &pairs(&made, columns), usize::MAX, 0, &h)
    };
    let (nearest, once, thrice) = (of(0), of(1), of(3));
    assert!(once < 0.7 * nearest && thrice < once, "{nearest} {once} {thrice}");
    let plain =
        palettize_vectors(&values, columns, length, bits, Some(ready.importance())).unwrap();
    assert_eq!(quantize_vectors(&values, length, bits, &ready, 0).unwrap(), plain);
}
