//! The editor of lines: several lines in one message, and nothing but the terminal's own colours.

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use anemll_services::waiting;
use anemll_terminal::{Stream, TITLE, painted, with_process_output};
use nu_ansi_term::Style;
use reedline::{
    Highlighter, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline,
    Signal, StyledText, ValidationResult, Validator,
};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A message, of one line or several.
    Message(String),
    /// Ctrl-C; what was typed is gone.
    Break,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// An editor, with what was typed before. That lives in memory: what was asked is nobody's business
/// later.
pub(crate) struct Editor {
    reedline: Reedline,
    continued: Continued,
    mark: String,
}

impl Editor {
    pub(crate) fn new() -> Self {
        let continued = Continued::default();
        let reedline = Reedline::create()
            .use_bracketed_paste(true)
            .with_ansi_colors(Stream::Output.has_colors())
            .with_highlighter(Box::new(Plain))
            .with_validator(Box::new(continued.clone()));
        Self { reedline, continued, mark: painted(Stream::Output, TITLE, "> ") }
    }

    /// The next message.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub(crate) fn read(&mut self) -> Result<Line> {
        self.continued.clear();
        let mark = Mark(&self.mark);
        match with_process_output(|| waiting(|| self.reedline.read_line(&mark))) {
            Ok(Signal::Success(text)) => Ok(Line::Message(self.continued.joined(text))),
            Ok(Signal::CtrlC) => Ok(Line::Break),
            Ok(_) => Ok(Line::End),
            Err(source) => Err(Error::new(
                codes::PROMPT_INVALID,
                format!("the terminal cannot be read: {source}"),
            )),
        }
    }
}

/// Text in the colours that the terminal has for text, since only those are sure to be readable.
struct Plain;

impl Highlighter for Plain {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut text = StyledText::new();
        text.push((Style::new(), line.to_owned()));
        text
    }
}

/// What stands before a message.
struct Mark<'a>(&'a str);

impl Prompt for Mark<'_> {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("  ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing found ",
        };
        Cow::Owned(format!("({failing}search: {}) ", search.term))
    }

    fn get_prompt_color(&self) -> reedline::Color {
        reedline::Color::Reset
    }

    fn get_prompt_multiline_color(&self) -> nu_ansi_term::Color {
        nu_ansi_term::Color::Default
    }

    fn get_indicator_color(&self) -> reedline::Color {
        reedline::Color::Reset
    }

    fn get_prompt_right_color(&self) -> reedline::Color {
        reedline::Color::Reset
    }
}

/// Where Enter behind a backslash went on with a message. Other backslashes at ends of lines, such as
/// those of pasted commands, belong to the text.
#[derive(Clone, Default)]
struct Continued(Arc<Mutex<Vec<usize>>>);

impl Continued {
    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The text without the backslashes that stood for another line.
    fn joined(&self, mut text: String) -> String {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        places.sort_unstable();
        places.dedup();
        for place in places.into_iter().rev() {
            // What was edited since is no longer there.
            if text.get(place..).is_some_and(|rest| rest.starts_with("\\\n")) {
                text.remove(place);
            }
        }
        text
    }
}

impl Validator for Continued {
    fn validate(&self, line: &str) -> ValidationResult {
        if !line.ends_with('\\') {
            return ValidationResult::Complete;
        }
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.push(line.len() - 1);
        ValidationResult::Incomplete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_before_enter_is_taken_out_and_a_pasted_one_stays() {
        let continued = Continued::default();
        let pasted = "docker run \\\n  image\nand ";
        assert!(matches!(
            continued.validate(&format!("{pasted}then\\")),
            ValidationResult::Incomplete
        ));
        let whole = format!("{pasted}then\\\nmore");
        assert!(matches!(continued.validate(&whole), ValidationResult::Complete));
        assert_eq!(continued.joined(whole), format!("{pasted}then\nmore"));
        // The text before the place became another one.
        assert_eq!(continued.joined("é".repeat(20)), "é".repeat(20));
        continued.clear();
        assert_eq!(continued.joined("a\\\nb".to_owned()), "a\\\nb");
    }

    #[test]
    fn nothing_is_painted_in_a_fixed_colour() {
        let text = Plain.highlight("Hello", 0).buffer;
        assert_eq!(text, [(Style::new(), "Hello".to_owned())]);
        assert_eq!(Mark("> ").get_prompt_color(), reedline::Color::Reset);
    }
}
