//! What takes long tells how far it is: bars on a terminal, a line now and then elsewhere, or JSON
//! objects; all of it on one way for every command.

use crate::terminal::{self, bars, plain, plain_lines};
pub use anemll_export::shell_word;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
        text
    }
}

/// [`shell_word`] of a path.
pub fn shell_path(path: &Path) -> String {
    shell_word(&path.to_string_lossy())
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
            Self::Download { .. } | Self::Source { .. } | Self::Weights { .. } => return None,
            Self::Step { number, title, message: "" } => format!("step {number}: {title}"),
            Self::Step { number, title, message } => format!("step {number}: {title}: {message}"),
            Self::Warning { text } => format!("warning: {text}"),
            Self::Done(outcome) => outcome.text(),
        };
        // Names come from models and plugins.
        Some(plain_lines(&line))
    }

    /// What is counted, how much of it is done, and how much there is.
    fn progress(&self) -> Option<(String, u64, u64)> {
        match self {
            Self::Download { file, done, total } => {
                Some((format!("downloading {file}"), *done, *total))
            }
            Self::Source { done, total } => Some(("reading the model".to_owned(), *done, *total)),
            Self::Weights { done_bytes, total_bytes, .. } => {
                Some(("weights".to_owned(), *done_bytes, *total_bytes))
            }
            _ => None,
        }
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
                let _ = writeln!(std::io::stdout(), "{line}");
            }
            Display::Lines => self.show_line(event),
        }
    }

    /// Bytes are told as JSON when another percent of them is done.
    fn is_news(&self, event: &Event<'_>) -> bool {
        if !matches!(event, Event::Source { .. } | Event::Download { .. }) {
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
                let began =
                    *self.began.borrow_mut().entry(what.clone()).or_insert_with(Instant::now);
                let new = Arc::new(Bar::since(began, &what, total, Unit::Bytes));
                if let Ok(mut current) = CURRENT.lock() {
                    *current = Some(Arc::clone(&new));
                }
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

/// The bar of a reporter, for the parts of a weight that threads encode.
static CURRENT: Mutex<Option<Arc<Bar>>> = Mutex::new(None);

/// Takes a bar of a reporter away.
fn end(bar: Option<(String, Arc<Bar>)>) {
    if bar.is_some()
        && let Ok(mut current) = CURRENT.lock()
    {
        *current = None;
    }
}

/// So many bytes of a weight are encoded, of those that the next [`Event::Weights`] will count.
pub fn encoded(bytes: u64) {
    let current = CURRENT.lock().ok().and_then(|current| current.clone());
    if let Some(bar) = current {
        bar.show(
            bar.done.load(Ordering::Relaxed)
                + bar.partly.fetch_add(bytes, Ordering::Relaxed)
                + bytes,
        );
    }
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, told in kB, MB and GB.
    Bytes,
    /// Things with a name, such as `tokens`.
    Count(&'static str),
}

impl Unit {
    fn text(self, number: u64) -> String {
        match self {
            Self::Bytes => terminal::size(number),
            Self::Count(name) => format!("{number} {name}"),
        }
    }
}

/// Seconds between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// How often a bar is drawn though nothing was done, so that the time goes on.
const TICK: Duration = Duration::from_millis(250);

/// How far something is that takes long: a bar on standard error where that is a terminal, a line each
/// ten seconds where it is not, nothing with `--quiet`. It goes away with its end.
pub struct Bar {
    what: String,
    unit: Unit,
    total: u64,
    done: AtomicU64,
    /// What is done beyond that, of things that are counted when they are whole.
    partly: AtomicU64,
    started: Instant,
    told: Mutex<Instant>,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// A bar of which nothing is done. `what` says what is going on, such as `running tokens`.
    pub fn new(what: &str, total: u64, unit: Unit) -> Self {
        Self::since(Instant::now(), what, total, unit)
    }

    /// A bar of work that began before.
    fn since(started: Instant, what: &str, total: u64, unit: Unit) -> Self {
        let what = plain(what).into_owned();
        let bar = (!terminal::is_quiet() && std::io::stderr().is_terminal()).then(|| {
            let bar = bars::all().add(ProgressBar::new(total));
            bar.set_style(style(unit));
            bar.set_message(what.clone());
            let bar = bar.with_elapsed(started.elapsed());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            what,
            unit,
            total,
            started,
            done: AtomicU64::new(0),
            partly: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
            bar,
        }
    }

    /// So much is done.
    pub fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.partly.store(0, Ordering::Relaxed);
        self.show(done);
    }

    /// So much more is done.
    pub fn add(&self, more: u64) {
        self.show(self.done.fetch_add(more, Ordering::Relaxed) + more);
    }

    fn show(&self, done: u64) {
        if let Some(bar) = &self.bar {
            return bar.set_position(done);
        }
        // A line that another thread is about to tell is told by that one.
        let Ok(mut told) = self.told.try_lock() else { return };
        if terminal::is_quiet() || told.elapsed() < BETWEEN_LINES {
            return;
        }
        *told = Instant::now();
        let elapsed = self.started.elapsed();
        terminal::tell(&format!(
            "{}: {}",
            self.what,
            numbers(self.unit, done, self.total, elapsed)
        ));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // What comes next must not stand behind a bar.
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// `45 % of 1.2 GB, 12 s, about 15 s left`
fn numbers(unit: Unit, done: u64, total: u64, elapsed: Duration) -> String {
    let done = done.min(total);
    let share = done as f64 / total.max(1) as f64;
    let seconds = elapsed.as_secs_f64();
    let mut text = format!(
        "{:.0} % of {}, {}",
        (share * 100.0).floor(),
        unit.text(total),
        terminal::duration_in_seconds(seconds)
    );
    // What the first percent took says little.
    if share >= 0.01 && done < total {
        let rest = seconds / share - seconds;
        let _ = write!(text, ", about {} left", terminal::duration_in_seconds(rest.max(1.0)));
    }
    text
}

fn style(unit: Unit) -> ProgressStyle {
    let text = move |state: &ProgressState, to: &mut dyn std::fmt::Write| {
        let total = state.len().unwrap_or(0);
        let _ = to.write_str(&numbers(unit, state.pos(), total, state.elapsed()));
    };
    let columns =
        terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| width.0);
    let bar = if columns < 90 { 10 } else { 24 };
    ProgressStyle::with_template(&format!("{{msg}} {{bar:{bar}}} {{numbers}}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("numbers", text)
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
    fn numbers_tell_the_share_the_time_and_the_rest() {
        let text =
            |done, seconds| numbers(Unit::Bytes, done, 2_000_000_000, Duration::from_secs(seconds));
        assert_eq!(text(0, 0), "0 % of 2.00 GB, 0 s");
        assert_eq!(text(500_000_000, 30), "25 % of 2.00 GB, 30 s, about 1 min 30 s left");
        assert_eq!(text(2_000_000_000, 130), "100 % of 2.00 GB, 2 min 10 s");
        let tokens = numbers(Unit::Count("tokens"), 5, 10, Duration::from_secs(20));
        assert_eq!(tokens, "50 % of 10 tokens, 20 s, about 20 s left");
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

    #[test]
    fn words_can_be_typed() {
        assert_eq!(shell_word("./out/a-b_c.d"), "./out/a-b_c.d");
        assert_eq!(shell_word("it's"), "\"it's\"");
        assert_eq!(shell_word("$x y"), "'$x y'");
        assert_eq!(shell_word(""), "''");
    }
}
