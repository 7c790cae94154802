//! What the templates of the page show: texts and numbers, in their order and within limits.

use super::super::features::{Feature, FunctionInspection};
use super::super::report::{GuessInspection, Inspection};
use super::super::weights::{LayerInspection, Role, WeightInspection};
use super::super::{findings, open, terminal_text};
use crate::page::{Fact, List, Section};
use anemll_mil::lint::RULES;
use anemll_terminal as terminal;
use anemll_terminal::{count, size};
use serde::Serialize;
use std::cmp::Reverse;
use std::path::Path;

/// Operations of a function that stand outside the fold.
const COMMON_OPERATIONS: usize = 12;
/// Limits that no real model reaches, so that a page for a hostile one can be opened.
const MAXIMUM_FUNCTIONS: usize = 200;
const MAXIMUM_FEATURES: usize = 500;
const MAXIMUM_CAUSES: usize = 300;
const MAXIMUM_PLACES: usize = 60;
const MAXIMUM_LAYERS: usize = 2000;
const MAXIMUM_ENTRIES: usize = 500;

/// All that the page shows besides the data for its script.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    /// Name of the file or folder without its ending.
    title: String,
    kind: String,
    about: &'a str,
    facts: Vec<Fact>,
    sections: Vec<Section>,
    /// Roles and other parts of the file that have bytes.
    legend: Vec<Legend>,
    functions: List<Function<'a>>,
    layers: List<Layer<'a>>,
    /// Whether there are several functions, between which weights are shared.
    several: bool,
    weights: List<Weight<'a>>,
    /// Bytes of the weights that are not shown.
    rest: u64,
    causes: List<Cause<'a>>,
    metadata: List<(&'a str, &'a str)>,
    guesses: &'a [GuessInspection],
    files: &'a [open::Part],
}

#[derive(Serialize)]
struct Legend {
    class: &'static str,
    bytes: u64,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    default: bool,
    opset: &'a str,
    count: u64,
    ports: Vec<Ports<'a>>,
    common: Vec<Operation<'a>>,
    rest: List<Operation<'a>>,
}

#[derive(Serialize)]
struct Ports<'a> {
    kind: &'static str,
    ports: Vec<Port<'a>>,
}

#[derive(Serialize)]
struct Port<'a> {
    name: &'a str,
    about: &'a str,
    dtype: &'a str,
    shape: String,
}

#[derive(Clone, Serialize)]
struct Operation<'a> {
    name: &'a str,
    count: u64,
    /// Percent of the most frequent one.
    width: f64,
}

#[derive(Serialize)]
struct Layer<'a> {
    title: String,
    weights: u64,
    elements: u64,
    bits: f64,
    bytes: u64,
    percent: f64,
    bars: Vec<Bar<'a>>,
}

/// Where the bytes of a role begin and how many they are, in percent of the largest layer.
#[derive(Serialize)]
struct Bar<'a> {
    class: &'a str,
    from: f64,
    width: f64,
}

#[derive(Serialize)]
struct Weight<'a> {
    role: &'static str,
    name: &'a str,
    shape: String,
    form: &'a str,
    bits: f64,
    bytes: u64,
    functions: usize,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Cause<'a> {
    severity: &'static str,
    rule: &'static str,
    title: &'static str,
    evidence: String,
    reason: &'a str,
    count: usize,
    places: Vec<String>,
}

impl<'a> Page<'a> {
    /// The page of what was found, with the weights that are shown and the bytes of the others.
    pub(super) fn of(found: &'a Inspection, shown: &[&'a WeightInspection], rest: u64) -> Self {
        let causes = findings::causes(&found.findings);
        let guesses = found.guesses.as_deref().unwrap_or_default();
        Self {
            title: title(found),
            kind: format!("Core ML {}", found.form.title()),
            about: &found.short_description,
            facts: facts(found),
            sections: sections(found, causes.len(), guesses.len()),
            legend: legend(found),
            functions: List::of(
                found.functions.iter().map(|one| function(found, one)),
                MAXIMUM_FUNCTIONS,
            ),
            layers: layers(found),
            several: found.functions.len() > 1,
            weights: List {
                items: shown.iter().map(|one| weight(one)).collect(),
                left: found.weights.len() - shown.len(),
            },
            rest,
            causes: List::of(causes.iter().map(cause), MAXIMUM_CAUSES),
            metadata: metadata(found),
            guesses,
            files: &found.files,
        }
    }
}

fn title(found: &Inspection) -> String {
    let path = Path::new(&found.path);
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| found.path.clone())
}

fn sections(found: &Inspection, causes: usize, guesses: usize) -> Vec<Section> {
    let weights = !found.layers.is_empty();
    let metadata = !(found.metadata.is_empty() && found.build_info.is_empty());
    [
        (true, "size", "Size", None),
        (true, "functions", "Functions", Some(found.functions.len())),
        (weights, "layers", "Layers", None),
        (weights, "weights", "Weights", Some(found.weights.len())),
        (true, "lint", "Lint", Some(causes)),
        (metadata, "metadata", "Metadata", None),
        (guesses > 0, "guesses", "Guessed parts", Some(guesses)),
        (true, "files", "Files", None),
    ]
    .into_iter()
    .filter(|(there, ..)| *there)
    .map(|(_, id, title, number)| Section { id, title, number })
    .collect()
}

fn facts(found: &Inspection) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut fact = |title, value, note| facts.push(Fact { title, value, note });
    fact("Size", size(found.total_bytes()), format!("program {}", size(found.model_bytes)));
    if !found.weights.is_empty() {
        let sharing = found.weights.iter().filter(|weight| weight.functions.len() > 1).count();
        let note = match sharing {
            0 => format!("in {} weights", found.weights.len()),
            _ => format!("in {} weights, {sharing} shared", found.weights.len()),
        };
        fact("Values", count(found.elements), note);
        let plain = found.elements.saturating_mul(2);
        let note = format!("{} in 16-bit floats", size(plain));
        fact("Bits per value", format!("{:.2}", found.bits), note);
    }
    let (system, rest) = super::super::minimum_system(found.specification_version)
        .split_once(", ")
        .unwrap_or((found.minimum_system, ""));
    let note = format!("{rest}, specification {}", found.specification_version);
    fact("Needs", system.to_owned(), note);
    let worst = match found.findings.first().map(|finding| finding.severity) {
        None => "Clean".to_owned(),
        Some("performance") => "Speed".to_owned(),
        Some(word) => format!("{}{}", word[..1].to_uppercase(), &word[1..]),
    };
    fact("Lint, at worst", worst, findings::summary(&found.findings));
    facts
}

fn legend(found: &Inspection) -> Vec<Legend> {
    let of = |role: Role| {
        let weights = found.weights.iter().filter(|weight| weight.role == role);
        weights.fold(0_u64, |sum, weight| sum.saturating_add(weight.bytes))
    };
    Role::ALL
        .into_iter()
        .map(|role| (role.name(), of(role)))
        .chain([("program", found.model_bytes), ("unused", found.unused_bytes)])
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(class, bytes)| Legend { class, bytes })
        .collect()
}

fn function<'a>(found: &Inspection, function: &'a FunctionInspection) -> Function<'a> {
    let mut operations: Vec<(&str, u64)> =
        function.operations.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    operations.sort_by_key(|(name, count)| (Reverse(*count), *name));
    let most = operations.first().map_or(1, |(_, count)| *count).max(1);
    let mut operations = operations.into_iter().map(|(name, count)| Operation {
        name,
        count,
        width: (count as f64 / most as f64 * 100.0).max(0.5),
    });
    let ports = [
        ("Inputs", &function.inputs),
        ("Outputs", &function.outputs),
        ("States", &function.states),
    ];
    Function {
        name: &function.name,
        default: found.default_function.as_ref() == Some(&function.name),
        opset: &function.opset,
        count: function.operation_count(),
        ports: ports
            .into_iter()
            .filter(|(_, features)| !features.is_empty())
            .map(|(kind, features)| Ports {
                kind,
                ports: features.iter().take(MAXIMUM_FEATURES).map(port).collect(),
            })
            .collect(),
        common: operations.by_ref().take(COMMON_OPERATIONS).collect(),
        rest: List::of(operations, MAXIMUM_ENTRIES),
    }
}

fn port(feature: &Feature) -> Port<'_> {
    Port {
        name: &feature.name,
        about: &feature.description,
        dtype: &feature.dtype,
        shape: feature.shape_text(),
    }
}

fn layers(found: &Inspection) -> List<Layer<'_>> {
    let most = found.layers.iter().map(|layer| layer.bytes).max().unwrap_or(1);
    let total = found.weight_bytes().max(1);
    let layer = |layer: &'_ LayerInspection| Layer {
        title: match layer.numbered {
            true => format!("layer {}", layer.name),
            false => layer.name.clone(),
        },
        weights: layer.weights,
        elements: layer.elements,
        bits: layer.bits,
        bytes: layer.bytes,
        percent: layer.bytes as f64 / total as f64 * 100.0,
        bars: bars(layer, most),
    };
    List::of(found.layers.iter().map(layer), MAXIMUM_LAYERS)
}

fn bars(layer: &LayerInspection, most: u64) -> Vec<Bar<'static>> {
    let mut from = 0.0;
    let mut bars = Vec::new();
    for role in Role::ALL {
        let bytes = layer.roles.get(role.name()).copied().unwrap_or(0);
        let width = bytes as f64 / most.max(1) as f64 * 100.0;
        if width > 0.0 {
            bars.push(Bar { class: role.name(), from, width });
        }
        from += width;
    }
    bars
}

fn weight(weight: &WeightInspection) -> Weight<'_> {
    Weight {
        role: weight.role.name(),
        name: &weight.name,
        shape: terminal::shape(&weight.shape),
        form: if weight.form == "plain" { weight.dtype } else { &weight.form },
        bits: weight.bits,
        bytes: weight.bytes,
        functions: weight.functions.len(),
        problem: terminal_text::problem(weight),
    }
}

fn cause<'a>(cause: &findings::Cause<'a>) -> Cause<'a> {
    let first = cause.first;
    let rule = RULES.iter().find(|rule| rule.id == first.rule);
    Cause {
        severity: first.severity,
        rule: first.rule,
        title: rule.map_or("", |rule| rule.title),
        evidence: evidence(first.evidence),
        reason: &first.reason,
        count: cause.places.len(),
        places: cause
            .places
            .iter()
            .map(|(function, place)| findings::place_text(function, place))
            .filter(|place| !place.is_empty())
            .take(MAXIMUM_PLACES)
            .collect(),
    }
}

/// The letters of a rule's evidence in words.
fn evidence(letters: &str) -> String {
    let word = |letter| match letter {
        'M' => "measured",
        'A' => "said by Apple",
        'F' => "reported",
        'I' => "inferred",
        _ => "unknown",
    };
    letters.chars().map(word).collect::<Vec<_>>().join(", ")
}

fn metadata(found: &Inspection) -> List<(&str, &str)> {
    let own = [("version", &found.version), ("author", &found.author), ("license", &found.license)];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    let others = found.metadata.iter().chain(&found.build_info);
    let all: Vec<(&str, &str)> = own
        .chain(others.map(|(key, value)| (key.as_str(), value)))
        .map(|(key, value)| (key, value.as_str()))
        .collect();
    List::of(all.into_iter(), MAXIMUM_ENTRIES)
}
