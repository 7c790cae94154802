//! The differences for a terminal.

use super::graph::{ChangedOperation, FunctionDifference, OperationName};
use super::weights::{WeightDifference, WeightsDifference};
use super::{Change, Difference, Side};
use anemll_terminal as terminal;
use anemll_terminal::{Column, Table, plain, size};
use std::fmt::Write as _;

/// Rows of each kind that are shown; --json has all.
const SHOWN: usize = 30;

pub(super) fn difference(found: &Difference, width: Option<usize>) -> String {
    let mut text = String::new();
    let mut table = Table::new(&[Column::Left, Column::Flexible, Column::Left]);
    for (name, side) in [("A", &found.first), ("B", &found.second)] {
        let Side { path, program_bytes, weight_bytes } = side;
        table.row([
            name.to_owned(),
            path.clone(),
            format!("program {}, weights {}", size(*program_bytes), size(*weight_bytes)),
        ]);
    }
    text += &table.render(width);
    if found.equal {
        return text
            + &format!(
                "\nno difference: {} and {} are equal\n",
                number(found.functions.len(), "function"),
                number(found.weights.equal as usize, "weight")
            );
    }
    if !found.model.is_empty() {
        text.push_str("\nmodel\n");
        text += &changes(&found.model, 2, width);
    }
    for function in &found.functions {
        text += &self::function(function, width);
    }
    text + &weights(&found.weights, width)
}

fn number(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn changes(changes: &[Change], indent: usize, width: Option<usize>) -> String {
    let mut text = String::new();
    let pad = " ".repeat(indent);
    for Change { what, first, second } in changes.iter().take(SHOWN) {
        let _ = writeln!(text, "{pad}{}", plain(what));
        for (sign, value) in [("A", first), ("B", second)] {
            let Some(value) = value else { continue };
            let room = width.unwrap_or(usize::MAX).saturating_sub(indent + 5).max(20);
            let value = plain(value);
            let short: String = value.chars().take(room).collect();
            let cut = if short.len() < value.len() { "…" } else { "" };
            let _ = writeln!(text, "{pad}  {sign} {short}{cut}");
        }
    }
    text + &more(changes.len(), indent)
}

fn more(count: usize, indent: usize) -> String {
    match count.checked_sub(SHOWN) {
        None | Some(0) => String::new(),
        Some(left) => format!("{}and {left} more (--json lists all)\n", " ".repeat(indent)),
    }
}

fn function(found: &FunctionDifference, width: Option<usize>) -> String {
    let mut text = format!("\nfunction {}", plain(&found.name));
    match found.present {
        "first" => return text + ": only in A\n",
        "second" => return text + ": only in B\n",
        _ if found.is_equal() => {
            let count = number(found.equal_operations as usize, "operation");
            return format!("{text}: {count}, all equal\n");
        }
        _ => {}
    }
    let _ = writeln!(
        text,
        ": {} equal, {} changed, {} only in A, {} only in B",
        number(found.equal_operations as usize, "operation"),
        found.changed.len(),
        found.removed.len(),
        found.added.len()
    );
    text += &changes(&found.signature, 2, width);
    for ChangedOperation { first, other_name, changes: list } in found.changed.iter().take(SHOWN) {
        let other = other_name.as_ref().map(|name| format!(" → {}", plain(name)));
        let _ = writeln!(
            text,
            "  ~ {} {}{}",
            plain(&first.operation),
            plain(&first.name),
            other.unwrap_or_default()
        );
        text += &changes(list, 6, width);
    }
    text += &more(found.changed.len(), 2);
    for (sign, list) in [("-", &found.removed), ("+", &found.added)] {
        for OperationName { operation, name } in list.iter().take(SHOWN) {
            let _ = writeln!(text, "  {sign} {} {}", plain(operation), plain(name));
        }
        text += &more(list.len(), 2);
    }
    terminal::wrapped_lines(&text, width)
}

fn weights(found: &WeightsDifference, width: Option<usize>) -> String {
    let mut text = format!(
        "\nweights: {} equal, {} of equal values stored differently, {} different, {} only in A, {} \
         only in B\n",
        found.equal,
        found.equal_values.len(),
        found.different.len(),
        found.removed.len(),
        found.added.len()
    );
    text = terminal::wrapped_lines(&text, width);
    let name = |difference: &WeightDifference| match &difference.other_name {
        Some(other) => format!("{} → {other}", difference.name),
        None => difference.name.clone(),
    };
    if !found.equal_values.is_empty() {
        let columns = [Column::Right, Column::Right, Column::Flexible];
        let mut table = Table::new(&columns).with_head(&[
            "SIZE IN A",
            "IN B",
            "EQUAL VALUES STORED DIFFERENTLY",
        ]);
        for difference in found.equal_values.iter().take(SHOWN) {
            table.row([
                size(difference.first_bytes),
                size(difference.second_bytes),
                name(difference),
            ]);
        }
        text += &table.render(width);
        text += &more(found.equal_values.len(), 2);
    }
    let mut worst: Vec<&WeightDifference> = found.different.iter().collect();
    let cosine = |difference: &WeightDifference| {
        difference.error.as_ref().map_or(-2.0, |error| error.cosine)
    };
    worst.sort_by(|a, b| cosine(a).total_cmp(&cosine(b)));
    if !worst.is_empty() {
        let columns =
            [Column::Right, Column::Right, Column::Right, Column::Right, Column::Flexible];
        let head = ["COSINE", "LARGEST ERROR", "MEAN ERROR", "DIFFER", "DIFFERENT WEIGHTS"];
        let mut table = Table::new(&columns).with_head(&head).leaving_out(&[2, 1, 3]);
        for difference in worst.iter().take(SHOWN) {
            let cells = match (&difference.error, &difference.problem) {
                (Some(error), _) => [
                    format!("{:.6}", error.cosine),
                    terminal::number(error.largest),
                    terminal::number(error.mean),
                    format!("{:.1} %", error.different as f64 / error.count.max(1) as f64 * 100.0),
                    name(difference),
                ],
                (None, problem) => {
                    let why = problem.clone().unwrap_or_default();
                    let dash = || "-".to_owned();
                    [dash(), dash(), dash(), dash(), format!("{}: {why}", name(difference))]
                }
            };
            table.row(cells);
        }
        text += &table.render(width);
        text += &more(worst.len(), 2);
    }
    for (sign, list) in [("-", &found.removed), ("+", &found.added)] {
        for name in list.iter().take(SHOWN) {
            let _ = writeln!(text, "  {sign} {}", plain(name));
        }
        text += &more(list.len(), 2);
    }
    text
}
