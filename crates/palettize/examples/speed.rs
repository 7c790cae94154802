//! Millions of weights per second on one core, for matrices like those of language models.
//!
//! `cargo run --release -p anemll-palettize --example speed`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it is a program for its author")]

use anemll_palettize::palettize;
use half::{bf16, f16};
use std::time::Instant;

/// Weights with heavy tails and scales of their own for rows and columns, in two precisions.
fn matrix(rows: usize, columns: usize, brain: bool) -> Vec<f16> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut unit = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut bell = || (0..12).map(|_| unit()).sum::<f64>() - 6.0;
    let mut scales =
        |count: usize| -> Vec<f64> { (0..count).map(|_| (bell() * 0.3).exp()).collect() };
    let (row_scales, column_scales) = (scales(rows), scales(columns));
    let mut values = Vec::with_capacity(rows * columns);
    for row in row_scales {
        for column in &column_scales {
            // Student's t with six degrees of freedom.
            let spread = (0..6).map(|_| bell().powi(2)).sum::<f64>() / 6.0;
            let value = 0.05 * row * column * bell() / spread.sqrt();
            values.push(match brain {
                true => f16::from_f32(bf16::from_f64(value).to_f32()),
                false => f16::from_f64(value),
            });
        }
    }
    values
}

fn main() {
    for (rows, columns, group) in
        [(576, 1536, 8), (1536, 576, 8), (512, 4096, 8), (1536, 1536, 1536)]
    {
        for brain in [true, false] {
            let values = matrix(rows, columns, brain);
            for bits in [4, 6, 8] {
                let best = (0..5)
                    .map(|_| {
                        let start = Instant::now();
                        let palette = palettize(&values, columns, group, bits, None).unwrap();
                        assert!(palette.error.squared > 0.0);
                        start.elapsed().as_secs_f64()
                    })
                    .fold(f64::INFINITY, f64::min);
                let groups = rows / group;
                println!(
                    "{rows:5} x {columns:5} group {group:5} {} {bits} bits: {:7.1} M/s, {:8.1} us \
                     per group",
                    if brain { "bf16" } else { "fp16" },
                    values.len() as f64 / best / 1e6,
                    best / groups as f64 * 1e6
                );
            }
        }
    }
}
