//! The report for a terminal.

use super::features::{Feature, FunctionInspection};
use super::findings;
use super::report::Inspection;
use super::weights::{LayerInspection, WeightInspection};
use anemll_terminal as terminal;
use anemll_terminal::{Column, Table, count, number, plain, plain_lines, size};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Weights that are shown when not all are asked for.
const LARGEST: usize = 10;

/// The whole report. With `all`, every weight is listed.
pub fn inspection(found: &Inspection, all: bool, width: Option<usize>) -> String {
    let mut text = summary(found, width);
    for function in &found.functions {
        text += &self::function(found, function, width);
    }
    text += &layers(&found.layers, found.weight_bytes(), width);
    text += &weights(found, all, width);
    text += &problems(found, width);
    text += &guesses(found, width);
    text += &metadata(found, width);
    text
}

impl Inspection {
    /// Bytes of all weights.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.weights.iter().fold(0, |sum, weight| sum.saturating_add(weight.bytes))
    }
}

fn heading(title: &str) -> String {
    format!("\n{title}\n")
}

/// Title, and the rows of facts below it.
fn summary(found: &Inspection, width: Option<usize>) -> String {
    let mut text = format!("{}\n", plain(&found.path));
    for line in found.short_description.lines() {
        text += &terminal::wrapped(line.split(' '), " ", 2, width);
    }
    text.push('\n');
    let mut table = Table::new(&[Column::Left, Column::Text]);
    let mut row = |key: &str, value: String| table.row([key.to_owned(), value]);
    let form = found.form.title();
    row(
        "format",
        format!("{form}, specification {}: {}", found.specification_version, found.minimum_system),
    );
    row(
        "size",
        format!(
            "{} (weights {}, program {})",
            size(found.total_bytes()),
            size(found.weight_file_bytes),
            size(found.model_bytes)
        ),
    );
    if !found.weights.is_empty() {
        row(
            "weights",
            format!(
                "{} with {} values, {:.2} bits each",
                found.weights.len(),
                count(found.elements),
                found.bits
            ),
        );
    }
    let bytes = found.weight_bytes();
    if found.unshared_bytes > bytes {
        let shared = found.weights.iter().filter(|weight| weight.functions.len() > 1).count();
        row(
            "sharing",
            format!(
                "{shared} of {} weights serve several functions; alone they would take {}",
                found.weights.len(),
                size(found.unshared_bytes)
            ),
        );
    }
    // Less is padding between records.
    if found.unused_bytes > 64 * (found.records.len() as u64 + 1) {
        row(
            "unused",
            format!("{} of the weight file: padding and unnamed records", size(found.unused_bytes)),
        );
    }
    let tools: Vec<String> =
        found.build_info.iter().map(|(key, value)| format!("{key} {value}")).collect();
    if !tools.is_empty() {
        row("made by", tools.join(", "));
    }
    for (key, value) in
        [("version", &found.version), ("author", &found.author), ("license", &found.license)]
    {
        if !value.is_empty() {
            row(key, value.clone());
        }
    }
    let hint = if found.findings.is_empty() { "" } else { " (--lint tells them)" };
    row("lint", format!("{}{hint}", findings::summary(&found.findings)));
    text + &table.render(width)
}

fn function(found: &Inspection, function: &FunctionInspection, width: Option<usize>) -> String {
    let default = found.default_function.as_ref() == Some(&function.name);
    let mut text = heading(&format!(
        "function {}{} ({}, {} operation{})",
        plain(&function.name),
        if default { ", default" } else { "" },
        plain(&function.opset),
        function.operation_count(),
        if function.operation_count() == 1 { "" } else { "s" }
    ));
    let mut table = Table::new(&[Column::Left, Column::Left, Column::Left, Column::Flexible]);
    for (kind, features) in
        [("input", &function.inputs), ("output", &function.outputs), ("state", &function.states)]
    {
        for feature in features {
            let Feature { name, dtype, .. } = feature;
            table.row([kind.to_owned(), name.clone(), dtype.clone(), feature.shape_text()]);
        }
    }
    text += &table.render(width);
    text + &operations_text(&function.operations, width)
}

/// How often each operation stands in a function, most often first.
pub(crate) fn operations_text(operations: &BTreeMap<String, u64>, width: Option<usize>) -> String {
    let mut operations: Vec<(&String, &u64)> = operations.iter().collect();
    operations.sort_by_key(|(name, count)| (Reverse(**count), *name));
    let words: Vec<String> =
        operations.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let lines = terminal::wrapped(words.iter().map(String::as_str), ", ", 2, width);
    if words.is_empty() { lines } else { format!("\n{lines}") }
}

/// Sums by layer; neighbours that are equal become one row.
fn layers(layers: &[LayerInspection], total: u64, width: Option<usize>) -> String {
    if layers.is_empty() {
        return String::new();
    }
    let columns = [
        Column::Left,
        Column::Right,
        Column::Right,
        Column::Right,
        Column::Right,
        Column::Right,
        Column::Left,
    ];
    let head = ["LAYER", "WEIGHTS", "VALUES", "BITS", "SIZE", "SHARE", ""];
    let mut table = Table::new(&columns).with_head(&head).leaving_out(&[6, 1, 2]);
    let mut index = 0;
    while let Some(first) = layers.get(index) {
        let same = |layer: &&LayerInspection| {
            first.numbered
                && layer.numbered
                && (layer.weights, layer.elements, layer.bytes)
                    == (first.weights, first.elements, first.bytes)
        };
        let equal = layers[index..].iter().take_while(same).count().max(1);
        let last = &layers[index + equal - 1];
        let share = first.bytes as f64 * equal as f64 / total.max(1) as f64;
        let name = match (first.numbered, equal) {
            (true, 1) => format!("layer {}", first.name),
            (true, _) => format!("layers {} to {}", first.name, last.name),
            (false, _) => first.name.clone(),
        };
        let each = if equal > 1 { " each" } else { "" };
        table.row([
            name,
            first.weights.to_string(),
            count(first.elements),
            format!("{:.2}", first.bits),
            format!("{}{each}", size(first.bytes)),
            format!("{:.1} %", share * 100.0),
            "█".repeat((share * 20.0).round() as usize),
        ]);
        index += equal;
    }
    heading("layers") + &table.render(width)
}

fn weights(found: &Inspection, all: bool, width: Option<usize>) -> String {
    if found.weights.is_empty() {
        return String::new();
    }
    let mut shown: Vec<&WeightInspection> = found.weights.iter().collect();
    let title = if all {
        "weights".to_owned()
    } else {
        shown.sort_by_key(|weight| Reverse(weight.bytes));
        shown.truncate(LARGEST);
        match found.weights.len() {
            ..=LARGEST => "weights".to_owned(),
            count => format!("largest weights ({LARGEST} of {count}; --weights lists all)"),
        }
    };
    let mut columns = vec![Column::Right, Column::Right, Column::Left, Column::Left, Column::Left];
    let mut head = vec!["SIZE", "BITS", "FORM", "TYPE", "SHAPE"];
    let several = found.functions.len() > 1;
    if several {
        columns.push(Column::Right);
        head.push("SHARED");
    }
    if all {
        columns.extend([Column::Right, Column::Right, Column::Left]);
        head.extend(["SMALLEST", "LARGEST", "ENTRIES USED"]);
    }
    columns.push(Column::Flexible);
    head.push("NAME");
    // Size, shape and name are kept longest.
    let order = ["TYPE", "SHARED", "BITS", "ENTRIES USED", "FORM", "SMALLEST", "LARGEST", "SHAPE"];
    let place = |title: &&str| head.iter().position(|other| other == title);
    let leave_out: Vec<usize> = order.iter().filter_map(place).collect();
    let mut table = Table::new(&columns).with_head(&head).leaving_out(&leave_out);
    for weight in shown {
        let mut cells = vec![
            size(weight.bytes),
            format!("{:.2}", weight.bits),
            weight.form.clone(),
            weight.dtype.to_owned(),
            terminal::shape(&weight.shape),
        ];
        if several {
            cells.push(weight.functions.len().to_string());
        }
        if all {
            cells.extend(values(weight));
        }
        cells.push(weight.name.clone());
        table.row(cells);
    }
    heading(&title) + &table.render(width)
}

/// Smallest and largest value, and the use of tables.
fn values(weight: &WeightInspection) -> [String; 3] {
    let (smallest, largest) = match &weight.statistics {
        Some(found) if found.finite > 0 => {
            (number(found.smallest.into()), number(found.largest.into()))
        }
        Some(_) => ("none".to_owned(), "none".to_owned()),
        None => ("?".to_owned(), "?".to_owned()),
    };
    let entries = match &weight.tables {
        Some(found) if found.fewest_used == found.most_used => {
            format!("{} of {} × {}", found.most_used, found.entries, found.tables)
        }
        Some(found) => format!(
            "{}…{} of {} × {}",
            found.fewest_used, found.most_used, found.entries, found.tables
        ),
        None => String::new(),
    };
    [smallest, largest, entries]
}

/// Weights that cannot be read, or hold what is no number.
fn problems(found: &Inspection, width: Option<usize>) -> String {
    let mut table = Table::new(&[Column::Left, Column::Text]);
    let mut any = false;
    for weight in &found.weights {
        if let Some(problem) = problem(weight) {
            table.row([weight.name.clone(), problem]);
            any = true;
        }
    }
    if any { heading("problems") + &table.render(width) } else { String::new() }
}

/// Parts of a compiled model whose form is guessed.
fn guesses(found: &Inspection, width: Option<usize>) -> String {
    let Some(guesses) = found.guesses.as_ref().filter(|guesses| !guesses.is_empty()) else {
        return String::new();
    };
    let mut text =
        heading("guessed parts (no output of Apple's compiler has shown their form yet)");
    for guess in guesses {
        let _ = writeln!(text, "  {}: {}", guess.what, plain(&guess.place));
        text += &terminal::wrapped(guess.evidence.split(' '), " ", 4, width);
    }
    text
}

/// What is wrong with a weight.
pub(super) fn problem(weight: &WeightInspection) -> Option<String> {
    if let Some(problem) = &weight.problem {
        return Some(problem.clone());
    }
    let found = weight.statistics.as_ref()?;
    match (found.not_a_number, found.infinite) {
        (0, 0) => None,
        (nan, infinite) => Some(format!("{nan} NaN and {infinite} infinite values")),
    }
}

fn metadata(found: &Inspection, width: Option<usize>) -> String {
    if found.metadata.is_empty() {
        return String::new();
    }
    let mut text = heading("metadata");
    for (key, value) in &found.metadata {
        let _ = writeln!(text, "  {}", plain(key));
        let room = width.unwrap_or(usize::MAX).saturating_sub(5).max(20);
        for line in plain_lines(value).lines() {
            let short: String = line.chars().take(room).collect();
            let cut = if short.len() < line.len() { "…" } else { "" };
            let _ = writeln!(text, "    {short}{cut}");
        }
    }
    text
}
