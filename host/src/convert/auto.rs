//! `--combiner auto` and `--chunk auto`: how a model is cut where the user leaves it open.

use super::quantization::{Quantization, outline};
use super::settings::Settings;
use crate::cli::{ChunkCount, ConvertArguments};
use crate::plugins::Plugins;
use crate::sizes::{self, Inventory, Limits, PartSizes};
use crate::terminal::size;
use anemll_plugin_api::data::{ModelDescription, ModelInput, Stage};
use anemll_plugin_api::{ArchFrontend, Error, Host, Result, codes};
use std::cell::OnceCell;

/// What `--combiner` is to be chosen by size.
pub(super) const AUTO: &str = "auto";
/// The combiner for models that need chunks.
pub(crate) const CHUNKED: &str = "chunked";
/// The combiner for models that fit into one package.
pub(crate) const WHOLE: &str = "monolithic";

/// A model whose size decides.
pub(super) struct Model<'a> {
    pub(super) frontend: &'a dyn ArchFrontend,
    pub(super) input: &'a ModelInput,
    pub(super) description: &'a ModelDescription,
    pub(super) host: &'a Host,
    /// The quantizer, if there is one.
    pub(super) quantization: Option<&'a Quantization>,
    /// What it is made of, once somebody asked.
    pub(super) inventory: OnceCell<Inventory>,
}

impl Model<'_> {
    /// What the parts take when this combiner lays them out.
    fn sizes(&self, combiner: &str) -> Result<PartSizes> {
        let inventory = match self.inventory.get() {
            Some(inventory) => inventory,
            None => {
                let (input, host) = (self.input, self.host);
                let read = Inventory::read(self.frontend, input, self.description, host)?;
                self.inventory.get_or_init(|| read)
            }
        };
        let outline = outline(self.description, combiner == WHOLE);
        inventory.sizes(self.quantization, &outline, self.host)
    }
}

/// How the model is cut, and, where that was left open, why.
pub(super) fn settings(
    arguments: &ConvertArguments,
    plugins: &Plugins,
    model: &Model<'_>,
) -> Result<(Settings, Option<String>)> {
    let limits = Limits::of_megabytes(arguments.max_chunk_mb.into());
    let (combiner, chunks, reason) = match (arguments.combiner.as_str(), arguments.chunk) {
        (AUTO, chunk) => auto(arguments, chunk, plugins, model, &limits)?,
        (combiner, Some(ChunkCount::Auto)) => {
            let sizes = model.sizes(combiner)?;
            let (chunks, reason) = chunks_within(&sizes, arguments, &limits)?;
            (combiner.to_owned(), Some(chunks), Some(reason))
        }
        (combiner, Some(ChunkCount::Count(count))) => (combiner.to_owned(), Some(count), None),
        (combiner, None) => (combiner.to_owned(), None, None),
    };
    let outline = outline(model.description, combiner == WHOLE);
    let scheme = model.quantization.map(|stage| stage.scheme(&outline)).transpose()?;
    Ok((
        Settings { combiner, chunks, outline, scheme: scheme.unwrap_or_else(Settings::float16) },
        reason,
    ))
}

type Choice = (String, Option<u32>, Option<String>);

fn auto(
    arguments: &ConvertArguments,
    chunk: Option<ChunkCount>,
    plugins: &Plugins,
    model: &Model<'_>,
    limits: &Limits,
) -> Result<Choice> {
    let installed = |id: &str| {
        plugins.components(Stage::Combiner).iter().any(|(_, component)| component.id == id)
    };
    if let Some(ChunkCount::Count(count)) = chunk {
        let reason = format!("combiner {CHUNKED}: --chunk {count} was given");
        return Ok((CHUNKED.to_owned(), Some(count), Some(reason)));
    }
    if !installed(CHUNKED) && installed(WHOLE) {
        let reason = format!("combiner {WHOLE}: `{CHUNKED}` is not installed");
        return Ok((WHOLE.to_owned(), None, Some(reason)));
    }
    let mut why_not = format!("`{WHOLE}` is not installed");
    if chunk == Some(ChunkCount::Auto) {
        "--chunk auto was given".clone_into(&mut why_not);
    } else if installed(WHOLE) {
        let whole = model.sizes(WHOLE)?.monolithic_file();
        let Some(reason) = sizes::why_not_whole(model.description, whole, limits) else {
            let reason = format!("combiner {WHOLE}: {} of weights in one file", size(whole));
            return Ok((WHOLE.to_owned(), None, Some(reason)));
        };
        why_not = reason;
    }
    let sizes = model.sizes(CHUNKED)?;
    let (chunks, fit) = chunks_within(&sizes, arguments, limits)?;
    Ok((CHUNKED.to_owned(), Some(chunks), Some(format!("combiner {CHUNKED}: {why_not}; {fit}"))))
}

fn chunks_within(
    sizes: &PartSizes,
    arguments: &ConvertArguments,
    limits: &Limits,
) -> Result<(u32, String)> {
    let Some(chunks) = sizes.chunks_within(limits) else {
        let layer = sizes.layers.iter().copied().max().unwrap_or(0);
        return Err(Error::new(
            codes::LAYOUT_OPTION_INVALID,
            format!(
                "one layer takes {}, more than --max-chunk-mb {} allows with {:.0} % to spare",
                size(layer),
                arguments.max_chunk_mb,
                (limits.overhead - 1.0) * 100.0
            ),
        )
        .with_hint("allow larger chunks with --max-chunk-mb, or take fewer bits with --lut2"));
    };
    let largest = sizes.chunk_files(chunks)?.into_iter().max().unwrap_or(0);
    let plural = if chunks == 1 { "" } else { "s" };
    let fit = format!("{chunks} chunk{plural} of at most {}", size(largest));
    Ok((chunks, fit))
}
