//! The residual stream of a conversion beside that of its original, behind each layer.

use crate::event::Event;
use crate::rotation;
use anemll_generation::engine::Engine;
use anemll_generation::streams::{LayerError, LayerErrors, Streams};
use anemll_plugin_api::Result;

/// Windows that are run: each shows all layers, and what is kept of them takes memory.
const WINDOWS: usize = 4;
/// Most tokens of a window.
const TOKENS: usize = 128;

/// Runs the beginnings of some windows through both. A conversion whose stream is rotated by this seed
/// is compared with the original's stream in the same basis.
///
/// # Errors
/// Those of the runtime; a package that cannot be read.
pub(super) fn compare(
    [original, conversion]: [&mut Engine; 2],
    windows: &[Vec<u32>],
    seed: Option<u64>,
    show: &dyn Fn(&Event<'_>),
) -> Result<Vec<LayerError>> {
    let mut streams = Streams::new(&original.evaluation_functions())?;
    let mut own = Streams::new(&conversion.evaluation_functions())?;
    let mut errors = LayerErrors::default();
    if streams.is_empty() || own.is_empty() {
        return Ok(errors.finish());
    }
    let longest = TOKENS.min(usize::try_from(conversion.context()).unwrap_or(TOKENS));
    let parts: Vec<&[u32]> =
        windows.iter().take(WINDOWS).map(|window| &window[..window.len().min(longest)]).collect();
    let total = parts.iter().map(|part| part.len() as u64).sum();
    let mut done = 0;
    for part in parts {
        let mut reference = streams.of_text(original, part)?;
        if let Some(seed) = seed {
            for rows in reference.values_mut() {
                rotation::rotate_rows(seed, rows.width, &mut rows.values);
            }
        }
        errors.add(&reference, &own.of_text(conversion, part)?);
        done += part.len() as u64;
        show(&Event::Measure { what: "comparing layers", unit: "tokens", done, total });
    }
    Ok(errors.finish())
}
