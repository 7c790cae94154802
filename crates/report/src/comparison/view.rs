//! What the templates of the page show.

use crate::page::{Fact, List, Section};
use crate::plot::{Axis, Cell, HeatMap, Plot, Scale};
use anemll_calibration::{Comparison, TensorError};
use anemll_generation::distance::Span;
use anemll_generation::streams::{LayerError, worst_layer};
use anemll_terminal::size;
use serde::Serialize;
use std::path::Path;

/// Limits that no real model reaches, so that a page for a strange one can be opened.
const MAXIMUM_TENSORS: usize = 4000;
const MAXIMUM_LAYERS: usize = 500;
const MAXIMUM_NOTES: usize = 50;

/// All that the page shows.
#[derive(Serialize)]
pub(super) struct Page {
    title: String,
    about: String,
    facts: Vec<Fact>,
    sections: Vec<Section>,
    position: String,
    spans: Vec<Row>,
    stream: String,
    streams: Vec<StreamRow>,
    /// Empty where no layer is known.
    heat: String,
    scatter: String,
    legend: Vec<&'static str>,
    worst: Vec<Tensor>,
    tensors: List<Tensor>,
    notes: List<String>,
}

/// A run of positions.
#[derive(Serialize)]
struct Row {
    positions: String,
    tokens: u64,
    mean: String,
    p90: String,
}

/// The residual stream behind a layer.
#[derive(Serialize)]
struct StreamRow {
    layer: u32,
    off: String,
    worst: String,
    length: String,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    class: &'static str,
    form: String,
    bits: f64,
    bytes: u64,
    sqnr: String,
    error: String,
}

impl Page {
    pub(super) fn of(found: &Comparison) -> Self {
        let worst: Vec<Tensor> = found.worst().into_iter().map(tensor).collect();
        let sections = [
            (true, "position", "Divergence by position", None),
            (!found.layers.is_empty(), "stream", "Errors by layer", None),
            (!found.tensors.is_empty(), "layers", "Errors of weights", None),
            (!worst.is_empty(), "worst", "Worst weights", Some(worst.len())),
            (!found.tensors.is_empty(), "tensors", "All weights", Some(found.tensors.len())),
            (!found.notes.is_empty(), "notes", "Notes", Some(found.notes.len())),
        ];
        let sections = sections.into_iter().filter(|(there, ..)| *there);
        let mut legend: Vec<&'static str> = found.tensors.iter().map(class).collect();
        legend.sort_unstable();
        legend.dedup();
        Self {
            title: title(found),
            about: about(found),
            facts: facts(found),
            sections: sections
                .map(|(_, id, title, number)| Section { id, title, number })
                .collect(),
            position: position(&found.by_position),
            spans: found.by_position.iter().map(row).collect(),
            stream: stream(&found.layers),
            streams: found.layers.iter().map(stream_row).collect(),
            heat: heat(&found.tensors),
            scatter: scatter(&found.tensors),
            legend,
            worst,
            tensors: List::of(found.tensors.iter().map(tensor), MAXIMUM_TENSORS),
            notes: List::of(found.notes.iter().cloned(), MAXIMUM_NOTES),
        }
    }
}

/// The name of the conversion's folder.
fn title(found: &Comparison) -> String {
    let folder = Path::new(&found.meta).parent().and_then(Path::file_name);
    folder.map_or_else(|| found.meta.clone(), |name| name.to_string_lossy().into_owned())
}

fn about(found: &Comparison) -> String {
    let text = match found.text.as_str() {
        "built-in" => "the built-in text that no calibration uses",
        file => file,
    };
    format!(
        "Compared with {} on {} tokens of {text}, in {} windows of up to {}.",
        found.model, found.scored, found.windows, found.window_tokens
    )
}

fn facts(found: &Comparison) -> Vec<Fact> {
    let apart = &found.distributions;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut facts = Vec::new();
    let mut fact = |title, value, note| facts.push(Fact { title, value, note });
    fact("KL", nats(apart.kl_mean), format!("99 % of tokens below {}", nats(apart.kl_p99)));
    let note = format!("among the five likeliest: {}", percent(apart.top5_agreement));
    fact("Same word", percent(apart.top1_agreement), note);
    let note = format!("original {:.2}", found.original.perplexity);
    fact("Perplexity", format!("{:.2}", found.conversion.perplexity), note);
    fact("Lost", nats(found.nats_per_word), "nats a word".to_owned());
    let bytes: u64 = found.tensors.iter().map(|tensor| tensor.bytes).sum();
    let elements: u64 =
        found.tensors.iter().map(|one| one.shape[0].saturating_mul(one.shape[1])).sum();
    if elements > 0 {
        let bits = 8.0 * bytes as f64 / elements as f64;
        fact("Matrices", size(bytes), format!("{bits:.2} bits a weight"));
    }
    let broken = found.conversion.not_finite + found.original.not_finite;
    if broken > 0 {
        fact(
            "Not finite",
            broken.to_string(),
            "tokens with infinite or undefined logits".to_owned(),
        );
    }
    facts
}

/// A divergence in nats.
pub(crate) fn nats(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "unknown".to_owned(),
        0.0 => "0".to_owned(),
        0.0..0.001 => format!("{value:.1e}"),
        _ => format!("{value:.3}"),
    }
}

fn row(span: &Span) -> Row {
    Row {
        positions: match span.end - span.first {
            1 => span.first.to_string(),
            _ => format!("{} to {}", span.first, span.end - 1),
        },
        tokens: span.tokens,
        mean: nats(span.mean),
        p90: nats(span.p90),
    }
}

fn position(spans: &[Span]) -> String {
    let middle = |span: &Span| f64::midpoint(span.first as f64, span.end as f64 - 1.0);
    let x = Axis::new("position in the window", Scale::Linear, spans.iter().map(middle));
    let values = spans.iter().flat_map(|span| [span.mean, span.p90]);
    let y = Axis::new("KL in nats", Scale::Linear, values);
    let largest = spans.iter().filter(|span| span.mean.is_finite());
    let largest = largest.max_by(|a, b| a.mean.total_cmp(&b.mean));
    let description = largest.map_or_else(String::new, |span| {
        format!(
            "The mean of {} runs of positions; the largest, {}, is from position {} on.",
            spans.len(),
            nats(span.mean),
            span.first
        )
    });
    let title = "Mean divergence and what 90 % of the tokens stay below, by position";
    let mut plot = Plot::new("by-position", title, &description, x, y);
    plot.line("s0 soft", spans.iter().map(|span| (middle(span), span.p90)));
    plot.line("s0", spans.iter().map(|span| (middle(span), span.mean)));
    for span in spans {
        let row = row(span);
        let told = format!("{}: mean {}, 90 % below {}", row.positions, row.mean, row.p90);
        plot.mark("s0", (middle(span), span.mean), &told);
    }
    plot.svg()
}

fn stream_row(layer: &LayerError) -> StreamRow {
    StreamRow {
        layer: layer.layer,
        off: percent(layer.relative_l2),
        worst: format!("{} (token {})", percent(layer.token_max), layer.token),
        length: percent(layer.norm_ratio),
    }
}

fn stream(layers: &[LayerError]) -> String {
    let x = Axis::new("layer", Scale::Linear, layers.iter().map(|one| f64::from(one.layer)));
    let values = layers.iter().flat_map(|one| [one.relative_l2, one.token_max]);
    let y = Axis::new("off by, in %", Scale::Linear, values.map(|value| 100.0 * value));
    let description = worst_layer(layers).map_or_else(String::new, |worst| {
        format!("The worst: {} behind layer {}.", percent(worst.relative_l2), worst.layer)
    });
    let title = "How far the residual stream is off behind each layer";
    let mut plot = Plot::new("stream-by-layer", title, &description, x, y);
    let points = |value: fn(&LayerError) -> f64| {
        layers.iter().map(move |one| (f64::from(one.layer), 100.0 * value(one)))
    };
    plot.line("s0 soft", points(|one| one.token_max));
    plot.line("s0", points(|one| one.relative_l2));
    for one in layers {
        let told = format!("layer {}: {}", one.layer, percent(one.relative_l2));
        plot.mark("s0", (f64::from(one.layer), 100.0 * one.relative_l2), &told);
    }
    plot.svg()
}

/// The kind of a role, without what it is a part of.
fn kind(role: &str) -> &str {
    role.rsplit('.').next().unwrap_or(role)
}

fn heat(tensors: &[TensorError]) -> String {
    let of_layers = || {
        let known = tensors.iter().filter_map(|one| Some((one.layer? as usize, one)));
        known.filter(|(layer, _)| *layer < MAXIMUM_LAYERS)
    };
    let Some(last) = of_layers().map(|(layer, _)| layer).max() else { return String::new() };
    let mut rows: Vec<String> = Vec::new();
    let mut cells = Vec::new();
    for (layer, one) in of_layers() {
        let name = kind(&one.role);
        let row = rows.iter().position(|row| row == name).unwrap_or_else(|| {
            rows.push(name.to_owned());
            rows.len() - 1
        });
        let value = one.output_error.unwrap_or(f64::NAN);
        let title = format!("layer {layer}, {}: output error {}", one.role, percent(value));
        cells.push(Cell { column: layer, row, value, title });
    }
    let worst = cells.iter().filter(|cell| cell.value.is_finite());
    let worst = worst.max_by(|a, b| a.value.total_cmp(&b.value));
    let description = worst.map_or_else(
        || "No error is known.".to_owned(),
        |cell| format!("The largest: {}.", cell.title),
    );
    HeatMap {
        id: "by-layer",
        title: "Output error of each matrix, by layer and kind",
        description: &description,
        rows,
        columns: (0..=last).map(|layer| layer.to_string()).collect(),
        column_title: "layer",
        cells,
        name: percent,
    }
    .svg()
}

fn scatter(tensors: &[TensorError]) -> String {
    let megabytes = |one: &TensorError| one.bytes as f64 / 1e6;
    let error = |one: &TensorError| 100.0 * one.output_error.unwrap_or(f64::NAN);
    let x = Axis::new("size in MB", Scale::Logarithmic, tensors.iter().map(megabytes));
    let y = Axis::new("output error in %", Scale::Logarithmic, tensors.iter().map(error));
    let title = "Size and output error of each matrix";
    let description = "A mark for each matrix; the table below has the same numbers.";
    let mut plot = Plot::new("by-size", title, description, x, y);
    for one in tensors {
        let told = format!(
            "{}: {}, output error {}",
            one.tensor,
            size(one.bytes),
            percent(error(one) / 100.0)
        );
        plot.mark(class(one), (megabytes(one), error(one)), &told);
    }
    plot.svg()
}

fn class(one: &TensorError) -> &'static str {
    match one.role.split('.').next() {
        Some("attention") => "attention",
        Some("mlp") => "mlp",
        Some("embedding") => "embedding",
        Some("head") => "head",
        _ => "other",
    }
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    let value = 100.0 * share;
    match value.abs() {
        _ if !value.is_finite() => "unknown".to_owned(),
        0.0 => "0 %".to_owned(),
        0.0..0.01 => format!("{value:.1e} %"),
        0.01..1.0 => format!("{value:.2} %"),
        _ => format!("{value:.1} %"),
    }
}

fn tensor(one: &TensorError) -> Tensor {
    Tensor {
        name: one.tensor.clone(),
        class: class(one),
        form: one.form.clone(),
        bits: one.bits(),
        bytes: one.bytes,
        sqnr: one.sqnr_db.map_or_else(|| "exact".to_owned(), |sqnr| format!("{sqnr:.1}")),
        error: one.output_error.map_or_else(|| "unknown".to_owned(), percent),
    }
}
