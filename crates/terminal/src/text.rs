//! Texts for people: names from files made harmless, numbers, lines that are not too long.

pub use anemll_files::size;

use std::borrow::Cow;
use unicode_width::UnicodeWidthStr as _;

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

/// Columns that a text takes.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// A duration for people: `4.2 s`, `2 min 5 s`, `1 h 3 min`.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    duration_in_seconds(seconds)
}

/// A duration for people, in whole seconds.
pub fn duration_in_seconds(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
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

/// A count for people: 1234, 12.3 k, 1.24 G.
pub fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        _ => anemll_files::scaled(number, &["", "k", "M", "G", "T"]),
    }
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

/// The words of a sentence, a number with its unit as one; one that is longer than `width` is taken
/// apart behind strokes, dots and the like.
pub fn words(text: &str, width: Option<usize>) -> Vec<String> {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "s", "min", "h", "%"];
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let unit = UNITS.contains(&word.trim_end_matches([',', ';', '.', ')']));
        match words.last_mut() {
            Some(last) if unit && last.ends_with(|end: char| end.is_ascii_digit()) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    let Some(width) = width else { return words };
    let apart = |word: String| {
        if columns(&word) <= width {
            return vec![word];
        }
        let mut parts = vec![String::new()];
        for piece in word.split_inclusive(['/', '-', '_', '.', ',']) {
            match parts.last_mut() {
                Some(last) if columns(last) + columns(piece) <= width => last.push_str(piece),
                _ => parts.push(piece.to_owned()),
            }
        }
        parts.retain(|part| !part.is_empty());
        parts
    };
    words.into_iter().flat_map(apart).collect()
}

/// A text whose lines are at most `width` columns wide, where one is given: longer ones go on in the
/// next line, indented by two more.
pub fn wrapped_lines(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let line = |line: &str| {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let room = width.saturating_sub(indent + 2);
        set(words(&line[indent..], Some(room)), " ", [indent, indent + 2], width)
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Words set in lines of at most `width` (100 where none is given) behind an indent.
pub fn wrapped<'a>(
    words: impl IntoIterator<Item = &'a str>,
    separator: &str,
    indent: usize,
    width: Option<usize>,
) -> String {
    let mut words = words.into_iter().map(plain).peekable();
    if words.peek().is_none() {
        return String::new();
    }
    set(words, separator, [indent; 2], width.unwrap_or(100)) + "\n"
}

/// Words in lines of at most `width` columns, unless a word alone is wider, behind one indent in the
/// first line and another in the rest. What separates two words stays at the end of a line, without
/// the blanks.
fn set(
    words: impl IntoIterator<Item = impl AsRef<str>>,
    separator: &str,
    [first, others]: [usize; 2],
    width: usize,
) -> String {
    let end = separator.trim_end();
    let width = width.saturating_sub(columns(end));
    let mut text = String::new();
    let mut column = 0;
    for (number, word) in words.into_iter().enumerate() {
        let word = word.as_ref();
        if number == 0 {
            text.extend(std::iter::repeat_n(' ', first));
            column = first;
        } else if column + columns(separator) + columns(word) > width {
            text.push_str(end);
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', others));
            column = others;
        } else {
            text.push_str(separator);
            column += columns(separator);
        }
        text.push_str(word);
        column += columns(word);
    }
    text.truncate(text.trim_end_matches(' ').len());
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
    fn counts_and_numbers_are_short() {
        assert_eq!(count(9_999), "9999");
        assert_eq!(count(163_500_000), "164 M");
        assert_eq!(number(-0.001234), "-0.0012");
        assert_eq!(number(2.5), "2.5");
        assert_eq!(number(1e-7), "1.00e-7");
    }

    #[test]
    fn durations_have_the_units_of_their_size() {
        let text = [0.0, 4.23, 9.9, 59.4, 125.0, 3780.0].map(duration);
        assert_eq!(text, ["0.0 s", "4.2 s", "9.9 s", "59 s", "2 min 5 s", "1 h 3 min"]);
    }

    #[test]
    fn numbers_stay_with_their_units_and_paths_come_apart() {
        let text = "alone 257 MB, in 3 s (45 %)";
        assert_eq!(words(text, None), ["alone", "257 MB,", "in", "3 s", "(45 %)"]);
        assert_eq!(
            words("in /tmp/plugins/liblut.so", Some(14)),
            ["in", "/tmp/plugins/", "liblut.so"]
        );
        assert_eq!(wrapped_lines("note: a b c\n\nend\n", Some(9)), "note: a b\n  c\n\nend\n");
        assert_eq!(wrapped_lines("note: a b c d\n", None), "note: a b c d\n");
    }

    #[test]
    fn words_wrap() {
        let text = wrapped(["mul 422", "conv 188", "add 1"], ", ", 2, Some(20));
        assert_eq!(text, "  mul 422, conv 188,\n  add 1\n");
        assert_eq!(wrapped([], ", ", 2, None), "");
        assert_eq!(wrapped("a  b ".split(' '), " ", 0, Some(2)), "a\nb\n");
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
