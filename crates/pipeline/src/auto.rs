//! `--combiner auto` and `--chunk auto`: how a model is cut where the user leaves it open.

use super::lut::Luts;
use super::settings::{LUT_QUANTIZER, Settings, WHOLE_COMBINER};
use crate::plugins::Plugins;
use crate::request::{AUTO, ChunkCount, ConvertRequest};
use crate::sizes::{self, Inventory, Limits, PartSizes};
use anemll_plugin_api::data::{ModelDescription, ModelInput, Stage};
use anemll_plugin_api::{ArchFrontend, Error, Host, Result, codes};
use anemll_terminal::size;
use std::cell::OnceCell;

const CHUNKED: &str = "chunked";

/// A model whose size decides.
pub(super) struct Model<'a> {
    pub(super) frontend: &'a dyn ArchFrontend,
    pub(super) input: &'a ModelInput,
    pub(super) description: &'a ModelDescription,
    pub(super) host: &'a Host,
    /// What it is made of, once somebody asked.
    pub(super) inventory: OnceCell<Inventory>,
}

impl Model<'_> {
    fn sizes(&self, luts: &Luts) -> Result<PartSizes> {
        if let Some(inventory) = self.inventory.get() {
            return Ok(inventory.sizes(luts));
        }
        let read = Inventory::read(self.frontend, self.input, self.description, self.host)?;
        Ok(self.inventory.get_or_init(|| read).sizes(luts))
    }
}

/// How the model is cut, and, where that was left open, why.
pub(super) fn settings(
    arguments: &ConvertRequest,
    plugins: &Plugins,
    model: &Model<'_>,
) -> Result<(Settings, Option<String>)> {
    let luts = |combiner: &str| luts(arguments, combiner, model.description.parameters);
    let limits = Limits::of_megabytes(arguments.max_chunk_mb.into());
    let (combiner, chunks, reason) = match (arguments.combiner.as_str(), arguments.chunk) {
        (AUTO, chunk) => auto(arguments, chunk, plugins, model, &limits)?,
        (combiner, Some(ChunkCount::Auto)) => {
            let sizes = model.sizes(&luts(combiner)?)?;
            let (chunks, reason) = chunks_within(&sizes, arguments, &limits)?;
            (combiner.to_owned(), Some(chunks), Some(reason))
        }
        (combiner, Some(ChunkCount::Count(count))) => (combiner.to_owned(), Some(count), None),
        (combiner, None) => (combiner.to_owned(), None, None),
    };
    let luts = luts(&combiner)?;
    Ok((Settings { combiner, chunks, luts }, reason))
}

type Choice = (String, Option<u32>, Option<String>);

fn auto(
    arguments: &ConvertRequest,
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
    if !installed(CHUNKED) && installed(WHOLE_COMBINER) {
        let reason = format!("combiner {WHOLE_COMBINER}: `{CHUNKED}` is not installed");
        return Ok((WHOLE_COMBINER.to_owned(), None, Some(reason)));
    }
    let parameters = model.description.parameters;
    let mut why_not = format!("`{WHOLE_COMBINER}` is not installed");
    if chunk == Some(ChunkCount::Auto) {
        "--chunk auto was given".clone_into(&mut why_not);
    } else if installed(WHOLE_COMBINER) {
        let whole = model.sizes(&luts(arguments, WHOLE_COMBINER, parameters)?)?.monolithic_file();
        let Some(reason) = sizes::why_not_whole(model.description, whole, limits) else {
            let reason =
                format!("combiner {WHOLE_COMBINER}: {} of weights in one file", size(whole));
            return Ok((WHOLE_COMBINER.to_owned(), None, Some(reason)));
        };
        why_not = reason;
    }
    let sizes = model.sizes(&luts(arguments, CHUNKED, parameters)?)?;
    let (chunks, fit) = chunks_within(&sizes, arguments, limits)?;
    Ok((CHUNKED.to_owned(), Some(chunks), Some(format!("combiner {CHUNKED}: {why_not}; {fit}"))))
}

fn chunks_within(
    sizes: &PartSizes,
    arguments: &ConvertRequest,
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

/// Bits of each part. A quantizer of another kind is asked by options of its own.
fn luts(arguments: &ConvertRequest, combiner: &str, parameters: u64) -> Result<Luts> {
    let other = arguments.quantizer.as_deref().is_some_and(|id| id != LUT_QUANTIZER);
    let own_options = arguments.quantizer.is_some() && !arguments.quantizer_option.is_empty();
    if (other || own_options) && !arguments.luts.is_typed() {
        return Ok(Luts::default());
    }
    Luts::new(&arguments.luts, combiner == WHOLE_COMBINER, parameters)
}
