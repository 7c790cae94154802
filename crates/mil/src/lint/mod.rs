//! What the Neural Engine would not like about a program.
//!
//! One function per rule, one list of them ([`RULES`]). Rule ids and thresholds come from published
//! measurements and Apple's documents; a finding's evidence says which. Findings never make a
//! program invalid. Operands of constexpr operations and tables of `gather` are exempt from the
//! rules about shapes: they are not tensors that the engine computes with.

mod numbers;
mod placement;
mod rewrites;
mod shapes;
mod states;
mod view;
mod weights;

use coreml_proto::Model;
use view::FunctionView;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Note,
    /// Costs speed.
    Performance,
    /// An operation leaves the Neural Engine.
    Warning,
    /// The model may not load, or may give wrong numbers.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Rule, such as `A-041`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Function; empty for a finding about the whole model.
    pub function: String,
    /// Value or operation; empty for a finding about the whole function.
    pub place: String,
    /// What is wrong and what happens. Equal at all places with the same cause.
    pub reason: String,
    /// M measured, A stated by Apple, F folklore, I inference; several letters are several kinds.
    pub evidence: &'static str,
}

/// A rule: its id, its evidence, and the check.
pub struct Rule {
    /// Id, such as `A-041`.
    pub id: &'static str,
    /// Evidence where the check names none of its own.
    pub evidence: &'static str,
    /// What the rule demands, in one line.
    pub title: &'static str,
    check: Check,
}

enum Check {
    Function(fn(&FunctionView<'_>, &LintOptions, &mut Report)),
    Model(fn(&[FunctionView<'_>], &LintOptions, &mut Report)),
}

/// Collects what one rule finds.
struct Report {
    rule: &'static str,
    evidence: &'static str,
    function: String,
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, severity: Severity, place: impl Into<String>, reason: impl Into<String>) {
        self.add_with(severity, place, reason, self.evidence);
    }

    fn add_with(
        &mut self,
        severity: Severity,
        place: impl Into<String>,
        reason: impl Into<String>,
        evidence: &'static str,
    ) {
        self.findings.push(Finding {
            rule: self.rule,
            severity,
            function: self.function.clone(),
            place: place.into(),
            reason: reason.into(),
            evidence,
        });
    }
}

const fn function(
    id: &'static str,
    evidence: &'static str,
    title: &'static str,
    check: fn(&FunctionView<'_>, &LintOptions, &mut Report),
) -> Rule {
    Rule { id, evidence, title, check: Check::Function(check) }
}

const fn model(
    id: &'static str,
    evidence: &'static str,
    title: &'static str,
    check: fn(&[FunctionView<'_>], &LintOptions, &mut Report),
) -> Rule {
    Rule { id, evidence, title, check: Check::Model(check) }
}

/// All rules, by id.
pub const RULES: &[Rule] = &[
    function("A-001", "AM", "tensors have rank 5 at most", shapes::rank),
    function("A-003", "AM", "last axes of inputs and outputs are aligned", shapes::alignment),
    function("A-005", "M", "axes stay below the chip's limit", shapes::axis_limit),
    function("A-007", "M", "inner sizes of products stay below the limit", shapes::inner_size),
    function("A-010", "AM", "shapes are static", shapes::static_shapes),
    function("A-013", "M", "tensors do not end in an axis of size 1", shapes::singleton_width),
    function("A-014", "I", "attention scores do not end in an axis of size 1", shapes::scores),
    function("A-015", "AM", "floating point is fp16", placement::half_precision),
    function("A-016", "M", "no switches away from the Neural Engine", placement::islands),
    function("A-017", "M", "no int32 arithmetic", placement::integer_arithmetic),
    function("A-020", "M", "no casts between fp16 and integers", placement::casts),
    function("A-025", "M", "no operations that only the CPU has", placement::denied),
    function("A-027", "M", "slice_update belongs to a state", states::standalone_update),
    function("A-028", "AM", "cached keys and values are not repeated", rewrites::repeated_cache),
    function("A-036", "AI", "the attention scale is folded into weights", rewrites::scale),
    function("A-040", "M", "states have rank 4", states::rank),
    function("A-041", "M", "a state's last axis is a multiple of 32", states::last_axis),
    function("A-042", "A", "states are updated in the canonical form", states::canonical),
    function("A-043", "M", "nothing stands between read_state and slice_update", states::direct),
    function("A-045", "A", "states are fp16", states::data_type),
    function("A-046", "M", "a function has one state", states::count),
    function("A-047", "M", "at most 64 tokens are written at once", states::tokens),
    function("A-053", "AM", "norms do not square raw fp16 values", numbers::squared_norm),
    function("A-055", "AM", "masks are finite", numbers::masks),
    function("A-060", "AM", "lookup tables have a form that every chip runs", weights::lut_form),
    function("A-061", "AM", "lookup tables serve 8 output channels or more", weights::lut_groups),
    function("A-062", "M", "lookup tables are grouped along output channels", weights::lut_axis),
    function("A-063", "MA", "linear scales are per output channel", weights::blockwise),
    function("A-066", "MA", "no scale is wrapped around a lookup table", weights::wrapped),
    function("A-068", "A", "no layer is left uncompressed by accident", weights::skipped),
    model("A-071", "MA", "weight files stay below the limits", weights::file_size),
    function("A-080", "M", "a function has 16 layers at most", placement::layers),
    model("A-081", "M", "weights are cut in as few chunks as the limits allow", weights::chunks),
    model("A-085", "AM", "functions share equal weights", weights::shared),
    model("A-086", "A", "functions declare equal states", states::equal),
    function("A-094", "MI", "constants fit fp16", numbers::constants),
    function("A-096", "A", "rotary tables are inputs", rewrites::tables),
    function("A-099", "M", "weights per core stay clear of 1 MiB multiples", weights::notch),
];

/// All findings for the oldest supported chips, by rule, then function. Never fails: what cannot be
/// read gives no finding.
pub fn lint(model: &Model, weight_file_bytes: u64) -> Vec<Finding> {
    lint_with(model, &LintOptions { weight_file_bytes, ..LintOptions::default() })
}

/// As [`lint`], for chosen chips.
pub fn lint_with(model: &Model, options: &LintOptions) -> Vec<Finding> {
    let functions = view::functions(model);
    let mut findings = Vec::new();
    for rule in RULES {
        let mut report = Report {
            rule: rule.id,
            evidence: rule.evidence,
            function: String::new(),
            findings: Vec::new(),
        };
        match rule.check {
            Check::Model(check) => check(&functions, options, &mut report),
            Check::Function(check) => {
                for function in &functions {
                    function.name.clone_into(&mut report.function);
                    check(function, options, &mut report);
                }
            }
        }
        findings.append(&mut report.findings);
    }
    findings
}

#[cfg(test)]
mod tests;
