//! How much of the built-in text a conversion's own calibration takes.

use anemll_calibration::built_in_sha256;

/// Tokens of the built-in text: fewer for a model that takes long to run.
pub(crate) fn tokens(parameters: u64) -> u64 {
    match parameters {
        0..1_000_000_000 => 8192,
        1_000_000_000..2_000_000_000 => 4096,
        2_000_000_000..5_000_000_000 => 2048,
        _ => 1024,
    }
}

/// What a conversion's own calibration is, beside the model: the same makes the same packages.
pub(crate) fn identity(parameters: u64) -> String {
    format!("{} tokens of {}", tokens(parameters), &built_in_sha256()[..16])
}
