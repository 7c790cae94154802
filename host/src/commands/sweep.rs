//! `sweep`: forms of weights tried, size against distance from the original.

use crate::arguments::{HeadArgument, ModelArgument, PALETTIZATION, count};
use crate::progress::{Display, Reporter};
use anemll_pipeline::component_options::TypedOption;
use anemll_pipeline::plugins::Plugins;
use anemll_pipeline::quantizer_choice::QuantizerChoice;
use anemll_pipeline::request::CalibrationChoice;
use anemll_pipeline::sweep::{Part, SweepRequest, sweep};
use anemll_plugin_api::Result;
use anemll_report::page::refuse_unwritable;
use anemll_report::sweep::{Lines, front, page};
use anemll_services as services;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Examples for the help.
pub const EXAMPLES: &str = "Examples:
  anemll sweep ./SmolLM2-135M --bits 4,6 --group 8,tensor
  anemll sweep ./SmolLM2-135M --bits 4 --group 8,16 --part all --html sweep.html

Each form is converted into a temporary folder and measured on the same text; a line is
printed as soon as a form is ready.";

/// What can be typed.
#[derive(Debug, Args)]
pub struct SweepArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgument,
    /// Numbers of bits to try.
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_values_t = [3, 4, 6])]
    pub bits: Vec<u32>,
    /// Groups to try with each, as --lut takes them after the bits: output channels that share a table,
    /// tensor, scale.
    #[arg(long, value_name = "GROUP", value_delimiter = ',', default_values_t = ["8", "tensor", "scale"].map(str::to_owned))]
    pub group: Vec<String>,
    /// What gets these forms; all else is 16-bit floats.
    #[arg(long, value_enum, default_value_t = PartArgument::Layers)]
    pub part: PartArgument,
    /// Quantizer plugin to use; default: lut-aware.
    #[arg(long, value_name = "ID", help_heading = PALETTIZATION)]
    pub quantizer: Option<String>,
    /// Option of the quantizer as NAME=VALUE; may be given several times.
    #[arg(short = 'O', long = "option", value_name = "NAME=VALUE", help_heading = PALETTIZATION)]
    pub options: Vec<TypedOption>,
    /// Statistics for all forms, as for convert.
    #[arg(long, value_name = "STATS|auto|none", default_value = "auto", help_heading = PALETTIZATION)]
    pub calibration: CalibrationChoice,
    /// Text to measure on, in UTF-8; by default a built-in one, which no calibration uses.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Take only the first N tokens of it.
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_tokens: Option<u64>,
    /// Architecture to use, where several accept the model.
    #[arg(long, value_name = "ID")]
    pub arch: Option<String>,
    /// Which weight the head has, where it is tied to the embedding and another one is stored.
    #[arg(long, value_name = "HEAD", value_enum)]
    pub head: Option<HeadArgument>,
    /// Where temporary packages go, which are as large as the model in 16-bit floats.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Write a page with a plot of size against distance.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print one JSON object when all is done.
    #[arg(long)]
    pub json: bool,
}

/// A part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartArgument {
    /// The matrices of attention and MLP.
    Layers,
    /// The embedding.
    Embeddings,
    /// The head.
    Head,
    /// All of these.
    All,
}

impl From<PartArgument> for Part {
    fn from(part: PartArgument) -> Self {
        match part {
            PartArgument::Layers => Self::Layers,
            PartArgument::Embeddings => Self::Embeddings,
            PartArgument::Head => Self::Head,
            PartArgument::All => Self::All,
        }
    }
}

/// Runs the command.
pub fn run(arguments: &SweepArguments, plugins: &Plugins) -> Result<()> {
    if let Some(file) = &arguments.html {
        refuse_unwritable(file)?;
    }
    let request = SweepRequest {
        model: arguments.model.to_owned(),
        bits: arguments.bits.clone(),
        groups: arguments.group.clone(),
        part: arguments.part.into(),
        quantizer: QuantizerChoice {
            id: arguments.quantizer.clone(),
            options: arguments.options.clone(),
        },
        calibration: arguments.calibration.clone(),
        text: arguments.text.clone(),
        tokens: arguments.max_tokens.unwrap_or(u64::MAX),
        arch: arguments.arch.clone(),
        head: arguments.head.map(Into::into),
        scratch: arguments.scratch.clone(),
    };
    let lines = Lines::new(anemll_terminal::width());
    let reporter = Reporter::new(Display::Lines);
    let mut begun = false;
    let found =
        sweep(&request, plugins, &services::host(), &|event| reporter.show(event), &mut |row| {
            if arguments.json {
                return Ok(());
            }
            let head =
                if std::mem::replace(&mut begun, true) { String::new() } else { lines.head() };
            anemll_terminal::beside_bars(|| super::print(&(head + &lines.row(row))))
        })?;
    drop(reporter);
    if let Some(file) = &arguments.html {
        super::write_page(file, &page(&found)?)?;
    }
    if arguments.json {
        return super::print_json(&found);
    }
    super::print(&format!(
        "\n{}",
        anemll_terminal::wrapped_lines(&front(&found), anemll_terminal::width())
    ))
}
