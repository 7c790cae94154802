//! What trying several forms of weights came to.

use serde::Serialize;

/// Size against distance from the original, for several forms of weights. The JSON form is described
/// in docs/reference/eval.md; what is no number is null there.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// Version of this form.
    pub schema: u32,
    /// Directory of the model.
    pub model: String,
    /// The part whose forms were tried: `layers`, `embeddings`, `head` or `all`. The others are 16-bit
    /// floats.
    pub part: String,
    /// The quantizer, by id.
    pub quantizer: String,
    /// The text that distances are measured on: a file, or `built-in`.
    pub text: String,
    /// Tokens of it.
    pub tokens: u64,
    /// Perplexity of the original.
    pub original_perplexity: f64,
    /// Bytes of all weights as 16-bit floats.
    pub original_bytes: u64,
    /// One for each form, in the order in which they were tried.
    pub rows: Vec<SweepRow>,
}

/// One form of weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepRow {
    /// The form as flags take it, such as `4,8` or `6,tensor`.
    pub lut: String,
    /// Bits of an index.
    pub bits: u32,
    /// The group: output channels that share a table, or a word.
    pub group: String,
    /// What makes `convert` do the same.
    pub flags: String,
    /// Bytes of all weight files.
    pub bytes: u64,
    /// Bytes of the weights of the part that got tables.
    pub part_bytes: u64,
    /// Elements of these.
    pub part_elements: u64,
    /// Mean Kullback-Leibler divergence from the original, in nats a token.
    pub kl_mean: f64,
    /// What 99 % of the tokens stay below, in nats.
    pub kl_p99: f64,
    /// Share of tokens for which both have the same winner.
    pub top1_agreement: f64,
    /// Perplexity of the conversion.
    pub perplexity: f64,
    /// Whether no other form is as small and as near.
    pub front: bool,
    /// Remarks of the quantizer, each once.
    pub notes: Vec<String>,
}

impl SweepRow {
    /// Bits for each weight that got a table, tables included.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.part_bytes as f64 / self.part_elements.max(1) as f64
    }

    /// Whether this one is as good in both and better in one.
    fn beats(&self, other: &Self) -> bool {
        self.kl_mean.is_finite()
            && (self.bytes < other.bytes || self.kl_mean < other.kl_mean)
            && self.bytes <= other.bytes
            && self.kl_mean <= other.kl_mean
    }
}

impl Sweep {
    /// The version that is written.
    pub const SCHEMA: u32 = 1;

    /// Marks the rows that no other one beats in size and distance together: Pareto's front. Rows
    /// whose distance is no number are never in it.
    pub fn mark_front(&mut self) {
        let beaten: Vec<bool> = self
            .rows
            .iter()
            .map(|row| !row.kl_mean.is_finite() || self.rows.iter().any(|other| other.beats(row)))
            .collect();
        for (row, beaten) in self.rows.iter_mut().zip(beaten) {
            row.front = !beaten;
        }
    }

    /// The rows of the front, the smallest first.
    pub fn front(&self) -> Vec<&SweepRow> {
        let mut front: Vec<&SweepRow> = self.rows.iter().filter(|row| row.front).collect();
        front.sort_by_key(|row| row.bytes);
        front
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_what_nothing_beats() {
        let row = |lut: &str, bytes, kl_mean| SweepRow {
            lut: lut.to_owned(),
            bits: 4,
            group: String::new(),
            flags: String::new(),
            bytes,
            part_bytes: 3,
            part_elements: 6,
            kl_mean,
            kl_p99: 0.0,
            top1_agreement: 1.0,
            perplexity: 1.0,
            front: false,
            notes: Vec::new(),
        };
        let mut sweep = Sweep {
            schema: Sweep::SCHEMA,
            model: String::new(),
            part: String::new(),
            quantizer: String::new(),
            text: String::new(),
            tokens: 0,
            original_perplexity: 1.0,
            original_bytes: 0,
            rows: vec![
                row("large", 30, 0.1),
                row("small", 10, 1.0),
                row("beaten", 20, 1.0),
                row("middle", 20, 0.5),
                row("broken", 5, f64::NAN),
                row("twin", 20, 0.5),
            ],
        };
        sweep.mark_front();
        let names: Vec<&str> = sweep.front().iter().map(|row| &*row.lut).collect();
        assert_eq!(names, ["small", "middle", "twin", "large"]);
        assert_eq!(sweep.rows[0].bits_per_weight(), 4.0);
    }
}
