//! What a conversion tells while it runs, and the three ways of showing it: lines, lines with bars
//! on a terminal, JSON objects.

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};

/// Something that happened. The JSON form is described in docs/reference/progress.md.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The model is known and its packages are laid out.
    Started {
        /// Name of the model directory.
        model: &'a str,
        /// First of its `architectures`.
        architecture: &'a str,
        /// Id of the arch frontend.
        arch: &'a str,
        /// Transformer layers.
        layers: u32,
        /// Elements of all weights.
        parameters: u64,
        /// Packages that an app loads.
        packages: usize,
        /// Id of the combiner.
        combiner: &'a str,
        /// Tokens of context.
        context: u64,
        /// Tokens of one prefill call.
        batch: u64,
    },
    /// A remark.
    Note {
        /// What it says.
        text: &'a str,
    },
    /// Bytes of a file are downloaded.
    Download {
        /// Name of the file.
        file: &'a str,
        /// How many are there.
        done: u64,
        /// How many there are to be.
        total: u64,
    },
    /// Weights of a file are written.
    Weights {
        /// Id of the weight file.
        file: &'a str,
        /// How many are done.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// A step is done, or was left out.
    Step {
        /// Its number in the scripts.
        number: u32,
        /// What it does.
        title: &'a str,
        /// What came of it; may be empty.
        message: &'a str,
    },
    /// Something that the user should read.
    Warning {
        /// What it says.
        text: &'a str,
    },
    /// All is done.
    Done {
        /// Wall time.
        seconds: f64,
        /// Path of meta.yaml.
        meta: &'a str,
    },
}

impl Event<'_> {
    /// The line for people; what bars show has none.
    pub fn line(&self) -> Option<String> {
        Some(match self {
            Self::Started {
                model,
                architecture,
                arch,
                layers,
                parameters,
                packages,
                combiner,
                context,
                batch,
            } => format!(
                "{model}: {architecture} ({arch}), {layers} layers, {:.1} M parameters; {packages} \
                 package{} ({combiner}), context {context}, batch {batch}",
                *parameters as f64 / 1e6,
                if *packages == 1 { "" } else { "s" }
            ),
            Self::Note { text } => format!("note: {text}"),
            Self::Download { .. } | Self::Weights { .. } => return None,
            Self::Step { number, title, message: "" } => format!("step {number}: {title}"),
            Self::Step { number, title, message } => format!("step {number}: {title}: {message}"),
            Self::Warning { text } => format!("warning: {text}"),
            Self::Done { seconds, meta } => format!("done in {seconds:.1} s: {meta}"),
        })
    }
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
    bar: RefCell<Option<ProgressBar>>,
}

impl Reporter {
    /// A reporter.
    pub fn new(display: Display) -> Self {
        Self { display, bar: RefCell::new(None) }
    }

    /// Shows an event. A closed standard output or error is no reason to stop a conversion.
    pub fn show(&self, event: &Event<'_>) {
        match self.display {
            Display::Quiet => {}
            Display::Json => {
                let line = serde_json::to_string(event).unwrap_or_default();
                let _ = writeln!(std::io::stdout(), "{line}");
            }
            Display::Lines => self.show_line(event),
        }
    }

    fn show_line(&self, event: &Event<'_>) {
        let mut bar = self.bar.borrow_mut();
        let counted = match event {
            Event::Weights { file, done, total } => {
                Some((file, done, total, "{pos}/{len} weights"))
            }
            Event::Download { file, done, total } => {
                Some((file, done, total, "{binary_bytes}/{binary_total_bytes} {eta:>4}"))
            }
            _ => None,
        };
        if let Some((file, done, total, count)) = counted {
            if !std::io::stderr().is_terminal() {
                return;
            }
            let bar = bar.get_or_insert_with(|| {
                let style =
                    ProgressStyle::with_template(&format!("{{msg:<12}} {{bar:32}} {count}"));
                ProgressBar::new(*total)
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_length(*total);
            bar.set_message(crate::terminal::plain(file).into_owned());
            bar.set_position(*done);
            return;
        }
        if let Some(bar) = bar.take() {
            bar.finish_and_clear();
        }
        if let Some(line) = event.line() {
            // Titles, notes and names come from plugins and models.
            let _ = writeln!(std::io::stderr(), "{}", crate::terminal::plain_lines(&line));
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        // An error message must not stand behind a bar.
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_a_line_and_a_json_form() {
        let step = Event::Step { number: 6, title: "compile", message: "left out" };
        assert_eq!(step.line().unwrap(), "step 6: compile: left out");
        assert_eq!(
            serde_json::to_string(&step).unwrap(),
            r#"{"event":"step","number":6,"title":"compile","message":"left out"}"#
        );
        let bare = Event::Step { number: 7, title: "tokenizer", message: "" };
        assert_eq!(bare.line().unwrap(), "step 7: tokenizer");
        assert!(Event::Weights { file: "chunk_01", done: 1, total: 9 }.line().is_none());
    }
}
