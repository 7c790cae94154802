//! `plan`: how large the parts of a conversion will be, and how many chunks they need.

use crate::arguments::{ModelArgument, QuantizerArguments, count};
use crate::progress::{Display, Reporter};
use anemll_codes as codes;
use anemll_conversion::shipped;
use anemll_huggingface::{ConfigFile, ModelDirectory};
use anemll_layout::CheckedLayout;
use anemll_pipeline::combiners::{Candidate, Fitting, Wishes, is_whole, largest_file};
use anemll_pipeline::component_options::{self, TypedOption};
use anemll_pipeline::model_files::tensor_infos;
use anemll_pipeline::model_source::{self, Need};
use anemll_pipeline::plugins::Plugins;
use anemll_pipeline::quantization::{Quantization, outline};
use anemll_pipeline::quantizer_choice::QuantizerChoice;
use anemll_pipeline::request::QUANTIZER;
use anemll_pipeline::sizes::{Inventory, Limits, PartSizes};
use anemll_pipeline::task;
use anemll_plugin_api::data::{LayoutRequest, ModelDescription, ModelInput, Stage};
use anemll_plugin_api::{ComponentOptions, Error, Result};
use anemll_services as services;
use anemll_terminal::{self as terminal, Column, Table, size};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll plan ./SmolLM2-135M
  anemll plan Qwen/Qwen3-0.6B --max-chunk-mb 950 --lut 6
  anemll plan ./SmolLM2-135M --lut2 4 --lut3 6 --context 2048 --json
  anemll plan ./SmolLM2-135M --lut 4 --auto

Only config.json is needed. --auto prints a number for scripts:
anemll convert --chunk $(anemll plan DIR --lut 4 --auto) …";

/// What can be typed.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgument,
    /// Largest chunk in MB of 1000000 bytes, overhead included.
    #[arg(long, value_name = "MB", default_value_t = 950, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_chunk_mb: u64,
    /// Factor that sizes are multiplied by, for what a compiled model adds to its weights.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.10, value_parser = overhead)]
    pub overhead: f64,
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub quantizer: QuantizerArguments,
    /// Context length in tokens; tables of positions grow with it.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = count)]
    pub context: u64,
    /// Tokens that one call of `prefill` takes.
    #[arg(long, value_name = "TOKENS", default_value_t = 64, value_parser = count)]
    pub batch: u64,
    /// Architecture to use, where several accept the model.
    #[arg(long, value_name = "ID")]
    pub arch: Option<String>,
    /// Print the recommended number of chunks, and nothing else.
    #[arg(long, conflicts_with = "json")]
    pub auto: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

fn overhead(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=10.0).contains(&factor) => Ok(factor),
        _ => Err("not a number from 1 to 10".to_owned()),
    }
}

/// Most chunks that the table has a line for.
const MOST_LINES: usize = 12;

/// Sizes at one choice of bits.
#[derive(Debug, Serialize)]
struct Sizes {
    /// `float16`, `LUT4`, or what was asked for.
    name: String,
    /// With the embedding apart.
    #[serde(flatten)]
    sizes: PartSizes,
    /// With the embedding in one function with layers.
    #[serde(skip)]
    whole: PartSizes,
    /// What each combiner makes of it.
    combiners: Vec<Cut>,
    /// The fewest chunks that fit; none when not even one layer each does.
    chunks: Option<u32>,
    /// What `convert --combiner auto` takes; none where no combiner suits.
    combiner: Option<String>,
}

/// A model as one combiner lays it out, at one choice of bits.
#[derive(Debug, Serialize)]
struct Cut {
    /// The combiner.
    id: String,
    /// Bytes of the largest weight file with layers; of a combiner that cuts: of each number of
    /// chunks from 1 on.
    largest_files: Vec<u64>,
    /// The fewest chunks that fit, of a combiner that cuts.
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<u32>,
    /// Why devices cannot load it.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

/// A combiner with its layouts: the only one, or that of each number of chunks from 1 on.
struct Layouts<'a> {
    candidate: Candidate<'a>,
    all: Vec<CheckedLayout>,
}

impl<'a> Layouts<'a> {
    fn of_all(plugins: &'a Plugins, description: &ModelDescription) -> Result<Vec<Self>> {
        let wishes = Wishes::default();
        let mut found = Vec::new();
        for candidate in Candidate::by_preference(plugins, &wishes, false)? {
            let counts = match candidate.cuts() {
                true => (1..=description.layers).map(Some).collect(),
                false => vec![None],
            };
            let request = LayoutRequest::default();
            let layout = |chunks: Option<u32>| {
                candidate.layout(description, &candidate.options(chunks, &wishes)?, &request)
            };
            let all = counts.into_iter().map(layout).collect::<Result<Vec<_>>>()?;
            found.push(Self { candidate, all });
        }
        Ok(found)
    }

    fn is_whole(&self) -> bool {
        self.all.first().is_some_and(|layout| is_whole(layout))
    }

    fn cut(&self, fitting: &Fitting<'_>, sizes: &PartSizes) -> Cut {
        let reasons: Vec<Option<String>> =
            self.all.iter().map(|layout| fitting.why_not(layout, sizes)).collect();
        let fits = reasons.iter().position(Option::is_none);
        let cuts = self.candidate.cuts();
        Cut {
            id: self.candidate.id().to_owned(),
            largest_files: self.all.iter().map(|layout| largest_file(layout, sizes)).collect(),
            chunks: fits.filter(|_| cuts).and_then(|place| u32::try_from(place + 1).ok()),
            why_not: if fits.is_some() { None } else { reasons.into_iter().last().flatten() },
        }
    }
}

/// Runs the command.
pub fn run(arguments: &PlanArguments, plugins: &Plugins) -> Result<()> {
    let typed = QuantizerChoice::from(&arguments.quantizer);
    // A flag that cannot be understood is told before anything is looked for.
    let taken = Choice::taken(&typed, plugins)?;
    let reporter = Reporter::new(Display::Lines);
    let directory =
        model_source::resolve(&arguments.model, Need::Config, &|event| reporter.show(event))?;
    let sentence = task::sentence_model(None, &directory, &|event| reporter.show(event))?;
    drop(reporter);
    let config = ConfigFile::read(&directory)?;
    let arch = plugins.frontend_id(config.text(), arguments.arch.as_deref())?;
    let mut options = ComponentOptions::new();
    component_options::add(&mut options, &typed.options, plugins, (Stage::Arch, &arch));
    let mut chain = vec![(Stage::Arch, arch.as_str())];
    chain.extend(taken.quantization.as_ref().map(|stage| (Stage::Quantizer, stage.id.as_str())));
    component_options::refuse_others(&typed.options, &chain)?;
    let (_, frontend) = plugins.frontend(config.text(), Some(&arch), &options)?;
    let head = sentence.as_ref().map(|sentence| sentence.head.clone());
    let mut input = ModelInput::new(config.value().clone(), arguments.context, arguments.batch)
        .with_embedding(head);
    let host = services::host();
    let model = frontend.open(&input, &host).or_else(|error| {
        // What the configuration says of the weights, they may know better where they are there.
        let Ok(weights) = ModelDirectory::open(&directory) else { return Err(error) };
        let weights = task::with_layers(weights, sentence.as_ref())?;
        input.tensors = tensor_infos(&weights);
        frontend.open(&input, &host)
    })?;
    let description = model.describe();
    let limits =
        Limits { overhead: arguments.overhead, ..Limits::of_megabytes(arguments.max_chunk_mb) };
    let inventory = Inventory::read(model.as_ref(), &description, &host)?;
    let layouts = Layouts::of_all(plugins, &description)?;
    let fitting = Fitting { model: &description, limits: &limits };
    let column = |choice: &Choice| -> Result<Sizes> {
        let sizes_of = |whole: bool| {
            let outline = outline(&description, whole);
            inventory.sizes(choice.quantization.as_ref(), &outline, &host)
        };
        let (apart, whole) = (sizes_of(false)?, sizes_of(true)?);
        let cut = |layouts: &Layouts<'_>| {
            layouts.cut(&fitting, if layouts.is_whole() { &whole } else { &apart })
        };
        let combiners: Vec<Cut> = layouts.iter().map(cut).collect();
        let taken = combiners.iter().find(|cut| cut.why_not.is_none());
        Ok(Sizes {
            name: choice.name.clone(),
            chunks: combiners.iter().find_map(|cut| cut.chunks),
            combiner: taken.map(|cut| cut.id.clone()),
            combiners,
            sizes: apart,
            whole,
        })
    };
    if arguments.auto {
        let column = column(&taken)?;
        let chunks = column.chunks.ok_or_else(|| too_large(arguments, &column))?;
        return super::print(&format!("{chunks}\n"));
    }
    let usual = Choice::usual(&typed, plugins)?;
    let columns = usual.iter().chain([&taken]).map(column).collect::<Result<Vec<Sizes>>>()?;
    if arguments.json {
        return super::print_json(&json!({
            "model": model_source::model_name(&directory),
            "parameters": description.parameters,
            "context": arguments.context,
            "max_chunk_bytes": limits.chunk_bytes,
            "max_layers": limits.layers,
            "overhead": arguments.overhead,
            "options": columns,
        }));
    }
    let name = model_source::model_name(&directory);
    super::print(&text(arguments, &fitting, &name, &layouts, &columns))
}

/// How weights may be stored.
struct Choice {
    name: String,
    quantization: Option<Quantization>,
}

impl Choice {
    /// 16-bit floats, and ANEMLL's `--lut BITS` where no other quantizer was chosen.
    fn usual(typed: &QuantizerChoice, plugins: &Plugins) -> Result<Vec<Self>> {
        let mut usual = vec![Self { name: "float16".to_owned(), quantization: None }];
        let bits: &[u32] = if typed.id() == QUANTIZER { &[8, 6, 4] } else { &[] };
        for bits in bits {
            let options = vec![TypedOption::of_flag("--lut", "all", bits.to_string())];
            let choice = QuantizerChoice { id: None, options };
            let quantization = choice.choose(plugins)?.map(Quantization::new);
            usual.push(Self { name: format!("LUT{bits}"), quantization });
        }
        Ok(usual)
    }

    /// What `convert` takes with the same flags, or with none.
    fn taken(typed: &QuantizerChoice, plugins: &Plugins) -> Result<Self> {
        let name = typed.line().unwrap_or_else(|| "by default".to_owned());
        Ok(Self { name, quantization: typed.choose(plugins)?.map(Quantization::new) })
    }
}

fn too_large(arguments: &PlanArguments, column: &Sizes) -> Error {
    let largest = column.sizes.layers.iter().copied().max().unwrap_or(0);
    Error::new(
        codes::LAYOUT_OPTION_INVALID,
        format!(
            "a layer has {} at {}, more than --max-chunk-mb {} allows",
            size(scaled(largest, arguments)),
            column.name,
            arguments.max_chunk_mb
        ),
    )
    .with_at("--max-chunk-mb")
    .with_hint("allow larger chunks, or take fewer bits with --lut")
}

fn text(
    arguments: &PlanArguments,
    fitting: &Fitting<'_>,
    name: &str,
    layouts: &[Layouts<'_>],
    columns: &[Sizes],
) -> String {
    let Fitting { model: description, limits } = *fitting;
    let text = format!(
        "{name}: {}, {} layers, {:.1} M parameters, context {}\n\
         sizes are of weight files, times {:.2}\n\n",
        description.architecture,
        description.layers,
        description.parameters as f64 / 1e6,
        arguments.context,
        arguments.overhead,
    );
    let mut kinds = vec![Column::Left];
    kinds.extend(columns.iter().map(|_| Column::Right));
    // Where there is no room, what was asked for, or the default, is kept.
    let others: Vec<usize> = (1..columns.len()).collect();
    let mut titles = vec![""];
    titles.extend(columns.iter().map(|column| column.name.as_str()));
    let mut table = Table::new(&kinds).with_head(&titles).without_indent().leaving_out(&others);
    let mut row = |first: &str, cell: &dyn Fn(&Sizes) -> String| {
        table.row(std::iter::once(first.to_owned()).chain(columns.iter().map(cell)));
    };
    let megabytes = |bytes: u64| size(scaled(bytes, arguments));
    row("embeddings", &|column| megabytes(column.sizes.embeddings_file()));
    row("layers", &|column| megabytes(column.sizes.layers_file()));
    row("largest layer", &|column| {
        megabytes(column.sizes.layers.iter().copied().max().unwrap_or(0))
    });
    row("lm_head", &|column| megabytes(column.sizes.head_file()));
    let numbered: Vec<(usize, &Layouts<'_>)> = layouts.iter().enumerate().collect();
    for (place, one) in numbered.iter().filter(|(_, one)| !one.candidate.cuts()) {
        row(one.candidate.id(), &|column| {
            megabytes(column.combiners[*place].largest_files.first().copied().unwrap_or(0))
        });
    }
    let cutters: Vec<_> = numbered.iter().filter(|(_, one)| one.candidate.cuts()).collect();
    for (place, one) in &cutters {
        row("", &|_| String::new());
        let of =
            if cutters.len() > 1 { format!(", {}", one.candidate.id()) } else { String::new() };
        row(&format!("largest of N chunks{of}"), &|_| String::new());
        for (index, layout) in one.all.iter().enumerate().take(MOST_LINES) {
            row(&format!("{:>3}  {}", index + 1, layers(layout)), &|column| {
                let cut = &column.combiners[*place];
                let largest = cut.largest_files.get(index).copied().unwrap_or(0);
                let used = if one.is_whole() { &column.whole } else { &column.sizes };
                let mark = if fitting.why_not(layout, used).is_none() { "" } else { "!" };
                format!("{mark}{}", megabytes(largest))
            });
        }
    }
    row("", &|_| String::new());
    if !cutters.is_empty() {
        row("recommended --chunk", &|column| {
            column.chunks.map_or_else(|| "none fits".to_owned(), |chunks| chunks.to_string())
        });
    }
    row("--combiner auto", &|column| {
        let taken = column.combiners.iter().zip(layouts).find(|(cut, _)| cut.why_not.is_none());
        match taken {
            None => "none fits".to_owned(),
            Some((Cut { chunks: Some(1), .. }, _)) => "1 chunk".to_owned(),
            Some((Cut { chunks: Some(chunks), .. }, _)) => format!("{chunks} chunks"),
            Some((_, one)) => match one.all.first().map_or(0, |all| shipped(all).count()) {
                1 => "1 package".to_owned(),
                count => format!("{count} packages"),
            },
        }
    });
    let mut end = format!(
        "\n! is more than --max-chunk-mb {}, or more than {} layers in a chunk\n",
        arguments.max_chunk_mb, limits.layers
    );
    if let Some(column) = columns.last() {
        let uncut = column.combiners.iter().zip(layouts).filter(|(_, one)| !one.candidate.cuts());
        for (cut, one) in uncut {
            let why = match &cut.why_not {
                Some(reason) => format!("not {}: {reason}", cut.id),
                None if one.is_whole() => "what fits into one package is one package".to_owned(),
                None => continue,
            };
            let _ = writeln!(end, "{}: {why}", column.name);
        }
    }
    let width = terminal::width();
    terminal::wrapped_lines(&text, width)
        + &table.render(width)
        + &terminal::wrapped_lines(&end, width)
}

/// Layers of each chunk: `8+8+7+7`, shortened where chunks are many.
fn layers(layout: &CheckedLayout) -> String {
    let mut ranges: Vec<_> =
        layout.functions.iter().filter_map(|function| function.layers).collect();
    ranges.sort_unstable_by_key(|range| range.first);
    ranges.dedup();
    let lengths: Vec<String> =
        ranges.iter().map(|range| (range.end - range.first).to_string()).collect();
    let text = lengths.join("+");
    match lengths.as_slice() {
        [first, .., last] if text.len() > LONGEST_CELL => format!("{first}+…+{last}"),
        _ => text,
    }
}

/// Characters of the longest list of layers.
const LONGEST_CELL: usize = 20;

fn scaled(bytes: u64, arguments: &PlanArguments) -> u64 {
    (bytes as f64 * arguments.overhead) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors() {
        assert_eq!(overhead("1.1"), Ok(1.1));
        for text in ["0.9", "11", "nan", "inf", "x", ""] {
            assert!(overhead(text).is_err(), "{text}");
        }
    }
}
