//! Millions of weights per second on one core, for matrices like those of language models or for one
//! in a file of 16-bit floats. `cargo xtask bench palettize` compares it with coremltools.
//!
//! `cargo run --release -p anemll-palettize --example palettize_speed [FILE COLUMNS ROWS_OF_A_GROUP BITS]`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it is a program for its author")]

use anemll_palettize::{pack, palettize};
use half::{bf16, f16};

/// Runs of which the middle one counts.
const RUNS: usize = 5;

/// Seconds of a run, at least: the system counts in steps of some thousandths.
const LEAST: f64 = 0.2;

/// Seconds that this thread has had of a processor, so that other programs do not count; seconds
/// that went by where the system does not tell.
fn now() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(
        || START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64(),
        |nanoseconds| nanoseconds / 1e9,
    )
}

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

/// Seconds of each run, from values to packed indices, and the mean squared error.
fn measure(values: &[f16], columns: usize, group: usize, bits: u32) -> (Vec<f64>, f64) {
    let mut error = 0.0;
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let (start, mut times) = (now(), 0.0);
            loop {
                let palette = palettize(values, columns, group, bits, None).unwrap();
                let packed = pack(&palette.indices, bits).unwrap();
                assert!(!packed.is_empty());
                error = palette.error.squared / values.len() as f64;
                times += 1.0;
                let seconds = now() - start;
                if seconds >= LEAST {
                    break seconds / times;
                }
            }
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    (seconds, error)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [file, columns, group, bits] = arguments.as_slice() {
        let bytes = std::fs::read(file).unwrap();
        let values: Vec<f16> =
            bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect();
        let sizes = (columns.parse().unwrap(), group.parse().unwrap());
        let (seconds, error) = measure(&values, sizes.0, sizes.1, bits.parse().unwrap());
        println!("{{\"seconds\": {seconds:?}, \"mean_squared\": {error:e}}}");
        return;
    }
    for (rows, columns, group) in
        [(576, 1536, 8), (1536, 576, 8), (512, 4096, 8), (1536, 1536, 1536)]
    {
        for brain in [true, false] {
            let values = matrix(rows, columns, brain);
            for bits in [3, 4, 6, 8] {
                let (seconds, error) = measure(&values, columns, group, bits);
                println!(
                    "{rows:5} x {columns:5} group {group:5} {} {bits} bits: {:7.1} M/s, {:8.1} us \
                     per group, error {error:.9e}",
                    if brain { "bf16" } else { "fp16" },
                    values.len() as f64 / seconds[RUNS / 2] / 1e6,
                    seconds[RUNS / 2] / (rows / group) as f64 * 1e6
                );
            }
        }
    }
}
