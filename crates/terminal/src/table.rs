//! Tables that stay readable on narrow terminals.
//!
//! Where a table is too wide, what all names begin with is told once, columns are left out in an
//! order that the table gives, sentences go over several lines, and the longest names lose whole
//! words of their middle, in that order.

use crate::stream::{Stream, TITLE, painted};
use crate::text::{columns, plain};
use anstyle::Style;
use std::borrow::Cow;

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// At the left.
    Left,
    /// At the right, for numbers.
    Right,
    /// Names, at the left; what does not fit loses its middle. One column of this kind or of
    /// [`Self::Text`] at most.
    Flexible,
    /// Sentences, at the left; what does not fit goes on in the next line.
    Text,
}

impl Column {
    fn gives_way(self) -> bool {
        matches!(self, Self::Flexible | Self::Text)
    }
}

/// What stands in a row and a column.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    /// A cell in colours, where standard output has them.
    pub fn styled(text: &str, style: Style) -> Self {
        Self { text: plain(text).into_owned(), style: Some(style) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text: plain(&text).into_owned(), style: None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { text: plain(text).into_owned(), style: None }
    }
}

/// Columns that names keep before other columns are left out.
const NAME: usize = 28;
/// Columns that sentences keep before other columns are left out.
const SENTENCE: usize = 24;
/// Columns that names and sentences keep in any case.
const LEAST: usize = 12;
/// Shortest beginning that is told apart from the names.
const PREFIX: usize = 4;
/// Fewest names whose beginning and end are told apart; of two, both are better read whole.
const FEWEST: usize = 3;
/// What words of a name stand between.
const BETWEEN: [char; 6] = ['_', '/', '.', '-', ' ', ':'];

/// Rows of cells, set in columns of equal width.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    indent: usize,
    head: Option<Vec<Cell>>,
    rows: Vec<Vec<Cell>>,
    leave_out: Vec<usize>,
}

impl Table {
    /// A table without a head, indented by two.
    pub fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            indent: 2,
            head: None,
            rows: Vec::new(),
            leave_out: Vec::new(),
        }
    }

    /// Gives the columns titles.
    pub fn with_head(mut self, titles: &[&str]) -> Self {
        let bold = |title: &&str| Cell { text: (*title).to_owned(), style: Some(TITLE) };
        self.head = Some(titles.iter().map(bold).collect());
        self
    }

    /// Begins the lines at the left edge.
    pub fn without_indent(mut self) -> Self {
        self.indent = 0;
        self
    }

    /// Columns, by number from 0, that are left out where there is no room, the first of them first.
    pub fn leaving_out(mut self, columns: &[usize]) -> Self {
        self.leave_out = columns.to_vec();
        self
    }

    /// Adds a row; its cells are made [`plain`].
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each at most `width` wide where one is given and the least of each column allows.
    pub fn render(&self, width: Option<usize>) -> String {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let Some(width) = width else { return self.lines(&all, &Common::default(), None) };
        if self.natural(&all, &Common::default(), false) <= width {
            return self.lines(&all, &Common::default(), None);
        }
        let common = self.common();
        let mut shown = all;
        let mut left_out = Vec::new();
        for column in &self.leave_out {
            if self.natural(&shown, &common, true) <= width {
                break;
            }
            shown.retain(|other| other != column);
            left_out.push(*column);
        }
        left_out.sort_unstable();
        let mut text = String::new();
        let told = match (common.prefix, common.suffix) {
            ("", "") => None,
            (prefix, "") => Some(format!("names begin with {prefix}")),
            ("", suffix) => Some(format!("names end with {suffix}")),
            (prefix, suffix) => Some(format!("names begin with {prefix} and end with {suffix}")),
        };
        if let Some(told) = told {
            text += &super::wrapped(told.split(' '), " ", self.indent, Some(width));
        }
        text += &self.lines(&shown, &common, Some(width));
        if let (Some(head), false) = (&self.head, left_out.is_empty()) {
            let titles: Vec<&str> = left_out
                .iter()
                .filter_map(|column| Some(head.get(*column)?.text.as_str()))
                .collect();
            let titles: Vec<&str> = titles.into_iter().filter(|title| !title.is_empty()).collect();
            if !titles.is_empty() {
                let note = format!("no room for {}", titles.join(", "));
                text += &super::wrapped(note.split(' '), " ", self.indent, Some(width));
            }
        }
        text
    }

    /// What every name begins and ends with; empty where that saves nothing.
    fn common(&self) -> Common<'_> {
        let flexible = self.columns.iter().position(|column| *column == Column::Flexible);
        let Some(place) = flexible else { return Common::default() };
        let names: Vec<&str> =
            self.rows.iter().filter_map(|row| Some(row.get(place)?.text.as_str())).collect();
        if names.len() < FEWEST {
            return Common::default();
        }
        let prefix = common_prefix(&names);
        let rest: Vec<&str> =
            names.iter().map(|name| name.strip_prefix(prefix).unwrap_or(name)).collect();
        Common { prefix, suffix: common_suffix(&rest) }
    }

    fn text<'a>(&self, cell: &'a Cell, column: usize, common: &Common<'_>) -> &'a str {
        let text = cell.text.as_str();
        match self.columns[column] {
            Column::Flexible => {
                let text = text.strip_prefix(common.prefix).unwrap_or(text);
                text.strip_suffix(common.suffix).unwrap_or(text)
            }
            _ => text,
        }
    }

    fn longest(&self, column: usize, common: &Common<'_>) -> usize {
        let all = self.head.iter().chain(&self.rows);
        all.filter_map(|row| Some(columns(self.text(row.get(column)?, column, common))))
            .max()
            .unwrap_or(0)
    }

    /// Columns that the table takes; `least`: with names and sentences at what they keep.
    fn natural(&self, shown: &[usize], common: &Common<'_>, least: bool) -> usize {
        let cells: usize = shown
            .iter()
            .map(|column| {
                let longest = self.longest(*column, common);
                match self.columns[*column] {
                    Column::Flexible if least => longest.min(NAME),
                    Column::Text if least => longest.min(SENTENCE),
                    _ => longest,
                }
            })
            .sum();
        self.indent + cells + 2 * shown.len().saturating_sub(1)
    }

    fn lines(&self, shown: &[usize], common: &Common<'_>, width: Option<usize>) -> String {
        let mut widths: Vec<usize> =
            shown.iter().map(|column| self.longest(*column, common)).collect();
        let flexible = shown.iter().position(|column| self.columns[*column].gives_way());
        if let (Some(width), Some(flexible)) = (width, flexible) {
            let others: usize = widths.iter().sum::<usize>() - widths[flexible];
            let gaps = self.indent + 2 * shown.len().saturating_sub(1);
            let room = width.saturating_sub(others + gaps).max(LEAST);
            widths[flexible] = widths[flexible].min(room);
        }
        let mut text = String::new();
        for row in self.head.iter().chain(&self.rows) {
            self.set(row, shown, &widths, common, &mut text);
        }
        text
    }

    /// Sets one row, over several lines where a sentence takes them.
    fn set(
        &self,
        row: &[Cell],
        shown: &[usize],
        widths: &[usize],
        common: &Common<'_>,
        to: &mut String,
    ) {
        let cells: Vec<Vec<String>> = shown
            .iter()
            .zip(widths)
            .map(|(column, width)| {
                let Some(cell) = row.get(*column) else { return vec![String::new()] };
                let text = self.text(cell, *column, common);
                match self.columns[*column] {
                    Column::Text => {
                        let words = super::words(text, Some(*width));
                        let words = words.iter().map(String::as_str);
                        let lines = super::wrapped(words, " ", 0, Some(*width));
                        let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
                        if lines.is_empty() { vec![String::new()] } else { lines }
                    }
                    Column::Flexible => vec![shortened(text, *width).into_owned()],
                    Column::Left | Column::Right => vec![text.to_owned()],
                }
            })
            .collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        for number in 0..height {
            let mut line = " ".repeat(self.indent);
            for (index, (column, width)) in shown.iter().zip(widths).enumerate() {
                let text = cells[index].get(number).map_or("", String::as_str);
                let space = " ".repeat(width.saturating_sub(columns(text)));
                let style = row.get(*column).and_then(|cell| cell.style);
                let cell = match style {
                    Some(style) if !text.is_empty() => painted(Stream::Output, style, text),
                    _ => text.to_owned(),
                };
                if index > 0 {
                    line.push_str("  ");
                }
                if self.columns[*column] == Column::Right {
                    line += &space;
                    line += &cell;
                } else {
                    line += &cell;
                    line += &space;
                }
            }
            to.push_str(line.trim_end());
            to.push('\n');
        }
    }
}

/// What all names of a table have in common.
#[derive(Debug, Clone, Copy, Default)]
struct Common<'a> {
    prefix: &'a str,
    suffix: &'a str,
}

/// What every name begins with, up to the end of a word; each name keeps a word.
fn common_prefix<'a>(names: &[&'a str]) -> &'a str {
    let Some((first, others)) = names.split_first() else { return "" };
    let mut common = first.len().saturating_sub(1);
    for name in others {
        let same = first.bytes().zip(name.bytes()).take_while(|(left, right)| left == right);
        common = common.min(same.count()).min(name.len().saturating_sub(1));
    }
    let end = first[..floor(first, common)].rfind(BETWEEN).map_or(0, |place| place + 1);
    let prefix = &first[..end];
    if !others.is_empty() && worth_telling(prefix) { prefix } else { "" }
}

/// What every name ends with, from the end of a word on; each name keeps a word.
fn common_suffix<'a>(names: &[&'a str]) -> &'a str {
    let Some((first, others)) = names.split_first() else { return "" };
    let mut common = first.len().saturating_sub(1);
    for name in others {
        let pairs = first.bytes().rev().zip(name.bytes().rev());
        let same = pairs.take_while(|(left, right)| left == right);
        common = common.min(same.count()).min(name.len().saturating_sub(1));
    }
    let mut start = first.len() - common;
    while !first.is_char_boundary(start) {
        start += 1;
    }
    let suffix = first[start..].find(BETWEEN).map_or("", |place| &first[start + place..]);
    if !others.is_empty() && worth_telling(suffix) { suffix } else { "" }
}

fn worth_telling(part: &str) -> bool {
    part.len() >= PREFIX && !part.contains(' ')
}

/// The last place at or before `at` that does not cut a character.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0)
}

/// Takes the middle out of a name that is longer than `width`: whole words, as many of the end as fit
/// beside the first. Beginning and end tell more.
fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let room = width.saturating_sub(1);
    // Places where a word begins.
    let begins: Vec<usize> = text
        .char_indices()
        .filter(|(_, character)| BETWEEN.contains(character))
        .map(|(place, _)| place + 1)
        .collect();
    // The first two words are not worth more than a third.
    let front = begins
        .iter()
        .rev()
        .copied()
        .find(|place| columns(&text[..*place]) <= room / 3)
        .unwrap_or(0);
    let rest = room - columns(&text[..front]);
    let back =
        begins.iter().copied().find(|place| *place > front && columns(&text[*place..]) <= rest);
    match back {
        Some(back) if back < text.len() => {
            Cow::Owned(format!("{}…{}", &text[..front], &text[back..]))
        }
        _ => {
            // One word alone is longer.
            let characters: Vec<char> = text.chars().collect();
            let front = room / 3;
            let start: String = characters.iter().take(front).collect();
            let end: String =
                characters.iter().skip(characters.len().saturating_sub(room - front)).collect();
            Cow::Owned(format!("{start}…{end}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> Table {
        let columns = [Column::Right, Column::Left, Column::Left, Column::Flexible];
        let head = ["SIZE", "TYPE", "SHAPE", "NAME"];
        let mut table = Table::new(&columns).with_head(&head).leaving_out(&[1, 2]);
        for (size, name) in [
            ("28.3 MB", "model_embed_tokens_weight"),
            ("885 kB", "model_layers_0_mlp_down_proj_weight_palettized"),
            ("7 B", "model_norm"),
        ] {
            table.row([size, "float16", "1 × 576 × 1 × 64", name]);
        }
        table
    }

    #[test]
    fn names_keep_their_words_on_narrow_terminals() {
        let wide = weights().render(None);
        assert!(
            wide.lines()
                .any(|line| line.ends_with("model_layers_0_mlp_down_proj_weight_palettized"))
        );
        assert_eq!(weights().render(Some(120)), wide);
        let text = weights().render(Some(60));
        let expected = "  names begin with model_\n\
                        \x20    SIZE  SHAPE             NAME\n\
                        \x20 28.3 MB  1 × 576 × 1 × 64  embed_tokens_weight\n\
                        \x20  885 kB  1 × 576 × 1 × 64  layers_0_…weight_palettized\n\
                        \x20     7 B  1 × 576 × 1 × 64  norm\n\
                        \x20 no room for TYPE\n";
        assert_eq!(text, expected);
        for width in [40, 50, 60, 80, 100] {
            let text = weights().render(Some(width));
            assert!(text.lines().all(|line| columns(line) <= width), "{width}\n{text}");
            assert!(text.contains("weight_palettized"), "{width}\n{text}");
        }
        assert!(weights().render(Some(40)).contains("no room for TYPE, SHAPE"));
    }

    #[test]
    fn one_long_word_loses_its_middle() {
        let mut table = Table::new(&[Column::Right, Column::Flexible]).with_head(&["N", "NAME"]);
        table.row(["7".to_owned(), "a".repeat(30) + "end"]);
        table.row(["12".to_owned(), "b".to_owned()]);
        let text = table.render(Some(24));
        assert_eq!(text, "   N  NAME\n   7  aaaaa…aaaaaaaaaend\n  12  b\n");
        assert!(table.render(None).contains(&"a".repeat(30)), "a pipe gets all");
    }

    #[test]
    fn sentences_go_on_in_the_next_line() {
        let mut table = Table::new(&[Column::Left, Column::Text]);
        table.row(["lint", "one finding that is told in several words"]);
        table.row(["size", "12 MB"]);
        assert_eq!(
            table.render(Some(30)),
            "  lint  one finding that is\n        told in several words\n  size  12 MB\n"
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut table = Table::new(&[Column::Left, Column::Left]);
        table.row(["语言", "a"]);
        table.row(["b", "c"]);
        assert_eq!(table.render(None), "  语言  a\n  b     c\n");
    }

    #[test]
    fn what_names_share_ends_with_a_word_and_leaves_each_name_one() {
        assert_eq!(common_prefix(&["model_layers_1", "model_layers_10"]), "model_layers_");
        assert_eq!(common_prefix(&["model_layers", "model_layers_10"]), "model_");
        assert_eq!(common_prefix(&["model_a", "model_a"]), "model_");
        for names in [&["größe_a", "größer_a"][..], &["model_layers_1"], &["a_b", "a_c"], &[]] {
            assert_eq!(common_prefix(names), "", "{names:?}");
        }
        assert_eq!(common_suffix(&["a_proj_weight", "norm_weight"]), "_weight");
        assert_eq!(common_suffix(&["weight", "norm_weight"]), "");
        assert_eq!(common_suffix(&["a.mlpackage", "b_a.mlpackage"]), ".mlpackage");
        assert_eq!(common_suffix(&["öa.mlpackage", "ña.mlpackage"]), ".mlpackage");
    }
}
