//! What takes long tells how far it is: bars on a terminal, a line now and then elsewhere.

use crate::bars::bars;
use crate::stream::{is_quiet, tell};
use crate::text::{duration_in_seconds, plain, size};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The bar of a reporter, for the parts of a weight that threads encode.
static CURRENT: Mutex<Option<Arc<Bar>>> = Mutex::new(None);

/// Says to which bar [`encoded`] adds; none for none.
pub fn set_current(bar: Option<Arc<Bar>>) {
    if let Ok(mut current) = CURRENT.lock() {
        *current = bar;
    }
}

/// So many bytes of a weight are encoded, of those that the current bar will be told of once the
/// weight is whole.
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
            Self::Bytes => size(number),
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
    pub fn since(started: Instant, what: &str, total: u64, unit: Unit) -> Self {
        let what = plain(what).into_owned();
        let bar = (!is_quiet() && std::io::stderr().is_terminal()).then(|| {
            let bar = bars().add(ProgressBar::new(total));
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
        if is_quiet() || told.elapsed() < BETWEEN_LINES {
            return;
        }
        *told = Instant::now();
        let elapsed = self.started.elapsed();
        tell(&format!("{}: {}", self.what, numbers(self.unit, done, self.total, elapsed)));
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
        duration_in_seconds(seconds)
    );
    // What the first percent took says little.
    if share >= 0.01 && done < total {
        let rest = seconds / share - seconds;
        let _ = write!(text, ", about {} left", duration_in_seconds(rest.max(1.0)));
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
    fn numbers_tell_the_share_the_time_and_the_rest() {
        let text =
            |done, seconds| numbers(Unit::Bytes, done, 2_000_000_000, Duration::from_secs(seconds));
        assert_eq!(text(0, 0), "0 % of 2.00 GB, 0 s");
        assert_eq!(text(500_000_000, 30), "25 % of 2.00 GB, 30 s, about 1 min 30 s left");
        assert_eq!(text(2_000_000_000, 130), "100 % of 2.00 GB, 2 min 10 s");
        let tokens = numbers(Unit::Count("tokens"), 5, 10, Duration::from_secs(20));
        assert_eq!(tokens, "50 % of 10 tokens, 20 s, about 20 s left");
    }
}
