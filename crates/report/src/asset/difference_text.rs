//! The differences of two assets for a terminal.

use super::difference::{AssetDifference, WeightNamed};
use crate::diff::Change;
use anemll_terminal as terminal;
use anemll_terminal::{Column, Table, plain, size};
use std::fmt::Write as _;

/// Rows of each kind that are shown; --json has all.
const SHOWN: usize = 30;

impl AssetDifference {
    /// For people, in lines of at most `width` columns where one is given.
    pub fn to_text(&self, width: Option<usize>) -> String {
        text(self, width)
    }
}

fn text(found: &AssetDifference, width: Option<usize>) -> String {
    let mut table = Table::new(&[Column::Left, Column::Flexible, Column::Left]);
    for (name, side) in [("A", &found.first), ("B", &found.second)] {
        let sizes =
            format!("program {}, weights {}", size(side.program_bytes), size(side.weight_bytes));
        table.row([name.to_owned(), side.path.clone(), sizes]);
    }
    let mut text = table.render(width);
    let equal = found.weights.equal;
    if found.is_equal() {
        let plural = if equal == 1 { "" } else { "s" };
        let _ = writeln!(text, "\nno difference: functions and {equal} weight{plural} are equal");
        return text;
    }
    if !found.asset.is_empty() {
        text += "\nasset\n";
        text += &changes(&found.asset, width);
    }
    for function in &found.functions {
        let _ = writeln!(text, "\nfunction {}", plain(&function.name));
        match function.only_in {
            Some("first") => text += "  only in A\n",
            Some(_) => text += "  only in B\n",
            None => text += &changes(&function.changes, width),
        }
        if function.other_operations {
            text += "  as many operations of each kind, but not the same ones: --mil shows them\n";
        }
    }
    for (name, only) in [("A", &found.weights.only_in_first), ("B", &found.weights.only_in_second)]
    {
        if !only.is_empty() {
            let _ = writeln!(text, "\nweights only in {name} ({}; {equal} are equal)", only.len());
            text += &weights(only, width);
        }
    }
    text
}

fn changes(changes: &[Change], width: Option<usize>) -> String {
    let mut table = Table::new(&[Column::Left, Column::Left, Column::Text]);
    for Change { what, first, second } in changes.iter().take(SHOWN) {
        let mut what = what.clone();
        for (sign, value) in [("A", first), ("B", second)] {
            if let Some(value) = value {
                table.row([std::mem::take(&mut what), sign.to_owned(), value.clone()]);
            }
        }
    }
    table.render(width) + &rest(changes.len())
}

fn weights(weights: &[WeightNamed], width: Option<usize>) -> String {
    let columns = [Column::Right, Column::Left, Column::Left, Column::Flexible];
    let mut table = Table::new(&columns).with_head(&["SIZE", "FORM", "SHAPE", "USED BY"]);
    for weight in weights.iter().take(SHOWN) {
        let shape = terminal::shape(&weight.shape);
        let functions = weight.functions.join(", ");
        table.row([size(weight.bytes), weight.form.clone(), shape, functions]);
    }
    table.render(width) + &rest(weights.len())
}

fn rest(count: usize) -> String {
    match count.checked_sub(SHOWN) {
        None | Some(0) => String::new(),
        Some(more) => format!("  and {more} more: --json lists all\n"),
    }
}
