//! Standard output and standard error: what may be written there, in which colours, how wide.

use crate::bars::beside_bars;
use crate::output::stdout;
use crate::text::plain_lines;
use anstyle::{AnsiColor, Color, Style};
use std::borrow::Cow;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a model says, for the terminal that standard output is: lines and tabs stay, other control
/// characters become escapes. Marks of direction and joiners are part of scripts and stay, too. What
/// goes to a file or a pipe is what the model said.
pub fn answer(text: &str) -> Cow<'_, str> {
    if stdout().is_terminal() { harmless(text) } else { Cow::Borrowed(text) }
}

/// A text for standard output: where that is a terminal, control characters but line ends and tabs
/// become escapes, except in sequences that only choose a colour.
pub fn output(text: &str) -> Cow<'_, str> {
    if stdout().is_terminal() { with_colors_alone(text) } else { Cow::Borrowed(text) }
}

fn with_colors_alone(text: &str) -> Cow<'_, str> {
    let mut parts = text.split('\u{1b}');
    let first = harmless(parts.next().unwrap_or_default());
    let mut safe = first.into_owned();
    for part in parts {
        let length = part.strip_prefix('[').and_then(|rest| {
            let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != ';')?;
            rest[end..].starts_with('m').then_some(end + 2)
        });
        match length {
            Some(length) => {
                safe.push('\u{1b}');
                safe.push_str(&part[..length]);
                safe.push_str(&harmless(&part[length..]));
            }
            None => {
                safe.extend('\u{1b}'.escape_default());
                safe.push_str(&harmless(part));
            }
        }
    }
    Cow::Owned(safe)
}

fn harmless(text: &str) -> Cow<'_, str> {
    let controls = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if !text.chars().any(controls) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if controls(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Whether only errors are told on standard error.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Says whether only errors are to be told on standard error.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether only errors are told on standard error.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Where a text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl Stream {
    /// Whether texts have colours there: `--color`, else `NO_COLOR`, `CLICOLOR_FORCE` and what the
    /// terminal can.
    pub fn has_colors(self) -> bool {
        let choice = match self {
            Self::Output => stdout().colors(),
            Self::Error => anstream::AutoStream::choice(&std::io::stderr()),
        };
        choice != anstream::ColorChoice::Never
    }
}

const fn bold(color: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(color))).bold()
}

/// What failed.
pub const BAD: Style = bold(AnsiColor::Red);
/// What the user should look at.
pub const DOUBTFUL: Style = bold(AnsiColor::Yellow);
/// What is as it should be.
pub const GOOD: Style = bold(AnsiColor::Green);
/// What the user can do.
pub const ADVICE: Style = bold(AnsiColor::Cyan);
/// Titles.
pub const TITLE: Style = Style::new().bold();

/// A text in a style, where the stream has colours.
pub fn painted(stream: Stream, style: Style, text: &str) -> String {
    if stream.has_colors() { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// Writes a line for the user on standard error, unless `--quiet` was given. Nothing can be done when
/// standard error is closed.
pub fn tell(line: &str) {
    if !is_quiet() {
        tell_always(line);
    }
}

/// [`tell`] for errors, which `--quiet` does not hold back.
pub fn tell_always(line: &str) {
    let line = plain_lines(line);
    let text = if Stream::Error.has_colors() { highlighted(&line) } else { line };
    beside_bars(|| {
        let _ = writeln!(std::io::stderr(), "{text}");
    });
}

/// Lines with the words that they begin with in colours: `error[A0801]:`, `warning:`, `note:`, `hint:`.
fn highlighted(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| {
            let labels = [
                ("error", BAD),
                ("interrupted", BAD),
                ("warning", DOUBTFUL),
                ("note", TITLE),
                ("hint", ADVICE),
            ];
            let label = labels.iter().find(|(label, _)| {
                line.strip_prefix(label)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '[']))
            });
            let Some((_, style)) = label else { return line.to_owned() };
            let (head, rest) = line.split_once(": ").unwrap_or((line, ""));
            let colon = if head.len() < line.len() { ": " } else { "" };
            format!("{style}{head}{style:#}{colon}{rest}")
        })
        .collect();
    lines.join("\n")
}

/// Columns that lines of standard output may take: what the variable `COLUMNS` says, else the width of
/// the terminal; `None` where it is a file or a pipe, whose lines are not cut.
pub fn width() -> Option<usize> {
    const LEAST: usize = 40;
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse::<usize>().ok());
    if let Some(columns) = said.filter(|columns| *columns > 0) {
        return Some(columns.max(LEAST));
    }
    if !stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0).max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_their_script_but_steer_nothing() {
        assert_eq!(harmless("a\tb\n👩‍👩‍👧 \u{200f}שלום"), "a\tb\n👩‍👩‍👧 \u{200f}שלום");
        assert_eq!(harmless("\u{1b}]0;title\u{7}\r\u{9b}2J"), "\\u{1b}]0;title\\u{7}\\r\\u{9b}2J");
    }

    #[test]
    fn of_sequences_only_colours_pass() {
        let colours = "\u{1b}[1m\u{1b}[32mok\u{1b}[0m a\n";
        assert_eq!(with_colors_alone(colours), colours);
        assert_eq!(
            with_colors_alone("a\u{1b}[2J\u{1b}]0;t\u{7}\u{1b}\u{1b}[38;5;1"),
            "a\\u{1b}[2J\\u{1b}]0;t\\u{7}\\u{1b}\\u{1b}[38;5;1"
        );
    }

    #[test]
    fn words_at_the_beginning_have_colours() {
        let text = highlighted("error[A0801]: no: such\n  --> hint: place\nhint: look\nnotes: 3");
        let expected = format!(
            "{BAD}error[A0801]{BAD:#}: no: such\n  --> hint: place\n{ADVICE}hint{ADVICE:#}: look\nnotes: 3"
        );
        assert_eq!(text, expected);
        assert_eq!(highlighted("interrupted"), format!("{BAD}interrupted{BAD:#}"));
    }
}
