//! What the Neural Engine would not like about a program.
//!
//! One function per rule, one table of them ([`RULES`]). Rule ids and thresholds come from published
//! measurements and Apple's documents; a finding's evidence says which. Findings never make a
//! program invalid. Operands of constexpr operations and tables of `gather` are exempt from the
//! rules about shapes: they are not tensors that the engine computes with.

mod limits;
mod numbers;
mod placement;
mod rewrites;
mod rules;
mod shapes;
mod states;
mod view;
mod weights;

pub use limits::{CHUNK_BYTES, LAYERS_PER_FUNCTION, weight_file_limit};
pub use rules::{RULES, rule};

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
    /// Rule, such as `ANE-041`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Whom it concerns.
    pub concern: Concern,
    /// Function; empty for a finding about the whole model.
    pub function: String,
    /// Value or operation; empty for a finding about the whole function.
    pub place: String,
    /// What is wrong and what happens. Equal at all places with the same cause.
    pub reason: String,
    /// M measured, A stated by Apple, F folklore, I inference; several letters are several kinds.
    pub evidence: &'static str,
}

/// Who can do something about a finding in a package that `anemll convert` made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The graph that is always written; it is accepted, and the text says why.
    Graph(&'static str),
    /// The model: its sizes are what they are.
    Model,
    /// The user, by the options that are named.
    Options(&'static str),
    /// The tool that made the package: no conversion gives such a program.
    Foreign,
}

impl Concern {
    /// `graph`, `model`, `options` or `foreign`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Graph(_) => "graph",
            Self::Model => "model",
            Self::Options(_) => "options",
            Self::Foreign => "foreign",
        }
    }
}

/// One way to break a rule.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// How bad it is.
    pub severity: Severity,
    /// When it is so.
    pub when: &'static str,
    /// Whom it concerns.
    pub concern: Concern,
}

/// A rule: all that is known of it, and the check.
pub struct Rule {
    /// Id, such as `ANE-041`.
    pub id: &'static str,
    /// What the rule demands, in one line.
    pub title: &'static str,
    /// The ways to break it; the only place where severities stand.
    pub cases: &'static [Case],
    /// What happens, and why.
    pub reason: &'static str,
    /// Kinds of evidence: M measured, A stated by Apple, F folklore, I inference.
    pub evidence: &'static str,
    /// Who says so, of which chips and systems.
    pub sources: &'static str,
    /// What to do.
    pub remedy: &'static str,
    check: Check,
}

enum Check {
    Function(fn(&FunctionView<'_>, &LintOptions, &mut Report)),
    Model(fn(&[FunctionView<'_>], &LintOptions, &mut Report)),
}

/// Collects what one rule finds.
struct Report {
    rule: &'static Rule,
    function: String,
    findings: Vec<Finding>,
}

impl Report {
    /// A place where the rule is broken in its first way.
    fn add(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.add_case(0, place, reason);
    }

    /// A place where the rule is broken in its way number `case`, from 0.
    fn add_case(&mut self, case: usize, place: impl Into<String>, reason: impl Into<String>) {
        self.add_with(case, place, reason, self.rule.evidence);
    }

    fn add_with(
        &mut self,
        case: usize,
        place: impl Into<String>,
        reason: impl Into<String>,
        evidence: &'static str,
    ) {
        let Case { severity, concern, .. } = self.rule.cases[case];
        self.findings.push(Finding {
            rule: self.rule.id,
            severity,
            concern,
            function: self.function.clone(),
            place: place.into(),
            reason: reason.into(),
            evidence,
        });
    }
}

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
        let mut report = Report { rule, function: String::new(), findings: Vec::new() };
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
