//! The table for a terminal, a line at a time: what it will hold is not known when it begins.

use crate::comparison::nats;
use anemll_calibration::{Sweep, SweepRow};
use std::fmt::Write as _;

/// From these widths on, lines have more columns.
const WIDE: usize = 72;
const WIDEST: usize = 110;

/// Lines of a table, each as long as the terminal allows.
#[derive(Debug, Clone, Copy)]
pub struct Lines {
    width: usize,
}

impl Lines {
    /// For a terminal of so many columns; without one, all columns are shown.
    pub fn new(width: Option<usize>) -> Self {
        Self { width: width.unwrap_or(WIDEST) }
    }

    /// The first line.
    pub fn head(self) -> String {
        self.line(&["form", "MB", "bits", "KL", "99 % below", "same", "perplexity"], "convert with")
    }

    /// A form.
    pub fn row(self, row: &SweepRow) -> String {
        let cells = [
            row.lut.clone(),
            megabytes(row.bytes),
            format!("{:.2}", row.bits_per_weight()),
            nats(row.kl_mean),
            nats(row.kl_p99),
            format!("{:.1} %", 100.0 * row.top1_agreement),
            format!("{:.2}", row.perplexity),
        ];
        self.line(&cells.each_ref().map(String::as_str), &row.flags)
    }

    fn line(self, cells: &[&str; 7], flags: &str) -> String {
        let [form, megabytes, bits, kl, p99, same, perplexity] = cells;
        let mut line = format!("{form:<9} {megabytes:>8} {bits:>6} {kl:>9} {p99:>10} {same:>7}");
        if self.width >= WIDE {
            let _ = write!(line, " {perplexity:>11}");
        }
        if self.width >= WIDEST {
            let _ = write!(line, "   {flags}");
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// Bytes in MB, with four digits or more.
pub(super) fn megabytes(bytes: u64) -> String {
    let value = bytes as f64 / 1e6;
    match value {
        0.0..10.0 => format!("{value:.3}"),
        10.0..100.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}

/// What nothing beats, and what everything is measured against.
pub fn front(sweep: &Sweep) -> String {
    let names: Vec<&str> = sweep.front().iter().map(|row| &*row.lut).collect();
    let best = match names.as_slice() {
        [] => "no form could be measured".to_owned(),
        names => format!("best for their size: {}", names.join("  ")),
    };
    let mut text = format!(
        "16 bits: {} MB, perplexity {:.2}; {} tokens of {}\n{best}\n",
        megabytes(sweep.original_bytes),
        sweep.original_perplexity,
        sweep.tokens,
        match sweep.text.as_str() {
            "built-in" => "the built-in text",
            file => file,
        },
    );
    for row in &sweep.rows {
        for note in &row.notes {
            let _ = writeln!(text, "note: {}: {note}", row.lut);
        }
    }
    text
}
