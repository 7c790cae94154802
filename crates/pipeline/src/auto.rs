//! `--combiner auto` and `--chunk auto`: how a model is cut where the user leaves it open.

use super::quantization::{Quantization, outline};
use super::settings::{self, Settings};
use crate::combiners::{Candidate, Fitting, Wishes, is_whole, largest_file};
use crate::plugins::Plugins;
use crate::request::{AUTO, ChunkCount, ConvertRequest};
use crate::sizes::{Inventory, Limits, PartSizes};
use anemll_codes as codes;
use anemll_layout::CheckedLayout;
use anemll_plugin_api::data::ModelDescription;
use anemll_plugin_api::{ArchModel, ComponentOptions, Error, Host, Result};
use anemll_terminal::size;
use std::cell::OnceCell;

/// A model whose size decides.
pub(super) struct Model<'a> {
    pub(super) model: &'a dyn ArchModel,
    pub(super) description: &'a ModelDescription,
    pub(super) host: &'a Host,
    /// The quantizer, if there is one.
    pub(super) quantization: Option<&'a Quantization>,
    /// What it is made of, once somebody asked.
    pub(super) inventory: OnceCell<Inventory>,
}

impl Model<'_> {
    /// What the parts take in a layout that has the embedding in a function with layers, or not.
    fn sizes(&self, whole: bool) -> Result<PartSizes> {
        let inventory = match self.inventory.get() {
            Some(inventory) => inventory,
            None => {
                let read = Inventory::read(self.model, self.description, self.host)?;
                self.inventory.get_or_init(|| read)
            }
        };
        inventory.sizes(self.quantization, &outline(self.description, whole), self.host)
    }
}

/// How the model is cut, and, where that was left open, why.
pub(super) fn settings(
    arguments: &ConvertRequest,
    plugins: &Plugins,
    model: &Model<'_>,
) -> Result<(Settings, Option<String>)> {
    let wishes = Wishes {
        argmax: arguments.argmax,
        verify: arguments.verify,
        contexts: arguments.contexts.clone(),
        queries: arguments.queries.clone(),
        options: arguments.quantizer.options.clone(),
    };
    let limits = Limits::of_megabytes(arguments.max_chunk_mb.into());
    let chooser = Chooser { arguments, plugins, model, limits: &limits, wishes };
    let (candidate, chunks, reason) = match (arguments.combiner.as_str(), arguments.chunk) {
        (AUTO, chunk) => chooser.auto(chunk)?,
        (id, Some(ChunkCount::Auto)) => {
            let candidate = Candidate::named(plugins, id)?;
            let (chunks, reason) = chooser.cut(&candidate)?;
            (candidate, Some(chunks), Some(reason))
        }
        (id, Some(ChunkCount::Count(count))) => (Candidate::named(plugins, id)?, Some(count), None),
        (id, None) => (Candidate::named(plugins, id)?, None, None),
    };
    let (options, layout) = chooser.layout(&candidate, chunks)?;
    let outline = outline(model.description, is_whole(&layout));
    let scheme = match model.quantization {
        Some(stage) => stage.scheme(&outline)?,
        None => Settings::float16(),
    };
    let combiner = candidate.id().to_owned();
    Ok((Settings { combiner, options, chunks, outline, scheme }, reason))
}

/// What a choice is made by.
struct Chooser<'a> {
    arguments: &'a ConvertRequest,
    plugins: &'a Plugins,
    model: &'a Model<'a>,
    limits: &'a Limits,
    wishes: Wishes,
}

/// A combiner, its chunks, and why.
type Choice<'a> = (Candidate<'a>, Option<u32>, Option<String>);

impl<'a> Chooser<'a> {
    fn auto(&self, chunk: Option<ChunkCount>) -> Result<Choice<'a>> {
        let all = Candidate::by_preference(self.plugins, &self.wishes, chunk.is_some())?;
        let single = all.len() == 1;
        let mut why: Option<String> = match chunk {
            Some(ChunkCount::Auto) => Some("--chunk auto was given".to_owned()),
            None if single => Some("no other combiner is installed".to_owned()),
            _ => None,
        };
        let mut failure = None;
        for candidate in all {
            let id = candidate.id();
            if let Some(ChunkCount::Count(count)) = chunk {
                let reason = format!("combiner {id}: --chunk {count} was given");
                return Ok((candidate, Some(count), Some(reason)));
            }
            if candidate.cuts() {
                match self.cut(&candidate) {
                    Ok((chunks, fit)) => {
                        let why = why.map_or_else(String::new, |why| format!("{why}; "));
                        let reason = format!("combiner {id}: {why}{fit}");
                        return Ok((candidate, Some(chunks), Some(reason)));
                    }
                    Err(error) => failure = Some(error),
                }
            } else if single {
                let reason = why.map(|why| format!("combiner {id}: {why}"));
                return Ok((candidate, None, reason));
            } else {
                let (_, layout) = self.layout(&candidate, None)?;
                let sizes = self.sizes(&layout)?;
                let fitting = self.fitting();
                let Some(reason) = fitting.why_not(&layout, &sizes) else {
                    let bytes = size(largest_file(&layout, &sizes));
                    let fit = match layout.weight_files.len() {
                        1 => format!("{bytes} of weights in one file"),
                        _ => format!("at most {bytes} of weights in one file"),
                    };
                    return Ok((candidate, None, Some(format!("combiner {id}: {fit}"))));
                };
                why.get_or_insert(reason);
            }
        }
        Err(failure.unwrap_or_else(|| {
            let why = why.unwrap_or_default();
            Error::new(codes::LAYOUT_OPTION_INVALID, format!("no combiner suits this model: {why}"))
                .with_hint("choose one yourself with --combiner, or allow more with --max-chunk-mb")
        }))
    }

    fn fitting(&self) -> Fitting<'_> {
        Fitting { model: self.model.description, limits: self.limits }
    }

    /// The options of a combiner, and how it lays the model out with them; bits are not known yet.
    fn layout(
        &self,
        candidate: &Candidate<'_>,
        chunks: Option<u32>,
    ) -> Result<(ComponentOptions, CheckedLayout)> {
        let options = candidate.options(chunks, &self.wishes)?;
        let request = settings::layout_request(self.arguments);
        let layout = candidate.layout(self.model.description, &options, &request)?;
        Ok((options, layout))
    }

    fn sizes(&self, layout: &CheckedLayout) -> Result<PartSizes> {
        self.model.sizes(is_whole(layout))
    }

    /// The fewest chunks that devices can load, and how large they are.
    fn cut(&self, candidate: &Candidate<'_>) -> Result<(u32, String)> {
        let sizes = self.sizes(&self.layout(candidate, Some(1))?.1)?;
        let layout = |chunks| Ok(self.layout(candidate, Some(chunks))?.1);
        let Some((chunks, largest)) = self.fitting().chunks(&sizes, layout)? else {
            let layer = sizes.layers.iter().copied().max().unwrap_or(0);
            return Err(Error::new(
                codes::LAYOUT_OPTION_INVALID,
                format!(
                    "one layer takes {}, more than --max-chunk-mb {} allows with {:.0} % to spare",
                    size(layer),
                    self.arguments.max_chunk_mb,
                    (self.limits.overhead - 1.0) * 100.0
                ),
            )
            .with_hint("allow larger chunks with --max-chunk-mb, or take fewer bits"));
        };
        let plural = if chunks == 1 { "" } else { "s" };
        Ok((chunks, format!("{chunks} chunk{plural} of at most {}", size(largest))))
    }
}
