//! What happens in a conversion, as whoever shows it is told.

use anemll_calibration::Quality;
use anemll_export::shell_word;
use anemll_terminal as terminal;
use anemll_terminal::plain_lines;
use serde::Serialize;
use std::fmt::Write as _;

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
    /// Bytes are downloaded.
    Download {
        /// Name of the file that is being loaded.
        file: &'a str,
        /// How many bytes of the whole download are there.
        done: u64,
        /// How many there are to be, of all files.
        total: u64,
    },
    /// Bytes of the model are hashed.
    Source {
        /// How many are done.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// What a model does is measured.
    Measure {
        /// What for: `calibrating`, `judging`.
        what: &'a str,
        /// What is counted: `tokens`, `weights` or `questions`.
        unit: &'static str,
        /// How many are done.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// Weights of a file are written.
    Weights {
        /// Id of the weight file.
        file: &'a str,
        /// Its number, from 1.
        number: usize,
        /// How many weight files there are.
        files: usize,
        /// Weights that are done.
        done: u64,
        /// Weights that there are.
        total: u64,
        /// Bytes, as 16-bit floats, that are done of all files of this run.
        done_bytes: u64,
        /// Bytes of all files of this run as 16-bit floats.
        total_bytes: u64,
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
    /// How far the converted model is from the original.
    Quality(&'a Quality),
    /// Something that the user should read.
    Warning {
        /// What it says.
        text: &'a str,
    },
    /// All is done.
    Done(&'a Outcome<'a>),
}

/// What a conversion came to.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome<'a> {
    /// Wall time.
    pub seconds: f64,
    /// Path of meta.yaml; of the output directory where there is none.
    pub meta: &'a str,
    /// The output directory, as it was typed.
    pub output: &'a str,
    /// Files that an app loads.
    pub files: Vec<Shipped>,
    /// Whether the packages ran here, and on what: `4 tokens ran, all values finite`; empty where
    /// they did not.
    pub tested: &'a str,
    /// Whether Apple's system has loaded them.
    pub loaded_by_apple: bool,
    /// Whether `anemll chat` can open the directory: there are meta.yaml and a tokenizer.
    pub can_chat: bool,
    /// Whether `anemll embed` can.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub can_embed: bool,
}

/// A file that an app loads.
#[derive(Debug, Clone, Serialize)]
pub struct Shipped {
    /// Name in the output directory.
    pub name: String,
    /// Bytes of its weights and its program.
    pub bytes: u64,
    /// Whether it was compiled.
    pub compiled: bool,
}

/// Files that are named at the end of a conversion; of more, the number is told.
const NAMED: usize = 2;

impl Outcome<'_> {
    /// The lines for people, without an end of line.
    fn text(&self) -> String {
        let total: u64 = self.files.iter().map(|file| file.bytes).sum();
        let mut text = format!(
            "done in {}: {} in {}",
            terminal::duration(self.seconds),
            terminal::size(total),
            self.output
        );
        let names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        match names[..] {
            [] => {}
            [.., last] if names.len() > NAMED => {
                let _ =
                    write!(text, "\n  apps load    {} … {last} ({} files)", names[0], names.len());
            }
            _ => {
                let _ = write!(text, "\n  apps load    {}", names.join(", "));
            }
        }
        if !self.tested.is_empty() {
            let _ = write!(text, "\n  tested here  {}", self.tested);
        }
        if !self.files.is_empty() && !self.loaded_by_apple {
            text += "\n  not yet      loaded on Apple hardware: try it there before you ship it";
        }
        if self.can_chat {
            let _ = write!(text, "\n  talk to it   anemll chat {}", shell_word(self.output));
        }
        if self.can_embed {
            let output = shell_word(self.output);
            let _ = write!(text, "\n  try it       anemll embed --meta {output} \"a text\"");
        }
        text
    }
}

impl Event<'_> {
    /// The line for people; what bars show has none.
    pub fn line(&self) -> Option<String> {
        let line = match self {
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
            Self::Download { .. }
            | Self::Source { .. }
            | Self::Measure { .. }
            | Self::Weights { .. } => return None,
            Self::Step { number, title, message: "" } => format!("step {number}: {title}"),
            Self::Step { number, title, message } => format!("step {number}: {title}: {message}"),
            Self::Quality(quality) => format!("quality: {quality}"),
            Self::Warning { text } => format!("warning: {text}"),
            Self::Done(outcome) => outcome.text(),
        };
        // Names come from models and plugins.
        Some(plain_lines(&line))
    }

    /// What [`Self::progress`] counts, where that is not bytes.
    pub fn unit(&self) -> Option<&'static str> {
        match self {
            Self::Measure { unit, .. } => Some(unit),
            _ => None,
        }
    }

    /// What is counted, how much of it is done, and how much there is.
    pub fn progress(&self) -> Option<(String, u64, u64)> {
        match self {
            Self::Download { file, done, total } => {
                Some((format!("downloading {file}"), *done, *total))
            }
            Self::Source { done, total } => Some(("reading the model".to_owned(), *done, *total)),
            Self::Measure { what, done, total, .. } => Some(((*what).to_owned(), *done, *total)),
            Self::Weights { done_bytes, total_bytes, .. } => {
                Some(("weights".to_owned(), *done_bytes, *total_bytes))
            }
            _ => None,
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
        let download = Event::Download { file: "model.safetensors", done: 1, total: 9 };
        assert!(download.line().is_none());
        assert_eq!(
            serde_json::to_string(&download).unwrap(),
            r#"{"event":"download","file":"model.safetensors","done":1,"total":9}"#
        );
        let note = Event::Note { text: "a\u{1b}[2Jb" };
        assert_eq!(note.line().unwrap(), "note: a\\u{1b}[2Jb");
    }

    #[test]
    fn a_conversion_ends_with_what_a_user_needs() {
        let file =
            |name: &str| Shipped { name: name.to_owned(), bytes: 50_000_000, compiled: true };
        let mut outcome = Outcome {
            seconds: 24.8,
            meta: "./my out/meta.yaml",
            output: "./my out",
            files: vec![file("a.mlmodelc")],
            tested: "4 tokens ran, all values finite",
            loaded_by_apple: false,
            can_chat: true,
            can_embed: false,
        };
        assert_eq!(
            outcome.text(),
            "done in 25 s: 50.0 MB in ./my out\n\
             \x20 apps load    a.mlmodelc\n\
             \x20 tested here  4 tokens ran, all values finite\n\
             \x20 not yet      loaded on Apple hardware: try it there before you ship it\n\
             \x20 talk to it   anemll chat './my out'"
        );
        outcome.files.extend([file("b.mlmodelc"), file("c.mlmodelc")]);
        assert!(outcome.text().contains("apps load    a.mlmodelc … c.mlmodelc (3 files)"));
        outcome.loaded_by_apple = true;
        outcome.can_chat = false;
        assert!(!outcome.text().contains("Apple") && !outcome.text().contains("chat"));
    }
}
