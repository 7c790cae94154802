//! What the lint finds, and the same gathered by cause.

use super::open::Opened;
use anemll_mil::{Concern, Severity};
use anemll_terminal as terminal;
use coreml_proto::Model;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write as _;

/// A place of a program that breaks a rule.
#[derive(Debug, Serialize)]
pub struct FindingInspection {
    /// Rule, such as `ANE-041`.
    pub rule: &'static str,
    /// `error`, `warning`, `performance` or `note`.
    pub severity: &'static str,
    /// Function; empty for a finding about the whole model.
    pub function: String,
    /// Value or operation; empty for a finding about the whole function.
    pub place: String,
    /// What is wrong and what happens.
    pub reason: String,
    /// M measured, A stated by Apple, F folklore, I inference.
    pub evidence: &'static str,
    /// Whom it concerns: `graph`, `model`, `options` or `foreign`.
    pub concern: &'static str,
    /// The options of `anemll convert` that change it, in a package that it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<&'static str>,
    /// Why it is accepted, in a package of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<&'static str>,
    #[serde(skip)]
    order: Severity,
}

impl FindingInspection {
    /// Whether it is an error or a warning that is not accepted.
    pub fn is_grave(&self) -> bool {
        self.order >= Severity::Warning && self.accepted.is_none()
    }
}

/// All places with one cause.
#[derive(Debug)]
pub struct Cause<'a> {
    /// The first of them.
    pub first: &'a FindingInspection,
    /// Function and place of each.
    pub places: Vec<(&'a str, &'a str)>,
}

/// Findings of a model, the worst first; of one function and of the whole model, if it is named.
pub fn of(opened: &Opened, function: Option<&str>) -> Vec<FindingInspection> {
    let findings = anemll_mil::lint(opened.model(), opened.weight_bytes());
    let ours = is_ours(opened.model());
    let mut found: Vec<FindingInspection> = findings
        .into_iter()
        .filter(|finding| {
            function.is_none_or(|name| finding.function.is_empty() || finding.function == name)
        })
        .map(|finding| FindingInspection {
            rule: finding.rule,
            severity: finding.severity.name(),
            function: finding.function,
            place: finding.place,
            reason: finding.reason,
            evidence: finding.evidence,
            concern: finding.concern.name(),
            flag: match finding.concern {
                Concern::Options(flag) if ours => Some(flag),
                _ => None,
            },
            accepted: match finding.concern {
                Concern::Graph(reason) if ours => Some(reason),
                _ => None,
            },
            order: finding.severity,
        })
        .collect();
    found.sort_by_key(|finding| Reverse(finding.order));
    found
}

/// Whether `anemll convert` made the model: it names itself as the author.
fn is_ours(model: &Model) -> bool {
    let metadata = model.description.as_ref().and_then(|found| found.metadata.as_ref());
    metadata.is_some_and(|metadata| metadata.author == "anemll")
}

/// Findings of equal rule, severity and reason together, in the order of the first of each.
pub fn causes(findings: &[FindingInspection]) -> Vec<Cause<'_>> {
    let mut causes: Vec<Cause<'_>> = Vec::new();
    let mut places: HashMap<(&str, &str, &str), usize> = HashMap::new();
    for finding in findings {
        let key = (finding.rule, finding.severity, finding.reason.as_str());
        let index = *places.entry(key).or_insert_with(|| {
            causes.push(Cause { first: finding, places: Vec::new() });
            causes.len() - 1
        });
        causes[index].places.push((&finding.function, &finding.place));
    }
    causes
}

/// How many findings of each severity there are, the worst first, such as `2 warnings, 1 note`.
pub fn summary(findings: &[FindingInspection]) -> String {
    let mut parts = Vec::new();
    for (severity, one, many) in [
        (Severity::Error, "error", "errors"),
        (Severity::Warning, "warning", "warnings"),
        (Severity::Performance, "about speed", "about speed"),
        (Severity::Note, "note", "notes"),
    ] {
        let count = findings.iter().filter(|finding| finding.order == severity).count();
        if count > 0 {
            parts.push(format!("{count} {}", if count == 1 { one } else { many }));
        }
    }
    if parts.is_empty() { "nothing found".to_owned() } else { parts.join(", ") }
}

/// Findings by cause, for a terminal.
pub fn to_text(findings: &[FindingInspection], width: Option<usize>) -> String {
    if findings.is_empty() {
        return "the lint finds nothing\n".to_owned();
    }
    let mut text = String::new();
    for cause in causes(findings) {
        let first = cause.first;
        let count = cause.places.len();
        let times = if count > 1 { format!(", {count} places") } else { String::new() };
        let _ = writeln!(text, "{} {}{times}", first.rule, first.severity);
        text += &terminal::wrapped(first.reason.split(' '), " ", 2, width);
        let shown = 4;
        let mut names: Vec<String> = cause
            .places
            .iter()
            .take(shown)
            .map(|(function, place)| place_text(function, place))
            .collect();
        names.dedup();
        if count > shown {
            names.push(format!("and {} more", count - shown));
        }
        let names = names.iter().map(String::as_str).filter(|name| !name.is_empty());
        text += &terminal::wrapped(names, ", ", 4, width);
        if let Some(flag) = first.flag {
            text += &terminal::wrapped(["change it with", flag], " ", 2, width);
        } else if let Some(reason) = first.accepted {
            let reason = format!("accepted: {reason}");
            text += &terminal::wrapped(reason.split(' '), " ", 2, width);
        }
        text.push('\n');
    }
    let _ = write!(text, "{}", summary(findings));
    let accepted = findings.iter().filter(|finding| finding.accepted.is_some()).count();
    if accepted > 0 {
        let _ = write!(text, "; {accepted} accepted");
    }
    let first = findings.iter().find(|finding| finding.accepted.is_none()).unwrap_or(&findings[0]);
    let _ = writeln!(text, "\nanemll explain {} says more", first.rule);
    text
}

/// `function: place`, or the one that there is.
pub fn place_text(function: &str, place: &str) -> String {
    match (function.is_empty(), place.is_empty()) {
        (false, false) => format!("{function}: {place}"),
        _ => format!("{function}{place}"),
    }
}
