//! What the templates of the page show.

use super::text::megabytes;
use crate::comparison::nats;
use crate::page::{Fact, Section};
use crate::plot::{Axis, Plot, SERIES, Scale};
use anemll_calibration::{Sweep, SweepRow};
use anemll_terminal::size;
use serde::Serialize;
use std::path::Path;

/// All that the page shows.
#[derive(Serialize)]
pub(super) struct Page {
    title: String,
    about: String,
    facts: Vec<Fact>,
    sections: Vec<Section>,
    plot: String,
    /// Groups, each with the class of its marks.
    legend: Vec<(String, &'static str)>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    lut: String,
    flags: String,
    megabytes: String,
    bits: String,
    kl: String,
    p99: String,
    same: String,
    perplexity: String,
    front: bool,
    notes: Vec<String>,
}

impl Page {
    pub(super) fn of(found: &Sweep) -> Self {
        let mut groups: Vec<&str> = Vec::new();
        for row in &found.rows {
            if !groups.contains(&row.group.as_str()) {
                groups.push(&row.group);
            }
        }
        let class = |at: usize| SERIES[at % SERIES.len()];
        let name = Path::new(&found.model).file_name();
        let text = match found.text.as_str() {
            "built-in" => "the built-in text that no calibration uses",
            file => file,
        };
        let part = match found.part.as_str() {
            "all" => "all weights",
            "layers" => "the layers' matrices (all else is 16-bit floats)",
            "embeddings" => "the embedding (all else is 16-bit floats)",
            _ => "the head (all else is 16-bit floats)",
        };
        let legend = groups.iter().enumerate();
        Self {
            title: name.map_or_else(|| found.model.clone(), |name| name.to_string_lossy().into()),
            about: format!(
                "Forms of {part}, by the quantizer {}, measured on {} tokens of {text}.",
                found.quantizer, found.tokens
            ),
            facts: facts(found),
            sections: vec![
                Section { id: "plot", title: "Size and distance", number: None },
                Section { id: "forms", title: "Forms", number: Some(found.rows.len()) },
            ],
            plot: plot(found, &groups, class),
            legend: legend.map(|(at, group)| (of_group(group), class(at))).collect(),
            rows: found.rows.iter().map(row).collect(),
        }
    }
}

/// A group in words.
fn of_group(group: &str) -> String {
    match group {
        "tensor" | "0" => "one table for a tensor".to_owned(),
        "scale" => "one table, a factor for each channel".to_owned(),
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("groups of {number} channels")
        }
        other => other.to_owned(),
    }
}

fn facts(found: &Sweep) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut fact = |title, value, note| facts.push(Fact { title, value, note });
    let original = format!("perplexity {:.2}", found.original_perplexity);
    fact("As 16-bit floats", size(found.original_bytes), original);
    let told = |row: &SweepRow| format!("{}, KL {}", row.lut, nats(row.kl_mean));
    let front = found.front();
    if let (Some(first), Some(last)) = (front.first(), front.last()) {
        fact("Smallest", size(first.bytes), told(first));
        fact("Nearest", size(last.bytes), told(last));
    }
    let count = front.len();
    fact("Worth a look", count.to_string(), format!("of {} forms", found.rows.len()));
    facts
}

fn plot(found: &Sweep, groups: &[&str], class: impl Fn(usize) -> &'static str) -> String {
    let size_of = |row: &SweepRow| row.bytes as f64 / 1e6;
    let place = |row: &SweepRow| (size_of(row), row.kl_mean);
    let x = Axis::new("weights in MB", Scale::Logarithmic, found.rows.iter().map(size_of));
    let y = Axis::new("KL in nats", Scale::Logarithmic, found.rows.iter().map(|row| row.kl_mean));
    let front = found.front();
    let names: Vec<&str> = front.iter().map(|row| &*row.lut).collect();
    let description = match names.as_slice() {
        [] => "No form could be measured.".to_owned(),
        names => {
            format!("{} forms. The best for their size: {}.", found.rows.len(), names.join(", "))
        }
    };
    let title = "Size of the weights against the divergence from the original";
    let mut plot = Plot::new("size-kl", title, &description, x, y);
    for (at, group) in groups.iter().enumerate() {
        let mut of_group: Vec<&SweepRow> =
            found.rows.iter().filter(|row| row.group == *group).collect();
        of_group.sort_by_key(|row| row.bytes);
        plot.line(&format!("{} soft", class(at)), of_group.iter().map(|row| place(row)));
    }
    plot.line("front", front.iter().map(|row| place(row)));
    for row in &found.rows {
        let at = groups.iter().position(|group| *group == row.group).unwrap_or(0);
        let told = format!(
            "{}: {}, KL {}, same word {:.1} %",
            row.lut,
            size(row.bytes),
            nats(row.kl_mean),
            100.0 * row.top1_agreement
        );
        plot.mark(class(at), place(row), &told);
    }
    for row in front {
        plot.ring(place(row), &row.lut);
    }
    plot.svg()
}

fn row(row: &SweepRow) -> Row {
    Row {
        lut: row.lut.clone(),
        flags: row.flags.clone(),
        megabytes: megabytes(row.bytes),
        bits: format!("{:.2}", row.bits_per_weight()),
        kl: nats(row.kl_mean),
        p99: nats(row.kl_p99),
        same: format!("{:.1} %", 100.0 * row.top1_agreement),
        perplexity: format!("{:.2}", row.perplexity),
        front: row.front,
        notes: row.notes.clone(),
    }
}
