//! Text for a terminal: names from files made harmless, numbers for people, tables.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

/// A text of one line that cannot steer a terminal: control characters, and marks that turn the
/// direction of writing, become escapes such as `\u{1b}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if steers(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// As [`plain`], but lines stay lines.
pub fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

fn steers(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{61c}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Bytes for people, in decimal units as stores and file managers show them.
pub fn size(bytes: u64) -> String {
    scaled(bytes, &["B", "kB", "MB", "GB", "TB"])
}

/// A count for people: 1234, 12.3 k, 1.24 G.
pub fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        _ => scaled(number, &["", "k", "M", "G", "T"]),
    }
}

fn scaled(number: u64, units: &[&str]) -> String {
    let mut value = number as f64;
    let mut unit = 0;
    // The limit is where three digits would round up to four.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", units[unit]).trim_end().to_owned()
}

/// Sizes with a sign between: `1 × 64 × 256`; `scalar` for none.
pub fn shape(sizes: &[u64]) -> String {
    if sizes.is_empty() {
        return "scalar".to_owned();
    }
    sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ")
}

/// A number with some four digits: 0.00123, -12.3, 1.5e9.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    match magnitude {
        0.0 => "0".to_owned(),
        _ if !value.is_finite() => value.to_string(),
        0.001..1.0 => trimmed(format!("{value:.4}")),
        1.0..10.0 => trimmed(format!("{value:.3}")),
        10.0..1000.0 => trimmed(format!("{value:.2}")),
        1000.0..1e6 => trimmed(format!("{value:.0}")),
        _ => format!("{value:.2e}"),
    }
}

fn trimmed(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Columns of standard output where it is a terminal; `None` where it is a file or a pipe, whose
/// lines are not cut.
pub fn width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0).max(40))
}

/// A text whose lines are at most `width` columns wide, where one is given: longer ones go on in the
/// next line, indented by two more. Words that are longer themselves stay whole.
pub fn wrapped_lines(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let mut result = String::with_capacity(text.len() + text.len() / 16);
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let mut column = 0;
        for word in line.trim_end_matches('\n').trim_start_matches(' ').split(' ') {
            let length = word.chars().count();
            if column == 0 {
                result.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            } else if column + 1 + length > width {
                result.push('\n');
                result.extend(std::iter::repeat_n(' ', indent + 2));
                column = indent + 2;
            } else {
                result.push(' ');
                column += 1;
            }
            result.push_str(word);
            column += length;
        }
        if line.ends_with('\n') {
            result.push('\n');
        }
    }
    result
}

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// At the left.
    Left,
    /// At the right, for numbers.
    Right,
    /// At the left; cut in the middle where the line is too long. One column at most.
    Flexible,
}

/// Rows of cells, set in columns of equal width.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    indent: usize,
    head: Option<Vec<String>>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without a head, indented by two.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), indent: 2, head: None, rows: Vec::new() }
    }

    /// Gives the columns titles.
    pub fn with_head(mut self, titles: &[&str]) -> Self {
        self.head = Some(titles.iter().map(|title| (*title).to_owned()).collect());
        self
    }

    /// Adds a row; its cells are made [`plain`].
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell).into_owned()).collect());
    }

    /// The lines, each at most `width` wide where one is given and the flexible column allows.
    pub fn render(&self, width: Option<usize>) -> String {
        let all = || self.head.iter().chain(&self.rows);
        let length = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = (0..self.columns.len())
            .map(|column| all().filter_map(|row| row.get(column)).map(|c| length(c)).max())
            .map(|longest| longest.unwrap_or(0))
            .collect();
        if let (Some(width), Some(flexible)) =
            (width, self.columns.iter().position(|column| *column == Column::Flexible))
        {
            let others: usize = widths.iter().sum::<usize>() - widths[flexible];
            let gaps = self.indent + 2 * self.columns.len().saturating_sub(1);
            let room = width.saturating_sub(others + gaps).max(12);
            widths[flexible] = widths[flexible].min(room);
        }
        let mut text = String::new();
        for row in all() {
            let mut line = " ".repeat(self.indent);
            for (index, (cell, (column, width))) in
                row.iter().zip(self.columns.iter().zip(&widths)).enumerate()
            {
                if index > 0 {
                    line.push_str("  ");
                }
                let cell = shortened(cell, *width);
                let _ = match column {
                    Column::Right => write!(line, "{cell:>width$}"),
                    Column::Left | Column::Flexible => write!(line, "{cell:<width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Cuts the middle out of a text that is longer than `width`; beginning and end tell more.
fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    let length = text.chars().count();
    if length <= width {
        return Cow::Borrowed(text);
    }
    let kept = width.saturating_sub(1);
    let front = kept / 3;
    let start: String = text.chars().take(front).collect();
    let end: String = text.chars().skip(length - (kept - front)).collect();
    Cow::Owned(format!("{start}…{end}"))
}

/// Words set in lines of at most `width` (100 where none is given) behind an indent.
pub fn wrapped<'a>(
    words: impl IntoIterator<Item = &'a str>,
    separator: &str,
    indent: usize,
    width: Option<usize>,
) -> String {
    let width = width.unwrap_or(100);
    let mut text = String::new();
    let mut line = " ".repeat(indent);
    let mut empty = true;
    for word in words {
        let word = plain(word);
        let needed = line.chars().count() + separator.len() + word.chars().count();
        if !empty && needed > width {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push_str(separator);
        }
        line.push_str(&word);
        empty = false;
    }
    if !empty {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(plain("model_layers_0"), "model_layers_0");
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d\u{9b}e"), "a\\u{1b}[2Jb\\nc\\u{202e}d\\u{9b}e");
        assert_eq!(plain_lines("a\u{7}\nb"), "a\\u{7}\nb");
        assert_eq!(plain("größe × 语言"), "größe × 语言");
    }

    #[test]
    fn sizes_have_three_digits() {
        let text: Vec<String> =
            [0, 999, 1000, 9_994, 12_345, 999_499, 999_500, 82_578_944, u64::MAX]
                .into_iter()
                .map(size)
                .collect();
        assert_eq!(
            text,
            [
                "0 B",
                "999 B",
                "1.00 kB",
                "9.99 kB",
                "12.3 kB",
                "999 kB",
                "1.00 MB",
                "82.6 MB",
                "18446744 TB"
            ]
        );
        assert_eq!(count(9_999), "9999");
        assert_eq!(count(163_500_000), "164 M");
        assert_eq!(number(-0.001234), "-0.0012");
        assert_eq!(number(2.5), "2.5");
        assert_eq!(number(1e-7), "1.00e-7");
    }

    #[test]
    fn long_names_lose_their_middle() {
        let mut table = Table::new(&[Column::Right, Column::Flexible]).with_head(&["N", "NAME"]);
        table.row(["7".to_owned(), "a".repeat(30) + "end"]);
        table.row(["12".to_owned(), "b".to_owned()]);
        let text = table.render(Some(24));
        assert_eq!(text, "   N  NAME\n   7  aaaaa…aaaaaaaaaend\n  12  b\n");
        assert!(text.lines().all(|line| line.chars().count() <= 24), "{text}");
        assert!(table.render(None).contains(&"a".repeat(30)), "a pipe gets all");
    }

    #[test]
    fn words_wrap() {
        let text = wrapped(["mul 422", "conv 188", "add 1"], ", ", 2, Some(20));
        assert_eq!(text, "  mul 422, conv 188\n  add 1\n");
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = "note: one two three four\n  and: five six\n\nlongerthananything x\nlast";
        assert_eq!(wrapped_lines(text, None), text);
        assert_eq!(
            wrapped_lines(text, Some(14)),
            "note: one two\n  three four\n  and: five\n    six\n\nlongerthananything\n  x\nlast"
        );
        assert_eq!(wrapped_lines(text, Some(40)), text);
        assert_eq!(wrapped_lines("a  b\n", Some(40)), "a  b\n");
    }
}
