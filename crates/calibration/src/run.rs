//! A text run through a model, and what comes of it written.

use crate::checkpoint::{self, Kept};
use crate::collector::{Collector, Kind};
use crate::corpus::Corpus;
use crate::file::{Provenance, SCHEMA};
use crate::judge::Judge;
use crate::passes::{self, Pass, Passes};
use crate::saved::{Place, Saved};
use crate::taps::Taps;
use anemll_generation::engine::Engine;
use anemll_plugin_api::Result;
use anemll_services::check_cancelled;
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
    /// Bytes of memory that the sums may take. Where they take more, the text is run several times, each
    /// time for some of them.
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
}

/// Runs a text through the evaluation functions of a model and writes what its weights are
/// multiplied with. A run that was stopped goes on where it was.
///
/// # Errors
/// The sums of one value take more memory than all may; those of the runtime; the file cannot be
/// written; Ctrl-C.
pub fn calibrate(
    engine: &mut Engine,
    calibration: &Calibration<'_>,
    progress: &dyn Fn(Progress),
) -> Result<Provenance> {
    let Calibration { taps, output, .. } = *calibration;
    let provenance = calibration.provenance();
    let windows = calibration.corpus.windows();
    // Without a text there is nothing to know.
    let nothing = Taps::default();
    let taps = if windows.is_empty() { &nothing } else { taps };
    let Passes { mut finished, left } =
        Passes::plan(output, &provenance, taps, windows.len(), calibration.memory)?;
    let tokens = calibration.corpus.tokens();
    let total = tokens * (finished.len() + left.len()) as u64;
    let mut last = None;
    let count = left.len();
    for (number, pass) in left.into_iter().enumerate() {
        let done = tokens * finished.len() as u64;
        let progress = |tokens| progress(Progress { done: done + tokens, total });
        let path = pass.path.clone();
        let collector = run_pass(engine, calibration, pass, &progress)?;
        if number + 1 == count {
            last = Some(collector);
        } else {
            // The next one needs the memory.
            checkpoint::write(&path, &provenance, &collector, windows.len())?;
            finished.push(Kept::written(&path, provenance.kind, taps)?);
        }
    }
    let kept = finished
        .iter()
        .flat_map(|kept| kept.names.iter().map(|name| (name.as_str(), Place::Kept(kept))));
    let here = last.iter().flat_map(Collector::sums);
    let here = here.map(|(name, sums)| (name.as_str(), Place::Here(sums)));
    let sums = kept.chain(here).collect();
    let saved = Saved { provenance: &provenance, taps, sums, judge: calibration.judge };
    saved.write(output)?;
    // They have served.
    drop(finished);
    passes::remove(output);
    Ok(provenance)
}

/// Runs the text for the values of a pass, beginning where an earlier run stopped.
fn run_pass(
    engine: &mut Engine,
    calibration: &Calibration<'_>,
    pass: Pass,
    progress: &dyn Fn(u64),
) -> Result<Collector> {
    let windows = calibration.corpus.windows();
    let mut collector = Collector::new(calibration.taps, &pass.names, calibration.kind);
    // Closes the file, which is then written over.
    let begun = pass.begun.map_or(0, |kept| kept.resume(&mut collector));
    let begun = begun.min(windows.len());
    let mut done: u64 = windows[..begun].iter().map(|window| window.len() as u64).sum();
    let batch = engine.batch().max(1) as usize;
    let mut kept = Instant::now();
    for (number, window) in windows.iter().enumerate().skip(begun) {
        // A window that was begun is in some sums and not in others: what is kept is of whole ones.
        run_window(engine, window, batch, &mut collector, |tokens| progress(done + tokens))?;
        done += window.len() as u64;
        if kept.elapsed() >= calibration.checkpoint && number + 1 < windows.len() {
            checkpoint::write(&pass.path, &calibration.provenance(), &collector, number + 1)?;
            kept = Instant::now();
        }
    }
    Ok(collector)
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
        engine.observe(tokens, first as u64, collector)?;
        collector.end_batch();
        progress((first + tokens.len()) as u64);
    }
    collector.end_window();
    Ok(())
}
