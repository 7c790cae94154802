//! `plan`: how large the parts of a conversion will be, and how many chunks they need.

use crate::cli::ModelArgument;
use crate::component_options;
use crate::convert::auto::{CHUNKED, WHOLE};
use crate::convert::quantization::{Quantization, outline};
use crate::error::from_huggingface;
use crate::model_files::tensor_infos;
use crate::model_source::{self, Need};
use crate::plugins::Plugins;
use crate::progress::{Display, Reporter};
use crate::quantizer_arguments::QuantizerArguments;
use crate::services;
use crate::sizes::{Inventory, Limits, PartSizes, why_not_whole};
use crate::terminal::{self, Column, Table, size};
use anemll_huggingface::{ConfigFile, ModelDirectory};
use anemll_plugin_api::data::{ModelDescription, ModelInput, Stage};
use anemll_plugin_api::{ComponentOptions, Error, Result, codes};
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
    /// The quantizer.
    #[command(flatten)]
    pub quantizer: QuantizerArguments,
    /// Context length in tokens; tables of positions grow with it.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = crate::cli::count)]
    pub context: u64,
    /// Tokens that one call of `prefill` takes.
    #[arg(long, value_name = "TOKENS", default_value_t = 64, value_parser = crate::cli::count)]
    pub batch: u64,
    /// Arch frontend to use, where several accept the model.
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
const MOST_LINES: u32 = 12;

/// Sizes at one choice of bits.
#[derive(Debug, Serialize)]
struct Sizes {
    /// `float16`, `LUT4`, or what was asked for.
    name: String,
    #[serde(flatten)]
    sizes: PartSizes,
    /// Bytes of the one weight file of the monolithic layout.
    monolithic: u64,
    /// The fewest chunks that fit; none when not even one layer each does.
    chunks: Option<u32>,
    /// What `convert --combiner auto` takes: `monolithic` or `chunked`.
    combiner: &'static str,
    /// Why it is not monolithic.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not_monolithic: Option<String>,
}

/// Runs the command.
pub fn run(arguments: &PlanArguments, plugins: &Plugins) -> Result<()> {
    // A flag that cannot be understood is told before anything is looked for.
    let taken = Choice::taken(&arguments.quantizer, plugins)?;
    let reporter = Reporter::new(Display::Lines);
    let directory =
        model_source::resolve(&arguments.model, Need::Config, &|event| reporter.show(event))?;
    drop(reporter);
    let config = ConfigFile::read(&directory).map_err(from_huggingface)?;
    let arch = plugins.frontend_id(config.text(), arguments.arch.as_deref())?;
    let typed = &arguments.quantizer.options;
    let mut options = ComponentOptions::new();
    component_options::add(&mut options, typed, plugins, (Stage::Arch, &arch));
    let mut chain = vec![(Stage::Arch, arch.as_str())];
    chain.extend(taken.quantization.as_ref().map(|stage| (Stage::Quantizer, stage.id.as_str())));
    component_options::refuse_others(typed, &chain)?;
    let (_, frontend) = plugins.frontend(config.text(), Some(&arch), &options)?;
    let mut input = ModelInput {
        config: config.value().clone(),
        context: arguments.context,
        batch: arguments.batch,
        ..ModelInput::default()
    };
    let description = frontend.describe(&input).or_else(|error| {
        // What the configuration says of the weights, they may know better where they are there.
        let Ok(weights) = ModelDirectory::open(&directory) else { return Err(error) };
        input.tensors = tensor_infos(&weights);
        frontend.describe(&input)
    })?;
    let host = services::host();
    let limits =
        Limits { overhead: arguments.overhead, ..Limits::of_megabytes(arguments.max_chunk_mb) };
    let inventory = Inventory::read(frontend.as_ref(), &input, &description, &host)?;
    let column = |choice: &Choice| -> Result<Sizes> {
        let sizes_of = |combiner: &str| {
            let outline = outline(&description, combiner == WHOLE);
            inventory.sizes(choice.quantization.as_ref(), &outline, &host)
        };
        let sizes = sizes_of(CHUNKED)?;
        let monolithic = sizes_of(WHOLE)?.monolithic_file();
        let why_not_monolithic = why_not_whole(&description, monolithic, &limits);
        Ok(Sizes {
            name: choice.name.clone(),
            monolithic,
            chunks: sizes.chunks_within(&limits),
            combiner: if why_not_monolithic.is_none() { WHOLE } else { CHUNKED },
            why_not_monolithic,
            sizes,
        })
    };
    if arguments.auto {
        let column = column(&taken)?;
        let chunks = column.chunks.ok_or_else(|| too_large(arguments, &column))?;
        return super::print(&format!("{chunks}\n"));
    }
    let usual = Choice::usual(&arguments.quantizer, plugins)?;
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
    super::print(&text(arguments, &limits, &name, &description, &columns)?)
}

/// How weights may be stored.
struct Choice {
    name: String,
    quantization: Option<Quantization>,
}

impl Choice {
    /// 16-bit floats, and ANEMLL's `--lut BITS` where no other quantizer was chosen.
    fn usual(typed: &QuantizerArguments, plugins: &Plugins) -> Result<Vec<Self>> {
        let mut usual = vec![Self { name: "float16".to_owned(), quantization: None }];
        for bits in [8, 6, 4] {
            if let Some(typed) = typed.with_lut(bits) {
                let quantization = typed.choose(plugins)?.map(Quantization::new);
                usual.push(Self { name: format!("LUT{bits}"), quantization });
            }
        }
        Ok(usual)
    }

    /// What `convert` takes with the same flags, or with none.
    fn taken(typed: &QuantizerArguments, plugins: &Plugins) -> Result<Self> {
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
    limits: &Limits,
    name: &str,
    description: &ModelDescription,
    columns: &[Sizes],
) -> Result<String> {
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
    row("layers", &|column| {
        let all = column.sizes.chunk_files(1).unwrap_or_default();
        megabytes(all.iter().sum())
    });
    row("largest layer", &|column| {
        megabytes(column.sizes.layers.iter().copied().max().unwrap_or(0))
    });
    row("lm_head", &|column| megabytes(column.sizes.head_file()));
    row("monolithic", &|column| megabytes(column.monolithic));
    row("", &|_| String::new());
    row("largest of N chunks", &|_| String::new());
    for chunks in 1..=description.layers.min(MOST_LINES) {
        row(&format!("{chunks:>3}  {}", layout(description.layers, chunks)?), &|column| {
            let files = column.sizes.chunk_files(chunks).unwrap_or_default();
            let largest = files.into_iter().max().unwrap_or(0);
            let within = largest <= limits.file_bytes()
                && description.layers.div_ceil(chunks) <= limits.layers;
            let mark = if within { "" } else { "!" };
            format!("{mark}{}", megabytes(largest))
        });
    }
    row("", &|_| String::new());
    row("recommended --chunk", &|column| {
        column.chunks.map_or_else(|| "none fits".to_owned(), |chunks| chunks.to_string())
    });
    row("--combiner auto", &|column| match (column.combiner, column.chunks) {
        ("monolithic", _) => "1 package".to_owned(),
        (_, None) => "none fits".to_owned(),
        (_, Some(1)) => "1 chunk".to_owned(),
        (_, Some(chunks)) => format!("{chunks} chunks"),
    });
    let mut end = format!(
        "\n! is more than --max-chunk-mb {}, or more than {} layers in a chunk\n",
        arguments.max_chunk_mb, limits.layers
    );
    if let Some(column) = columns.last() {
        let why = match &column.why_not_monolithic {
            Some(reason) => format!("not monolithic: {reason}"),
            None => "what fits into one package is one package".to_owned(),
        };
        let _ = writeln!(end, "{}: {why}", column.name);
    }
    let width = terminal::width();
    Ok(terminal::wrapped_lines(&text, width)
        + &table.render(width)
        + &terminal::wrapped_lines(&end, width))
}

/// Layers of each chunk: `8+8+7+7`, shortened where chunks are many.
fn layout(layers: u32, chunks: u32) -> Result<String> {
    let ranges = anemll_layout::layer_ranges(layers, chunks)?;
    let lengths: Vec<String> =
        ranges.iter().map(|range| (range.end - range.first).to_string()).collect();
    let text = lengths.join("+");
    if text.len() <= 20 {
        return Ok(text);
    }
    Ok(format!(
        "{}+…+{}",
        lengths.first().map_or("", |text| text),
        lengths.last().map_or("", |text| text)
    ))
}

fn scaled(bytes: u64, arguments: &PlanArguments) -> u64 {
    (bytes as f64 * arguments.overhead) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_chunks() {
        assert_eq!(layout(30, 4).unwrap(), "8+8+7+7");
        assert_eq!(layout(30, 12).unwrap(), "3+…+2");
        assert_eq!(layout(1, 1).unwrap(), "1");
    }

    #[test]
    fn factors() {
        assert_eq!(overhead("1.1"), Ok(1.1));
        for text in ["0.9", "11", "nan", "inf", "x", ""] {
            assert!(overhead(text).is_err(), "{text}");
        }
    }
}
