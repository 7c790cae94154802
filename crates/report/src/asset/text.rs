//! The report of an asset for a terminal.

use super::faults::faults_text;
use super::inspection::{AssetInspection, Ports};
use super::weights::AssetWeight;
use crate::inspect::operations_text;
use anemll_terminal as terminal;
use anemll_terminal::{Column, Table, count, plain, plain_lines, size};
use std::cmp::Reverse;
use std::fmt::Write as _;

/// Weights that are shown when not all are asked for.
const LARGEST: usize = 10;

/// The whole report. With `all`, every weight is listed.
pub fn inspection(found: &AssetInspection, all: bool, width: Option<usize>) -> String {
    let mut text = summary(found, width);
    for function in &found.functions {
        text += &ports(function, width);
    }
    text += &sharing(found, width);
    text += &weights(found, all, width);
    if !found.faults.is_empty() {
        text += "\nproblems\n";
        text += &terminal::wrapped_lines(&faults_text(&found.faults, width), width);
    }
    text + &metadata(found)
}

fn summary(found: &AssetInspection, width: Option<usize>) -> String {
    let mut text = format!("{}\n", plain(&found.path));
    for line in found.short_description.lines() {
        text += &terminal::wrapped(line.split(' '), " ", 2, width);
    }
    text.push('\n');
    let mut table = Table::new(&[Column::Left, Column::Text]);
    let mut row = |key: &str, value: String| table.row([key.to_owned(), value]);
    let version = match found.asset_version.as_str() {
        "" => "no version".to_owned(),
        version => format!("version {version}"),
    };
    row(
        "format",
        format!(
            "Core AI asset, {version}, operations of {}: {}",
            date(found.dialect_version),
            found.minimum_system
        ),
    );
    let (weights, program) = (size(found.weight_bytes), size(found.program_bytes));
    row("size", format!("{} (weights {weights}, program {program})", size(found.total_bytes())));
    let number = found.weights.len();
    if number > 0 {
        let values = count(found.elements);
        row("weights", format!("{number} with {values} values, {:.2} bits each", found.bits));
    }
    let shared = found.weights.iter().filter(|weight| weight.functions.len() > 1).count();
    if shared > 0 {
        let alone = size(found.unshared_bytes);
        let text = format!("{shared} of {number} weights serve several functions");
        row("sharing", format!("{text}; alone they would take {alone}"));
    }
    if found.unused_bytes > 0 {
        row("unused", format!("{} that no function uses", size(found.unused_bytes)));
    }
    for (key, value) in
        [("made by", &found.producer), ("author", &found.author), ("license", &found.license)]
    {
        if !value.is_empty() {
            row(key, value.clone());
        }
    }
    text + &table.render(width)
}

/// A number such as 20260317 as a date.
fn date(number: u32) -> String {
    format!("{:04}-{:02}-{:02}", number / 10_000, number / 100 % 100, number % 100)
}

fn ports(function: &Ports, width: Option<usize>) -> String {
    let operations: u64 = function.operations.values().sum();
    let mut text = format!(
        "\nfunction {}{} ({} operation{})\n",
        plain(&function.name),
        if function.private { ", private" } else { "" },
        operations,
        if operations == 1 { "" } else { "s" }
    );
    let mut table = Table::new(&[Column::Left, Column::Left, Column::Left, Column::Flexible]);
    for (kind, ports) in
        [("input", &function.inputs), ("output", &function.outputs), ("state", &function.states)]
    {
        for port in ports {
            table.row([kind.to_owned(), port.name.clone(), port.dtype.clone(), port.shape_text()]);
        }
    }
    text += &table.render(width);
    text + &operations_text(&function.operations, width)
}

/// Which functions use which weights, where there are several.
fn sharing(found: &AssetInspection, width: Option<usize>) -> String {
    if found.functions.len() < 2 || found.sharing.is_empty() {
        return String::new();
    }
    let columns = [Column::Right, Column::Right, Column::Text];
    let mut table = Table::new(&columns).with_head(&["WEIGHTS", "SIZE", "USED BY"]);
    for group in &found.sharing {
        let functions = if group.functions.len() == found.functions.len() {
            format!("all {} functions", group.functions.len())
        } else {
            group.functions.join(", ")
        };
        table.row([group.weights.to_string(), size(group.bytes), functions]);
    }
    format!("\nsharing\n{}", table.render(width))
}

fn weights(found: &AssetInspection, all: bool, width: Option<usize>) -> String {
    if found.weights.is_empty() {
        return String::new();
    }
    let mut shown: Vec<&AssetWeight> = found.weights.iter().collect();
    let title = match (all, found.weights.len()) {
        (true, _) | (false, ..=LARGEST) => "weights".to_owned(),
        (false, count) => format!("largest weights ({LARGEST} of {count}; --weights lists all)"),
    };
    if !all {
        shown.sort_by_key(|weight| Reverse(weight.bytes));
        shown.truncate(LARGEST);
    }
    let mut columns = vec![Column::Right, Column::Right, Column::Left, Column::Left, Column::Left];
    let mut head = vec!["SIZE", "BITS", "FORM", "TYPE", "SHAPE"];
    let several = found.functions.len() > 1;
    if several {
        columns.push(Column::Right);
        head.push("SHARED");
    }
    columns.push(Column::Flexible);
    head.push("KEY");
    // Size, form and shape are kept longest.
    let order = ["TYPE", "SHARED", "KEY", "BITS"];
    let place = |title: &&str| head.iter().position(|other| other == title);
    let leave_out: Vec<usize> = order.iter().filter_map(place).collect();
    let mut table = Table::new(&columns).with_head(&head).leaving_out(&leave_out);
    for weight in shown {
        let shape = terminal::shape(&weight.shape);
        let mut cells = vec![
            size(weight.bytes),
            format!("{:.2}", weight.bits),
            form(weight),
            weight.dtype.clone(),
            shape,
        ];
        if several {
            cells.push(weight.functions.len().to_string());
        }
        cells.push(weight.key.clone());
        table.row(cells);
    }
    format!("\n{title}\n{}", table.render(width))
}

/// The form, and how finely it is cut.
pub(super) fn form(weight: &AssetWeight) -> String {
    let what = if weight.form.ends_with("palettized") { "table" } else { "scale" };
    let mut text = weight.form.clone();
    if weight.groups > 1 {
        let _ = write!(text, ", {} {what}s", count(weight.groups));
    }
    if weight.vector > 1 {
        let _ = write!(text, ", vectors of {}", weight.vector);
    }
    text
}

fn metadata(found: &AssetInspection) -> String {
    if found.metadata.is_empty() {
        return String::new();
    }
    let mut text = "\nmetadata\n".to_owned();
    for (key, value) in &found.metadata {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ =
            writeln!(text, "  {}\n    {}", plain(key), plain_lines(&value).replace('\n', "\n    "));
    }
    text
}
