//! What a comparison of a conversion with its original model came to.

use anemll_generation::distance::{Span, Summary};
use anemll_generation::perplexity::Score;
use anemll_generation::streams::LayerError;
use serde::Serialize;
use std::cmp::Ordering;

/// Tensors that are named as the worst.
const WORST: usize = 10;

/// A conversion beside its original model, on a text. The JSON form is described in
/// docs/reference/eval.md; what is no number is null there.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Version of this form.
    pub schema: u32,
    /// meta.yaml of the conversion.
    pub meta: String,
    /// Directory of the original.
    pub model: String,
    /// The text: a file, or `built-in`.
    pub text: String,
    /// Tokens of the text.
    pub tokens: u64,
    /// Words of the text: what stands between white space.
    pub words: u64,
    /// Windows that it was cut into.
    pub windows: u64,
    /// Largest number of tokens of a window.
    pub window_tokens: u64,
    /// Tokens that were scored: all of a window but the first.
    pub scored: u64,
    /// How well the conversion predicts the text.
    pub conversion: Score,
    /// How well the original does.
    pub original: Score,
    /// How far their distributions are apart.
    #[serde(flatten)]
    pub distributions: Summary,
    /// What the conversion loses for each word, in nats: the difference of the mean negative
    /// log-likelihoods, times tokens for each word.
    pub nats_per_word: f64,
    /// The divergence by position in a window.
    pub by_position: Vec<Span>,
    /// How far the residual stream behind each layer is from the original's; nothing where it cannot be
    /// seen, as in an export.
    pub layers: Vec<LayerError>,
    /// Every matrix, in the order in which the model uses them.
    pub tensors: Vec<TensorError>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
}

/// How far a stored matrix is from that of the original.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorError {
    /// Name in the model's files.
    pub tensor: String,
    /// What it is to the model, such as `mlp.down`.
    pub role: String,
    /// The layer that it is in, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// Rows and columns of all its pieces.
    pub shape: [u64; 2],
    /// How it is stored: `16-bit`, or such as `4-bit palettized`.
    pub form: String,
    /// Bytes in weight files.
    pub bytes: u64,
    /// Signal to quantization noise: 10 log10 of the sum of the original's squares over the sum of the
    /// differences' squares, in dB; none where nothing differs.
    pub sqnr_db: Option<f64>,
    /// Root of the mean square of what the differences make of the inputs, as a share of the same of
    /// the original's products; none where the inputs are not known.
    pub output_error: Option<f64>,
}

impl TensorError {
    /// Bits for each element.
    pub fn bits(&self) -> f64 {
        let elements = self.shape[0].saturating_mul(self.shape[1]).max(1);
        8.0 * self.bytes as f64 / elements as f64
    }

    /// The worse one first: by the error of what comes out, then by that of the elements.
    fn worse(&self, other: &Self) -> Ordering {
        let order = |one: Option<f64>, other: Option<f64>, least: f64| {
            other.unwrap_or(least).total_cmp(&one.unwrap_or(least))
        };
        order(self.output_error, other.output_error, -1.0).then(order(
            other.sqnr_db,
            self.sqnr_db,
            f64::INFINITY,
        ))
    }
}

impl Comparison {
    /// The version that is written.
    pub const SCHEMA: u32 = 1;

    /// The worst ten tensors, the worst first; what is as in the original is none of them.
    pub fn worst(&self) -> Vec<&TensorError> {
        let differs = |one: &&TensorError| one.sqnr_db.is_some();
        let mut worst: Vec<&TensorError> = self.tensors.iter().filter(differs).collect();
        worst.sort_by(|one, other| one.worse(other));
        worst.truncate(WORST);
        worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first_and_the_equal_not_at_all() {
        let tensor = |name: &str, sqnr_db, output_error| TensorError {
            tensor: name.to_owned(),
            role: "mlp.up".to_owned(),
            layer: None,
            shape: [4, 2],
            form: String::new(),
            bytes: 4,
            sqnr_db,
            output_error,
        };
        let score = Score { nll_mean: 1.0, perplexity: 2.7, not_finite: 0 };
        let comparison = Comparison {
            schema: Comparison::SCHEMA,
            meta: String::new(),
            model: String::new(),
            text: String::new(),
            tokens: 0,
            words: 0,
            windows: 0,
            window_tokens: 0,
            scored: 0,
            conversion: score,
            original: score,
            distributions: Summary::of(&[]),
            nats_per_word: 0.0,
            by_position: Vec::new(),
            layers: Vec::new(),
            tensors: vec![
                tensor("good", Some(40.0), Some(0.01)),
                tensor("same", None, Some(0.0)),
                tensor("unknown", Some(10.0), None),
                tensor("bad", Some(20.0), Some(0.1)),
                tensor("less known", Some(30.0), None),
            ],
            notes: Vec::new(),
        };
        let names: Vec<&str> = comparison.worst().iter().map(|one| &*one.tensor).collect();
        assert_eq!(names, ["bad", "good", "unknown", "less known"]);
        assert_eq!(comparison.tensors[0].bits(), 4.0);
        assert!(serde_json::to_value(&comparison).unwrap()["kl_mean"].is_null());
    }
}
