//! A text run through a model, and what comes of it written.

use crate::checkpoint;
use crate::collector::{Collector, Kind, Sums};
use crate::corpus::Corpus;
use crate::file::{Provenance, SCHEMA};
use crate::judge::Judge;
use crate::saved::Saved;
use crate::taps::Taps;
use anemll_codes as codes;
use anemll_generation::engine::Engine;
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often what was added up is usually kept on disk.
pub const CHECKPOINT: Duration = Duration::from_secs(60);

/// A calibration as it is asked for.
pub struct Calibration<'a> {
    /// The text.
    pub corpus: &'a Corpus,
    /// The values to see.
    pub taps: &'a Taps,
    /// What is added up.
    pub kind: Kind,
    /// What conversions are judged by.
    pub judge: Option<&'a Judge>,
    /// SHA-256 of the model.
    pub source_sha256: &'a str,
    /// Bytes of memory that the sums may take.
    pub memory: u64,
    /// How often what was added up is kept on disk.
    pub checkpoint: Duration,
    /// The file.
    pub output: &'a Path,
}

/// How far a calibration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tokens that were run.
    pub done: u64,
    /// Tokens that there are.
    pub total: u64,
}

impl Calibration<'_> {
    /// What the finished file will say of itself.
    pub fn provenance(&self) -> Provenance {
        Provenance {
            schema: SCHEMA,
            source_sha256: self.source_sha256.to_owned(),
            texts_sha256: self.corpus.sha256(),
            tokens: self.corpus.tokens(),
            kind: self.kind,
        }
    }

    /// Bytes of memory that the sums take.
    pub fn bytes(&self) -> u64 {
        needed(self.taps, self.kind)
    }
}

/// Bytes of memory that sums over all values take.
pub fn needed(taps: &Taps, kind: Kind) -> u64 {
    taps.values().values().map(|tap| Sums::bytes(kind, tap.inputs)).sum()
}

/// Runs a text through the evaluation functions of a model and writes what its weights are
/// multiplied with. A run that was stopped goes on where it was.
///
/// # Errors
/// The sums take more memory than they may; those of the runtime; the file cannot be written;
/// Ctrl-C.
pub fn calibrate(
    engine: &mut Engine,
    calibration: &Calibration<'_>,
    progress: &dyn Fn(Progress),
) -> Result<Provenance> {
    let bytes = calibration.bytes();
    if bytes > calibration.memory {
        let size = anemll_files::size;
        return Err(Error::new(
            codes::CALIBRATION_INPUT,
            format!(
                "the products of every two inputs take {} of memory, more than the {} that they may",
                size(bytes),
                size(calibration.memory)
            ),
        )
        .with_hint("allow more with --memory, or leave --hessian out: squares alone are small"));
    }
    let provenance = calibration.provenance();
    // Without a text there is nothing to know.
    let values = calibration.taps.values().keys();
    let names: BTreeSet<String> = if calibration.corpus.windows().is_empty() {
        BTreeSet::new()
    } else {
        values.cloned().collect()
    };
    let mut collector = Collector::new(calibration.taps, &names, calibration.kind);
    let finished = checkpoint::resume(calibration.output, &provenance, &mut collector);
    let windows = calibration.corpus.windows();
    let finished = (finished as usize).min(windows.len());
    let total = calibration.corpus.tokens();
    let mut done: u64 = windows[..finished].iter().map(|window| window.len() as u64).sum();
    let batch = engine.batch().max(1) as usize;
    let mut kept = Instant::now();
    for (number, window) in windows.iter().enumerate().skip(finished) {
        // A window that was begun is in some sums and not in others: what is kept is of whole ones.
        run_window(engine, window, batch, &mut collector, |tokens| {
            progress(Progress { done: done + tokens, total });
        })?;
        done += window.len() as u64;
        if kept.elapsed() >= calibration.checkpoint && number + 1 < windows.len() {
            checkpoint::write(calibration.output, &provenance, &collector, number as u32 + 1)?;
            kept = Instant::now();
        }
    }
    let sums = collector.sums().iter();
    let saved = Saved {
        provenance: &provenance,
        sums: sums.map(|(value, sums)| (sums, collector.tensors(value).collect())).collect(),
        judge: calibration.judge,
    };
    saved.write(calibration.output)?;
    // It has served; one that cannot be removed is in nobody's way.
    let _ = std::fs::remove_file(checkpoint::path(calibration.output));
    Ok(provenance)
}

fn run_window(
    engine: &mut Engine,
    window: &[u32],
    batch: usize,
    collector: &mut Collector,
    progress: impl Fn(u64),
) -> Result<()> {
    engine.reset()?;
    for (number, tokens) in window.chunks(batch).enumerate() {
        check_cancelled()?;
        collector.tokens = tokens.len();
        let first = number * batch;
        engine.evaluate_observed(tokens, first as u64, Some(collector))?;
        progress((first + tokens.len()) as u64);
    }
    Ok(())
}
