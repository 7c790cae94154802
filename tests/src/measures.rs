//! Tables of what the suite measures: docs/reference/families.md. `ANEMLL_UPDATE_DOCS=1` has each test write
//! its own row anew; else what it measures must not be worse than its row says.

use crate::workspace;
use std::fmt::Write as _;
use std::fs::{self, File};

const PAGE: &str = "docs/reference/families.md";

/// A cell of a row.
#[derive(Debug, Clone)]
pub enum Cell {
    /// The same in every run.
    Text(String),
    /// Something near 1: what is missing may be twice as much, as processors differ.
    Near(f64),
    /// A share of tokens: a few may differ.
    Share(f64),
    /// An error: it may be twice as large.
    Error(f64),
    /// A number of lines: a fifth more or less is no reason to write it anew.
    Lines(usize),
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Near(value) => format!("{value:.6}"),
            Self::Share(value) => format!("{:.1} %", 100.0 * value),
            Self::Error(value) => format!("{value:.1e}"),
            Self::Lines(count) => count.to_string(),
        }
    }

    /// Whether what was measured is as good as what is written.
    fn is_as_good_as(&self, written: &str) -> bool {
        let number = || written.parse::<f64>().ok();
        match self {
            Self::Text(text) => text == written,
            Self::Near(value) => {
                number().is_some_and(|written| 1.0 - value <= 2.0 * (1.0 - written) + 2e-6)
            }
            Self::Share(value) => {
                let written = written.trim_end_matches(" %").parse::<f64>().ok();
                written.is_some_and(|written| 100.0 * value >= written - 1.0)
            }
            Self::Error(value) => number().is_some_and(|written| *value <= 2.0 * written + 1e-7),
            Self::Lines(count) => number().is_some_and(|written| {
                (*count as f64 - written).abs() <= (0.2 * written).max(10.0)
            }),
        }
    }
}

/// Checks the row that begins with `name` in the table below the heading `table`, or writes it.
///
/// # Panics
/// A page that cannot be read or written, a row that is missing, and one that says more than was measured.
pub fn check_row(table: &str, name: &str, cells: &[Cell]) {
    let path = workspace().join(PAGE);
    if std::env::var_os("ANEMLL_UPDATE_DOCS").is_some() {
        // Each test is a process of its own, and all write this page.
        let lock = File::create(std::env::temp_dir().join("anemll-families.lock"))
            .unwrap_or_else(|error| panic!("the lock of the page: {error}"));
        lock.lock().unwrap_or_else(|error| panic!("the lock of the page: {error}"));
        let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{PAGE}: {error}"));
        let page = with_row(&page, table, name, &row(name, cells));
        fs::write(&path, page).unwrap_or_else(|error| panic!("{PAGE}: {error}"));
    }
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{PAGE}: {error}"));
    let found = rows(&page, table).into_iter().find(|row| key(row) == name);
    let Some(found) = found else {
        panic!(
            "{PAGE} has no row `{name}` below `{table}`: run this test with ANEMLL_UPDATE_DOCS=1"
        );
    };
    let written: Vec<&str> = found.trim_matches('|').split('|').skip(1).map(str::trim).collect();
    let good = written.len() == cells.len()
        && cells.iter().zip(&written).all(|(cell, written)| cell.is_as_good_as(written));
    assert!(
        good,
        "{PAGE} says\n{found}\nbut measured was\n{}\nIf that is meant, run this test with \
         ANEMLL_UPDATE_DOCS=1",
        row(name, cells)
    );
}

fn row(name: &str, cells: &[Cell]) -> String {
    let mut row = format!("| {name} |");
    for cell in cells {
        let _ = write!(row, " {} |", cell.text());
    }
    row
}

/// What a row begins with.
fn key(row: &str) -> &str {
    row.trim_matches('|').split('|').next().unwrap_or_default().trim()
}

/// The rows of a table, without its head.
fn rows<'a>(page: &'a str, table: &str) -> Vec<&'a str> {
    let lines = page.lines().skip_while(|line| *line != table).skip(1);
    let inside = lines.take_while(|line| !line.starts_with('#'));
    inside.filter(|line| line.starts_with('|')).skip(2).collect()
}

/// The page with a row in its place, in the order of names.
fn with_row(page: &str, table: &str, name: &str, row: &str) -> String {
    let mut rows = rows(page, table);
    let last = rows.last().copied();
    rows.retain(|row| key(row) != name);
    rows.push(row);
    rows.sort_by_key(|row| key(row));
    let (mut text, mut inside, mut heads) = (String::new(), false, 0);
    let mut add = |text: &mut String| rows.drain(..).for_each(|row| *text += &format!("{row}\n"));
    for line in page.lines() {
        if line.starts_with('#') {
            (inside, heads) = (line == table, 0);
        }
        if inside && line.starts_with('|') {
            heads += 1;
            if heads > 2 {
                if Some(line) == last {
                    add(&mut text);
                }
                continue;
            }
        }
        text += line;
        text.push('\n');
        if inside && heads == 2 && last.is_none() {
            add(&mut text);
            heads += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "# A page\n\n## One\n\n| a | b |\n|---|---|\n\n## Two\n\n| a | b |\n|---|---|\n| x | 1 |\n\nEnd.\n";

    #[test]
    fn rows_are_put_into_their_table() {
        let page = with_row(TABLES, "## One", "b", "| b | 2 |");
        let page = with_row(&page, "## One", "a", "| a | 1 |");
        let page = with_row(&page, "## One", "b", "| b | 3 |");
        assert_eq!(rows(&page, "## One"), ["| a | 1 |", "| b | 3 |"]);
        assert_eq!(rows(&page, "## Two"), ["| x | 1 |"]);
        assert!(page.ends_with("| x | 1 |\n\nEnd.\n"), "{page}");
    }

    #[test]
    fn what_is_worse_is_told() {
        assert!(Cell::Near(0.99998).is_as_good_as("0.999990"));
        assert!(!Cell::Near(0.9999).is_as_good_as("0.999990"));
        assert!(
            Cell::Error(1e-9).is_as_good_as("1.0e-3") && Cell::Error(2e-3).is_as_good_as("1.0e-3")
        );
        assert!(!Cell::Error(3e-3).is_as_good_as("1.0e-3"));
        assert!(
            Cell::Share(0.994).is_as_good_as("100.0 %")
                && !Cell::Share(0.97).is_as_good_as("99.0 %")
        );
        assert!(Cell::Lines(105).is_as_good_as("100") && !Cell::Lines(200).is_as_good_as("100"));
        assert!(!Cell::Text("a".to_owned()).is_as_good_as("b"));
    }
}
