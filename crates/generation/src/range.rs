//! A text run twice, in float32 and rounded to float16: what its values reach, and what rounding does.

use crate::engine::{Engine, Head};
use crate::evaluation::{Reference, summarize};
use crate::findings::{Findings, WeightFinding};
use crate::observation::Both;
use crate::peaks::Peaks;
use crate::streams::{LayerErrors, Streams};
use anemll_plugin_api::Result;
use anemll_services::check_cancelled;

/// Runs tokens, as many as the context has room for, through two engines of the same packages: one that
/// keeps activations in float32, and one that rounds them.
///
/// # Errors
/// A package that cannot be read; those of the runtimes.
pub fn run(
    [exact, rounded]: [&mut Engine; 2],
    tokens: &[u32],
    weights: Vec<WeightFinding>,
    progress: &dyn Fn(u64),
) -> Result<Findings> {
    let functions = exact.evaluation_functions();
    let mut peaks = Peaks::new(&functions, exact.batch())?;
    let mut streams = [Streams::new(&functions)?, Streams::new(&rounded.evaluation_functions())?];
    let mut errors = LayerErrors::default();
    let mut positions = Vec::new();
    for (number, part) in tokens.chunks(exact.batch() as usize).enumerate() {
        check_cancelled()?;
        peaks.first = number as u64 * exact.batch();
        peaks.tokens = part.len() as u64;
        let first = peaks.first;
        streams.iter_mut().for_each(|streams| streams.tokens = part.len());
        let [ours, theirs] = &mut streams;
        let reference = exact.evaluate_observed(part, first, &mut Both(&mut peaks, ours))?;
        let rounded = rounded.evaluate_observed(part, first, theirs)?;
        errors.add(&ours.take(), &theirs.take());
        for (row, (reference, rounded)) in reference.into_iter().zip(&rounded).enumerate() {
            let (Head::Logits(logits), Head::Logits(rounded)) = (reference, rounded) else {
                continue;
            };
            let reference = Reference::Full { vocabulary: logits.len(), logits };
            let mut position = reference.compare(0, rounded)?;
            position.position = first + row as u64;
            positions.push(position);
        }
        progress(first + part.len() as u64);
    }
    let broken = positions.iter().filter(|position| position.kl.is_nan()).count() as u64;
    Ok(Findings::new(
        peaks.into_values(),
        weights,
        tokens.len() as u64,
        broken,
        &summarize(positions)?,
    )
    .with_stream(errors.finish()))
}
