//! How the events of a conversion are shown: bars and lines on standard error, or JSON objects.

pub use anemll_export::shell_word;
pub use anemll_pipeline::event::{Event, Outcome, Shipped};
use anemll_terminal as terminal;
use anemll_terminal::set_current;
pub use anemll_terminal::{Bar, LogWriter, Unit};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// [`shell_word`] of a path.
pub fn shell_path(path: &Path) -> String {
    shell_word(&path.to_string_lossy())
}

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Not at all.
    Quiet,
    /// Lines on standard error, with a bar where that is a terminal.
    Lines,
    /// One JSON object for each event, a line each, on standard output.
    Json,
}

/// Shows events.
pub struct Reporter {
    display: Display,
    bar: RefCell<Option<(String, Arc<Bar>)>>,
    /// When each kind of work began, which may go on after other lines.
    began: RefCell<BTreeMap<String, Instant>>,
    /// The last progress that was told as JSON, in percent.
    percent: RefCell<Option<(String, u64)>>,
}

impl Reporter {
    /// A reporter.
    pub fn new(display: Display) -> Self {
        Self {
            display,
            bar: RefCell::new(None),
            began: RefCell::new(BTreeMap::new()),
            percent: RefCell::new(None),
        }
    }

    /// Shows an event. A closed standard output or error is no reason to stop a conversion.
    pub fn show(&self, event: &Event<'_>) {
        match self.display {
            Display::Quiet => {}
            Display::Json => {
                if !self.is_news(event) {
                    return;
                }
                let line = serde_json::to_string(event).unwrap_or_default();
                let _ = anemll_terminal::stdout().write_all(format!("{line}\n").as_bytes());
            }
            Display::Lines => self.show_line(event),
        }
    }

    /// Bytes and tokens are told as JSON when another percent of them is done.
    fn is_news(&self, event: &Event<'_>) -> bool {
        if !matches!(event, Event::Source { .. } | Event::Download { .. } | Event::Measure { .. }) {
            return true;
        }
        let Some((what, done, total)) = event.progress() else { return true };
        let percent = (what, done.saturating_mul(100) / total.max(1));
        self.percent.borrow_mut().replace(percent.clone()) != Some(percent)
    }

    fn show_line(&self, event: &Event<'_>) {
        let mut bar = self.bar.borrow_mut();
        if let Some((what, done, total)) = event.progress() {
            if bar.as_ref().is_none_or(|(shown, _)| *shown != what) {
                // The old one goes before the new one comes.
                end(bar.take());
                let mut began = self.began.borrow_mut();
                if done == 0 {
                    // The same again, from its beginning.
                    began.remove(&what);
                }
                let began = *began.entry(what.clone()).or_insert_with(Instant::now);
                let unit = event.unit().map_or(Unit::Bytes, Unit::Count);
                let new = Arc::new(Bar::since(began, &what, total, unit));
                set_current(Some(Arc::clone(&new)));
                *bar = Some((what, new));
            }
            if let Some((_, bar)) = &*bar {
                bar.set(done);
            }
            return;
        }
        end(bar.take());
        if let Some(line) = event.line() {
            terminal::tell(&line);
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        end(self.bar.borrow_mut().take());
    }
}

/// Takes a bar away.
fn end(bar: Option<(String, Arc<Bar>)>) {
    if bar.is_some() {
        set_current(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_typed() {
        assert_eq!(shell_word("./out/a-b_c.d"), "./out/a-b_c.d");
        assert_eq!(shell_word("it's"), "\"it's\"");
        assert_eq!(shell_word("$x y"), "'$x y'");
        assert_eq!(shell_word(""), "''");
    }
}
