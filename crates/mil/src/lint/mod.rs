//! What the Neural Engine would not like about a program. Findings are warnings, never errors of
//! the program.

use coreml_proto::Model;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Note,
    /// Costs speed.
    Performance,
    /// An operation leaves the Neural Engine.
    Warning,
    /// The model does not load, or gives wrong numbers.
    Error,
}

impl Severity {
    /// `note`, `performance`, `warning` or `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Performance => "performance",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Oldest chips that a model is meant for; limits of sizes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChipFloor {
    /// A14 to A16 and M1 to M3: axes up to 16384.
    #[default]
    A14,
    /// A17 Pro, M4 and newer: axes up to 65536.
    A17Pro,
}

/// What a lint run supposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LintOptions {
    /// Oldest chips.
    pub floor: ChipFloor,
    /// Bytes of the weight file, 0 if not known.
    pub weight_file_bytes: u64,
}

/// One place of a program that breaks a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Rule, such as `A-041`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Function; empty for a finding about the whole model.
    pub function: String,
    /// Value or operation.
    pub place: String,
    /// What is wrong and what happens.
    pub reason: String,
    /// M measured, A stated by Apple, F folklore, I inference; two letters are both.
    pub evidence: &'static str,
}

/// All findings for the oldest supported chips, by function, then rule. Never fails: what cannot
/// be read gives no finding.
pub fn lint(model: &Model, weight_file_bytes: u64) -> Vec<Finding> {
    lint_with(model, &LintOptions { weight_file_bytes, ..LintOptions::default() })
}

/// As [`lint`], for chosen chips.
pub fn lint_with(model: &Model, options: &LintOptions) -> Vec<Finding> {
    let _ = (model, options);
    Vec::new()
}
