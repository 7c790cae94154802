//! What the server has done, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of times, in seconds.
const BOUNDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// Counters and gauges.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Answers by endpoint and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Tokens of prompts.
    pub(crate) prompt_tokens: AtomicU64,
    /// Tokens of prompts that were in a cache already.
    pub(crate) reused_tokens: AtomicU64,
    /// Tokens of answers.
    pub(crate) generated_tokens: AtomicU64,
    /// Answers that their clients did not wait for.
    pub(crate) cancelled: AtomicU64,
    /// Open connections.
    pub(crate) connections: AtomicU64,
    /// From when a slot takes a request to its first token.
    pub(crate) first_token: Histogram,
    /// From when a slot takes a request to its end.
    pub(crate) answers: Histogram,
}

/// Times by buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Histogram {
    /// Adds a time.
    pub(crate) fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            if seconds <= *bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// The mean in seconds; none before the first time.
    pub(crate) fn mean(&self) -> Option<f64> {
        let count = self.count.load(Ordering::Relaxed);
        (count > 0).then(|| self.seconds() / count as f64)
    }

    fn seconds(&self) -> f64 {
        self.microseconds.load(Ordering::Relaxed) as f64 / 1e6
    }

    fn write(&self, text: &mut String, name: &str, help: &str) {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} histogram\n");
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            let count = bucket.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", self.seconds());
    }
}

impl Metrics {
    /// Counts an answer.
    pub(crate) fn count(&self, endpoint: &'static str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((endpoint, status)).or_default() += 1;
    }

    /// All of it as text; so many requests are running and waiting now.
    pub(crate) fn text(&self, running: usize, waiting: usize) -> String {
        let mut text = String::new();
        let name = "anemll_requests_total";
        let _ =
            write!(text, "# HELP {name} Requests by endpoint and status.\n# TYPE {name} counter\n");
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((endpoint, status), count) in &*requests {
            let _ = writeln!(text, "{name}{{endpoint=\"{endpoint}\",status=\"{status}\"}} {count}");
        }
        drop(requests);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let values = [
            ("prompt_tokens_total", "counter", "Tokens of prompts.", load(&self.prompt_tokens)),
            (
                "prompt_tokens_reused_total",
                "counter",
                "Tokens of prompts that were in a slot's cache already.",
                load(&self.reused_tokens),
            ),
            (
                "generated_tokens_total",
                "counter",
                "Tokens of answers.",
                load(&self.generated_tokens),
            ),
            (
                "answers_cancelled_total",
                "counter",
                "Answers that ended early, as their clients left or the server ended.",
                load(&self.cancelled),
            ),
            ("connections", "gauge", "Open connections.", load(&self.connections)),
            ("requests_running", "gauge", "Requests that slots work at.", running as u64),
            ("requests_waiting", "gauge", "Requests that wait for a slot.", waiting as u64),
        ];
        for (name, kind, help, value) in values {
            let _ = write!(
                text,
                "# HELP anemll_{name} {help}\n# TYPE anemll_{name} {kind}\nanemll_{name} {value}\n"
            );
        }
        let help = "Seconds from when a slot took a request to its first token.";
        self.first_token.write(&mut text, "anemll_first_token_seconds", help);
        let help = "Seconds from when a slot took a request to the end of its answer.";
        self.answers.write(&mut text, "anemll_answer_seconds", help);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_in_every_bucket_that_holds_them() {
        let metrics = Metrics::default();
        metrics.count("/v1/models", 200);
        metrics.count("/v1/models", 200);
        metrics.first_token.add(Duration::from_millis(200));
        metrics.first_token.add(Duration::from_secs(600));
        let text = metrics.text(1, 2);
        for line in [
            "anemll_requests_total{endpoint=\"/v1/models\",status=\"200\"} 2",
            "anemll_first_token_seconds_bucket{le=\"0.1\"} 0",
            "anemll_first_token_seconds_bucket{le=\"0.25\"} 1",
            "anemll_first_token_seconds_bucket{le=\"120\"} 1",
            "anemll_first_token_seconds_bucket{le=\"+Inf\"} 2",
            "anemll_first_token_seconds_sum 600.2",
            "anemll_requests_waiting 2",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert_eq!(metrics.first_token.mean(), Some(300.1));
        assert_eq!(metrics.answers.mean(), None);
    }
}
