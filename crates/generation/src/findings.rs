//! What runs of a model found of its range: weights and values that 16-bit floats cannot hold.

use crate::evaluation::Evaluation;
use crate::peaks::{LIMIT, Peak};
use crate::streams::{LayerError, summary};
use anemll_terminal::{self as terminal, Column, Table};
use serde::Serialize;
use std::collections::BTreeMap;

/// Schema of the JSON.
const SCHEMA: u32 = 1;

/// A weight that does not fit into float16.
#[derive(Debug, Serialize)]
pub struct WeightFinding {
    /// Its name in the weight files.
    pub tensor: String,
    /// Values beyond ±65504, which were clamped for the runs.
    pub clamped: u64,
}

/// What a model's values reach over some tokens; serialized as docs/reference has it.
#[derive(Debug, Serialize)]
pub struct Findings {
    schema: u32,
    /// Tokens that were run.
    tokens: u64,
    limit: f32,
    /// Weights beyond float16.
    weights: Vec<WeightFinding>,
    /// The largest value of each layer.
    layers: Vec<Peak>,
    /// All values beyond the range or near it, largest first.
    values: Vec<Peak>,
    /// Positions whose logits are not all numbers when activations are rounded to float16.
    broken_positions: u64,
    /// The rounded run against the other.
    rounding: Rounding,
    /// The residual stream of the rounded run against that of the other, behind each layer.
    stream: Vec<LayerError>,
}

/// How far float16 is from f32.
#[derive(Debug, Serialize)]
struct Rounding {
    cosine_min: f64,
    kl_mean: f64,
    top1_agreement: f64,
    max_abs_error: f64,
}

impl Findings {
    /// What was found over all tokens.
    pub fn new(
        mut values: Vec<Peak>,
        weights: Vec<WeightFinding>,
        tokens: u64,
        broken_positions: u64,
        evaluation: &Evaluation,
    ) -> Self {
        let mut layers: BTreeMap<Option<u32>, Peak> = BTreeMap::new();
        for peak in &values {
            match layers.get_mut(&peak.layer) {
                Some(known) if known.not_finite == 0 && peak.is_larger(known) => {
                    *known = peak.clone();
                }
                Some(_) => {}
                None => {
                    layers.insert(peak.layer, peak.clone());
                }
            }
        }
        values.retain(|peak| peak.range != "within");
        values.sort_by(|left, right| right.peak.abs().total_cmp(&left.peak.abs()));
        Self {
            schema: SCHEMA,
            tokens,
            limit: LIMIT,
            weights,
            layers: layers.into_values().collect(),
            values,
            broken_positions,
            rounding: Rounding {
                cosine_min: evaluation.cosine_min,
                kl_mean: evaluation.kl_mean,
                top1_agreement: evaluation.top1_agreement,
                max_abs_error: evaluation.max_abs_error,
            },
            stream: Vec::new(),
        }
    }

    /// With how far rounding moves the residual stream behind each layer.
    pub fn with_stream(mut self, stream: Vec<LayerError>) -> Self {
        self.stream = stream;
        self
    }

    /// How much there is that 16-bit floats cannot hold: weights, values, and logits without numbers.
    pub fn beyond(&self) -> u64 {
        let values = self.values.iter().filter(|peak| peak.range == "beyond").count();
        (self.weights.len() + values) as u64 + u64::from(self.broken_positions > 0)
    }

    /// A table for people, for lines of so many columns.
    pub fn text(&self, width: Option<usize>) -> String {
        let mut text = String::new();
        for weight in &self.weights {
            let line = format!(
                "weight beyond float16: {} values of `{}` (clamped for this run)",
                weight.clamped, weight.tensor
            );
            text += &terminal::wrapped(line.split(' '), " ", 0, width);
        }
        text += &terminal::wrapped(
            format!(
                "largest activations over {} tokens, computed in float32; of the layers within the \
                 range, the one with the largest:",
                self.tokens
            )
            .split(' '),
            " ",
            0,
            width,
        );
        let columns = [
            Column::Left,
            Column::Right,
            Column::Left,
            Column::Right,
            Column::Right,
            Column::Left,
            Column::Flexible,
        ];
        let head = ["LAYER", "LARGEST", "RANGE", "TOKEN", "MORE", "OPERATION", "VALUE"];
        let mut table = Table::new(&columns).with_head(&head).leaving_out(&[5, 4]);
        for peak in self.layers.iter().filter(|peak| peak.range != "within") {
            let same = self.values.iter().filter(|value| value.layer == peak.layer).count();
            table.row(cells(peak, same.saturating_sub(1)));
        }
        let rest = self.layers.iter().filter(|peak| peak.range == "within");
        if let Some(peak) = rest.max_by(|a, b| a.peak.abs().total_cmp(&b.peak.abs())) {
            table.row(cells(peak, 0));
        }
        text += &table.render(width);
        let more = if self.values.is_empty() {
            "no value is beyond the range of float16, or near it"
        } else {
            "MORE: further values of the layer that are beyond float16 or near it; --json lists them"
        };
        text += &terminal::wrapped(more.split(' '), " ", 0, width);
        let rounding = format!(
            "float16 against float32: mean KL {:.3e}, top-1 agreement {:.2} %, smallest cosine {:.7}",
            self.rounding.kl_mean,
            100.0 * self.rounding.top1_agreement,
            self.rounding.cosine_min
        );
        text += &terminal::wrapped(rounding.split(' '), " ", 0, width);
        if let Some(line) = summary(&self.stream) {
            text += &terminal::wrapped(line.split(' '), " ", 0, width);
        }
        if self.broken_positions > 0 {
            text += &format!(
                "at {} of {} tokens the logits are not all numbers\n",
                self.broken_positions, self.tokens
            );
        }
        text
    }
}

/// A line of the table.
fn cells(peak: &Peak, more: usize) -> [String; 7] {
    [
        peak.layer.map_or_else(|| "none".to_owned(), |layer| layer.to_string()),
        peak.peak.to_string(),
        match peak.range {
            "beyond" => "beyond 65504",
            "near" => "near 65504",
            other => other,
        }
        .to_owned(),
        peak.position.map_or_else(String::new, |position| position.to_string()),
        if more > 0 { more.to_string() } else { String::new() },
        peak.operation.clone(),
        peak.value.clone(),
    ]
}
