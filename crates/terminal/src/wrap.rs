//! Text that comes piece by piece, broken between words at the width of a terminal.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Breaks lines between words. Lines of code between fences (```) stay as they are, so that they can
/// be copied; what goes on an item of a list is indented as its text.
#[derive(Debug, Default)]
pub struct Wrap {
    width: Option<usize>,
    /// Columns of the line that are written.
    column: usize,
    /// Columns that a line which goes on begins with.
    indent: usize,
    /// Whether only spaces and marks of a list were written of the line.
    leading: bool,
    /// Spaces before the word, and the word, which are held until it is complete.
    spaces: String,
    word: String,
    /// The beginning of the line as it came, to know a fence.
    head: String,
    fenced: bool,
}

impl Wrap {
    /// Lines of at most so many columns; without a width all passes as it is.
    pub fn new(width: Option<usize>) -> Self {
        Self { width, leading: true, ..Self::default() }
    }

    /// What can be written after more text. A word comes when what follows it shows its end.
    pub fn push(&mut self, text: &str) -> String {
        let Some(width) = self.width else { return text.to_owned() };
        let mut written = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '\n' => {
                    self.place(width, &mut written);
                    written.push('\n');
                    self.fenced ^= self.head.starts_with(FENCE);
                    let fenced = self.fenced;
                    *self = Self { fenced, ..Self::new(self.width) };
                    continue;
                }
                ' ' | '\t' => {
                    self.place(width, &mut written);
                    self.spaces.push(character);
                }
                _ => {
                    // Scripts of wide characters have no spaces, and break anywhere.
                    let wide = character.width() == Some(2);
                    if wide {
                        self.place(width, &mut written);
                    }
                    self.word.push(character);
                    if wide {
                        self.place(width, &mut written);
                    }
                }
            }
            if self.head.len() < FENCE.len() && !(self.head.is_empty() && character == ' ') {
                self.head.push(character);
            }
        }
        written
    }

    /// What was held back, when nothing more comes.
    pub fn finish(&mut self) -> String {
        let mut written = String::new();
        if let Some(width) = self.width {
            self.place(width, &mut written);
        }
        *self = Self::new(self.width);
        written
    }

    /// Writes the word that is held, on a new line where it does not fit.
    fn place(&mut self, width: usize, written: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let columns = self.word.width();
        let before: usize =
            self.spaces.chars().map(|space| if space == '\t' { 8 } else { 1 }).sum();
        let code = self.fenced || self.head.starts_with(FENCE);
        if self.column > 0 && !code && self.column + before + columns > width {
            written.push('\n');
            written.extend(std::iter::repeat_n(' ', self.indent));
            self.column = self.indent;
        } else {
            written.push_str(&self.spaces);
            self.column += before;
        }
        self.spaces.clear();
        if self.leading {
            self.leading = is_mark(&self.word);
            let text = self.column + if self.leading { columns + 1 } else { 0 };
            self.indent = if text * 2 < width { text } else { 0 };
        }
        written.push_str(&self.word);
        self.word.clear();
        // The terminal breaks what is longer than a line.
        self.column = match self.column + columns {
            columns if columns > width => columns % width,
            columns => columns,
        };
    }
}

const FENCE: &str = "```";

/// Whether a word begins an item of a list: `-`, `*`, `•`, `7.` or `7)`.
fn is_mark(word: &str) -> bool {
    let number = word.strip_suffix(['.', ')']).unwrap_or_default();
    matches!(word, "-" | "*" | "+" | "•")
        || (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text wrapped, given in pieces of each size, which must not matter.
    fn wrapped(width: usize, text: &str) -> String {
        let characters: Vec<char> = text.chars().collect();
        let results = [1, 3, 1000].map(|size| {
            let mut wrap = Wrap::new(Some(width));
            let pieces = characters.chunks(size);
            let mut written: String =
                pieces.map(|piece| wrap.push(&piece.iter().collect::<String>())).collect();
            written += &wrap.finish();
            written
        });
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
        results[0].clone()
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped(10, "one two three four"), "one two\nthree four");
        assert_eq!(wrapped(10, "one two\nthree\n\nfour"), "one two\nthree\n\nfour");
        assert_eq!(wrapped(5, "a toolongword b"), "a\ntoolongword b");
        assert_eq!(wrapped(80, "a  b "), "a  b");
        assert_eq!(Wrap::new(None).push("one two three "), "one two three ");
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        let text = "The quick brown fox jumps over the lazy dog and 日本語のとても長い文 goes on "
            .repeat(9);
        for width in [60, 80, 120] {
            let lines = wrapped(width, &text);
            for line in lines.lines() {
                assert!(line.width() <= width, "{line}");
                assert!(line.width() + 7 > width || lines.ends_with(line), "too early: {line}");
            }
        }
    }

    #[test]
    fn items_go_on_below_their_text_and_code_stays() {
        assert_eq!(wrapped(12, "- one two three"), "- one two\n  three");
        assert_eq!(wrapped(14, " 2. one two three"), " 2. one two\n    three");
        let code = "```sh\nlet a = one two three four five\n```\n";
        assert_eq!(wrapped(12, code), code);
        assert_eq!(wrapped(10, &format!("{code}one two three")), format!("{code}one two\nthree"));
    }
}
