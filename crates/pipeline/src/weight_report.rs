//! What the report says of each weight.

use anemll_plugin_api::data::EncodingError;
use serde::{Deserialize, Serialize};

/// What the report says of one weight.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WeightReport {
    /// Name in the safetensors files.
    pub(super) tensor: String,
    /// What it is to the model, such as `mlp.down`.
    pub(super) role: String,
    /// Shape in the package.
    pub(super) shape: Vec<u64>,
    /// Operation that carries it: `const`, or the constexpr operation of the quantizer.
    pub(super) operation: String,
    /// Bytes in weight.bin.
    pub(super) bytes: u64,
    /// Functions that share the record.
    pub(super) functions: Vec<String>,
    /// Values clamped to the range of 16-bit floats (with `--clamp`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) clamped: u64,
    /// Non-zero values that became zero as 16-bit floats.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) underflowed: u64,
    /// Values below 2^-14 as 16-bit floats, which keep fewer digits, and which some hardware takes as
    /// zero.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) subnormal: u64,
    /// Whether the source lacks it, so that it is all zeros (with `--allow-missing-weights`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) missing: bool,
    /// Remark of the quantizer's plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    /// Error of the encoding, as the quantizer measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) encoding_error: Option<EncodingError>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Share of a weight's values that may become zero without a remark.
const FEW_ZEROS: f64 = 0.001;
/// Share of a weight's values that may be subnormal without a remark: of normally distributed
/// weights with the small deviation of 0.001 there are 5 %.
const FEW_SUBNORMAL: f64 = 0.1;
/// Most weights that remarks name.
const NAMED: usize = 5;

impl WeightReport {
    /// A remark where much of the weight vanishes in 16-bit floats.
    fn vanishing(&self) -> Option<String> {
        let elements: u64 = self.shape.iter().product();
        let share = |count: u64| count as f64 / elements.max(1) as f64;
        let (what, count) = if share(self.underflowed) > FEW_ZEROS {
            ("become zero", self.underflowed)
        } else if share(self.subnormal) > FEW_SUBNORMAL {
            ("are subnormal", self.subnormal)
        } else {
            return None;
        };
        let percent = 100.0 * share(count);
        Some(format!(
            "{count} values of `{}` ({percent:.1} %) {what} as 16-bit floats",
            self.tensor
        ))
    }
}

/// Remarks on the weights that vanish in 16-bit floats; the report has the counts of all.
pub(super) fn vanishing(weights: &[WeightReport]) -> Vec<String> {
    let mut remarks: Vec<String> = weights.iter().filter_map(WeightReport::vanishing).collect();
    // Pieces of one tensor have the same line where nothing but zeros is lost.
    remarks.dedup();
    let more = remarks.len().saturating_sub(NAMED);
    remarks.truncate(NAMED);
    if more > 0 {
        remarks.push(format!("and {more} more weights lose values so; see the report"));
    }
    remarks
}
