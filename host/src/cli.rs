//! The command line: what can be typed. What it means stands in `commands`.

#![expect(missing_docs, reason = "a doc comment on a type would become help text")]

use crate::commands::chat::{self, ChatArguments};
use crate::commands::check::{self, CheckArguments};
use crate::commands::compile::{CompileArguments, EXAMPLES as COMPILE_EXAMPLES};
use crate::commands::completions::{self, CompletionsArguments, ManArguments};
use crate::commands::doctor::{self, DoctorArguments};
use crate::commands::plan::{self, PlanArguments};
use crate::commands::{diff, inspect};
use crate::component_options;
use crate::model_files::HeadChoice;
use crate::plugins::Plugins;
use crate::progress::Display;
use crate::quantizer_arguments::{HEADING as PALETTIZATION, QuantizerArguments};
use anemll_plugin_api::ComponentOptions;
use anemll_plugin_api::data::Stage;
use clap::{
    Arg, ArgGroup, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    ValueHint,
};
use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// Converts language models to Core ML packages for Apple's Neural Engine, on any system.
#[derive(Debug, Parser)]
#[command(name = "anemll", version, about, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// Plugin library to load for this run; may be given several times.
    #[arg(long = "plugin", value_name = "LIBRARY", global = true, help_heading = EVERYWHERE)]
    pub plugins: Vec<PathBuf>,

    /// Say more on standard error (-v progress details, -vv everything).
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = EVERYWHERE)]
    pub verbose: u8,
    /// Say nothing but errors on standard error; what was asked for still goes to standard output.
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = EVERYWHERE)]
    pub quiet: bool,
    /// Colours; auto: on a terminal, unless NO_COLOR is set.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto, global = true, help_heading = EVERYWHERE)]
    pub color: When,
    /// Threads that share the work (default: one for each processor).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), global = true, help_heading = EVERYWHERE)]
    pub threads: Option<u16>,

    #[command(subcommand)]
    pub command: Command,
}

const EVERYWHERE: &str = "For every command";

/// Whether something is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

impl From<When> for clap::ColorChoice {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

impl From<When> for anstream::ColorChoice {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

/// All that can be typed, as this program reads it.
pub fn command() -> clap::Command {
    complete(Cli::command())
}

/// A command and its own, in which a negative number is a value of the option before it, and shells
/// know where a directory is wanted.
fn complete(command: clap::Command) -> clap::Command {
    let values = |argument: Arg| {
        if !argument.get_action().takes_values() {
            return argument;
        }
        let directory = argument
            .get_value_names()
            .is_some_and(|names| names.iter().any(|name| name == "DIR" || name == "MODEL"));
        let argument = argument.allow_negative_numbers(true);
        if directory { argument.value_hint(ValueHint::DirPath) } else { argument }
    };
    command.mut_args(values).mut_subcommands(complete)
}

/// Reads a command line, the program's name first. `--color` holds for its errors, too.
///
/// # Errors
/// What cannot be understood, and help or a version that was asked for.
pub fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = command().color(color(arguments).into());
    let matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// What `--color` says, before the rest is read: the errors of reading have colours as well.
pub fn color(arguments: &[OsString]) -> When {
    let mut words = arguments.iter().filter_map(|word| word.to_str()).peekable();
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.peek().copied(),
            Some(rest) => rest.strip_prefix('='),
            None if word == "--" => break,
            None => None,
        };
        if let Some(when) = value.and_then(|value| When::from_str(value, false).ok()) {
            return when;
        }
    }
    When::Auto
}

/// The model of a command, named by `--model` or without it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ModelArgument {
    /// Model directory (config.json, safetensors weights, tokenizer files), entry of the Hugging
    /// Face cache, or name of a model to download, such as Qwen/Qwen3-0.6B.
    #[arg(value_name = "MODEL")]
    model_path: Option<PathBuf>,
    /// The same, as an option.
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
}

impl Deref for ModelArgument {
    type Target = Path;

    fn deref(&self) -> &Path {
        // One of the two is there: the group demands it.
        self.model.as_deref().or(self.model_path.as_deref()).unwrap_or(Path::new(""))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Convert a Hugging Face model directory to Core ML packages.
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(Box<ConvertArguments>),
    /// Compile packages to .mlmodelc, on any system.
    #[command(after_help = COMPILE_EXAMPLES)]
    Compile(Box<CompileArguments>),
    /// Measure a conversion: against reference logits of the original model, or on a text.
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArguments),
    /// Talk with a conversion: on a terminal, through a pipe, or one question.
    #[command(after_help = chat::EXAMPLES)]
    Chat(ChatArguments),
    /// Continue a text with a conversion.
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(GenerateArguments),
    /// Join functions of packages into one package, weights shared.
    #[command(after_help = crate::commands::combine::EXAMPLES)]
    Combine(Box<crate::commands::combine::CombineArguments>),
    /// Take one function of a package out, with its weights only.
    #[command(after_help = crate::commands::split::EXAMPLES)]
    Split(crate::commands::split::SplitArguments),
    /// Say which weights packages could share, without writing.
    #[command(after_help = crate::commands::dedup::EXAMPLES)]
    Dedup(crate::commands::dedup::DedupArguments),
    /// Lay a finished conversion out as apps load it, with a model card and sums of every file.
    #[command(after_help = crate::commands::export::EXAMPLES)]
    Export(crate::commands::export::ExportArguments),
    /// Check an export: every file, and, if asked, its logits against the original model.
    #[command(after_help = crate::commands::verify::EXAMPLES)]
    Verify(crate::commands::verify::VerifyArguments),
    /// Show what is in a package: functions, types, operations, weights, metadata.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::InspectArguments),
    /// Say whether a model can be converted, and what would be refused; needs config.json alone.
    #[command(after_help = check::EXAMPLES)]
    Check(CheckArguments),
    /// Say how large a conversion will be, and how many chunks it needs; needs config.json alone.
    #[command(after_help = plan::EXAMPLES)]
    Plan(PlanArguments),
    /// Say what this machine can do, and what is missing.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(DoctorArguments),
    /// Find the layers of a model whose activations pass the range of 16-bit floats.
    #[command(after_help = crate::commands::preflight::EXAMPLES)]
    Preflight(crate::commands::preflight::PreflightArguments),
    /// Say what an error code or a lint rule is about, and what to do.
    #[command(after_help = crate::commands::explain::EXAMPLES)]
    Explain(crate::commands::explain::ExplainArguments),
    /// Compare two packages: signatures, operations, values of weights.
    #[command(after_help = diff::EXAMPLES)]
    Diff(diff::DiffArguments),
    /// List plugins and what they offer.
    #[command(subcommand, after_help = PLUGIN_EXAMPLES)]
    Plugin(PluginCommand),
    /// Print the script that completes command lines in a shell.
    #[command(after_help = completions::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArguments),
    /// Print the manual, or write a page for every command.
    #[command(after_help = completions::MAN_EXAMPLES)]
    Man(ManArguments),
}

const CONVERT_EXAMPLES: &str = "Examples:
  anemll convert ./SmolLM2-135M -o ./out
  anemll convert ./SmolLM2-135M -o ./out --dry-run
  anemll convert ./SmolLM2-135M -o ./out --combiner monolithic --context 1024
  anemll convert ./SmolLM2-135M -o ./out --chunk 4 --lut2 6 --lut3 8
  anemll convert ./SmolLM2-135M -o ./out --lut none
  anemll --plugin ./libllama.so convert ./SmolLM2-135M -o ./out --restart 5
  anemll convert Qwen/Qwen3-0.6B -o ./qwen";

const EVAL_EXAMPLES: &str = "Examples:
  anemll eval out --tokens ids.npy --reference logits.npy
  anemll eval out --tokens ids.npy --reference logits.npy --path prefill --prefill-tokens 125 --json
  anemll eval out --text book.txt --max-tokens 4000
  anemll eval out4 --text book.txt --against out

REFERENCE is a .npy array (float16 or float32, tokens x vocabulary), or a .npz with the arrays
`indices` and `logits` (tokens x K, the K largest) and `logsumexp` (tokens).";

const GENERATE_EXAMPLES: &str = "Examples:
  anemll generate out --prompt \"Once upon a time\"
  anemll generate out -p \"1, 2, 3,\" --max-tokens 20 --temperature 0.8 --seed 7
  anemll generate out -p \"Once upon a time\" --max-tokens 20 --json";

const PLUGIN_EXAMPLES: &str = "Examples:
  anemll plugin list
  anemll --plugin ./libllama.so plugin list --json";

const RUN: &str = "Steps";

#[derive(Debug, Args)]
pub struct ConvertArguments {
    #[command(flatten)]
    pub model: ModelArgument,
    /// Directory for the packages; made if it does not exist.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Context length in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = count)]
    pub context: u64,
    /// Tokens that one call of `prefill` takes.
    #[arg(long, value_name = "TOKENS", default_value_t = 64, value_parser = count)]
    pub batch: u64,
    /// How the model is cut into packages: the id of a combiner plugin; auto: by size.
    #[arg(long, value_name = "ID", default_value = "auto")]
    pub combiner: String,
    /// Number of chunks that the layers are divided into (combiner `chunked`; default 2), or auto.
    #[arg(long, value_name = "N|auto")]
    pub chunk: Option<ChunkCount>,
    /// Largest weight file in MB for `--chunk auto` and `--combiner auto`.
    #[arg(long, value_name = "MB", default_value_t = 950, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_chunk_mb: u32,
    /// First part of the file names; default by architecture.
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,
    /// Let the model return the index of the largest logit of each piece instead of the logits.
    #[arg(long)]
    pub argmax: bool,
    /// Pieces that the output head is split into; default by architecture.
    #[arg(long, value_name = "N", value_parser = count)]
    pub split_lm_head: Option<u64>,
    /// Which weight the head has, where it is tied to the embedding and another one is stored.
    #[arg(long, value_name = "HEAD", value_enum)]
    pub head: Option<HeadChoice>,
    #[command(flatten)]
    pub quantizer: QuantizerArguments,
    /// Statistics of the weights' inputs, for a quantizer that uses them: a safetensors file.
    #[arg(long, value_name = "FILE", help_heading = PALETTIZATION)]
    pub statistics: Option<PathBuf>,
    /// Arch frontend to use, where several accept the model.
    #[arg(long, value_name = "ID")]
    pub arch: Option<String>,
    /// Compiler backend for the .mlmodelc step, or `none`; default: coremlcompiler where it can run,
    /// else mlmodelc.
    #[arg(long, value_name = "ID")]
    pub compiler: Option<String>,
    /// Runtime for the test step, or `none`.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Clamp finite weights beyond the range of 16-bit floats to ±65504 instead of refusing them.
    #[arg(long)]
    pub clamp: bool,
    /// Put zeros where the model directory lacks a weight, and warn, instead of refusing.
    #[arg(long)]
    pub allow_missing_weights: bool,
    /// Convert a model directory without a tokenizer, or with a broken one.
    #[arg(long)]
    pub no_tokenizer: bool,
    /// Do step N and all later ones again, on what the earlier ones made.
    #[arg(long, value_name = "N", help_heading = RUN, conflicts_with = "only")]
    pub restart: Option<u32>,
    /// Do only step N.
    #[arg(long, value_name = "N", help_heading = RUN)]
    pub only: Option<u32>,
    /// Say what would be made, and how much disk and memory it takes; touch nothing.
    #[arg(long, help_heading = RUN)]
    pub dry_run: bool,
    /// Do not look first whether the disk has room for the packages.
    #[arg(long, help_heading = RUN)]
    pub skip_check: bool,
    /// Do everything again, and replace the conversion of another model or with other options.
    #[arg(long, help_heading = RUN)]
    pub force: bool,
    /// How to tell what happens: lines on standard error, or JSON objects on standard output.
    #[arg(long, value_enum, default_value_t = ProgressForm::Lines)]
    pub progress: ProgressForm,
    /// The same as --progress json; with --dry-run one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A number of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkCount {
    /// The fewest that keep each weight file below the limit.
    Auto,
    /// This many.
    Count(u32),
}

impl std::str::FromStr for ChunkCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            number => number
                .parse()
                .map(Self::Count)
                .map_err(|_| "take a number of chunks, or auto".to_owned()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// Lines for people, with a bar on a terminal and a line each ten seconds elsewhere.
    Lines,
    /// One JSON object for each event.
    Json,
}

impl ConvertArguments {
    /// The options that were typed for a component.
    pub fn options_of(&self, plugins: &Plugins, stage: Stage, id: &str) -> ComponentOptions {
        let mut options = ComponentOptions::new();
        component_options::add(&mut options, &self.quantizer.options, plugins, (stage, id));
        options
    }

    /// Whether JSON is asked for.
    pub fn wants_json(&self) -> bool {
        self.json || self.progress == ProgressForm::Json
    }

    /// How events are shown.
    pub fn display(&self) -> Display {
        if self.wants_json() { Display::Json } else { Display::Lines }
    }
}

#[derive(Debug, Clone, Default, Args)]
pub struct ConversionArguments {
    /// The conversion: its directory, or the meta.yaml in it.
    #[arg(value_name = "OUT", required_unless_present = "meta")]
    pub conversion: Option<PathBuf>,
    /// The same as OUT.
    #[arg(short, long, value_name = "OUT", conflicts_with = "conversion")]
    pub meta: Option<PathBuf>,
}

impl ConversionArguments {
    /// The meta.yaml.
    pub fn meta(&self) -> PathBuf {
        let given = self.conversion.as_ref().or(self.meta.as_ref());
        crate::meta::locate(given.map_or_else(|| std::path::Path::new(""), |path| path.as_path()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EvaluationPath {
    /// Every token through `infer`, one at a time.
    Infer,
    /// The first tokens through `prefill`, the others through `infer`; the latter are compared.
    Prefill,
    /// Every token through the evaluation functions, a batch at a time.
    Evaluate,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("input").required(true).args(["tokens", "text"]))]
pub struct EvalArguments {
    #[command(flatten)]
    pub conversion: ConversionArguments,
    /// Token ids: a .npy array of integers.
    #[arg(long, value_name = "IDS.npy")]
    pub tokens: Option<PathBuf>,
    /// Text to measure the perplexity on, in UTF-8.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Logits of the original model at each token; without it, the perplexity is measured.
    #[arg(long, value_name = "REFERENCE", requires = "tokens", conflicts_with_all = ["text", "against", "max_tokens"])]
    pub reference: Option<PathBuf>,
    /// Another conversion of the model, to compare the distributions with: its directory or meta.yaml.
    #[arg(long, value_name = "OUT")]
    pub against: Option<PathBuf>,
    /// Take only the first N tokens.
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_tokens: Option<u64>,
    /// Which functions to run.
    #[arg(long, value_enum, default_value_t = EvaluationPath::Evaluate)]
    pub path: EvaluationPath,
    /// With `--path prefill`: how many tokens go through `prefill` (default: one batch).
    #[arg(long, value_name = "K", requires = "reference", value_parser = count)]
    pub prefill_tokens: Option<u64>,
    /// Runtime plugin.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArguments {
    /// Divides the logits before a token is drawn; 0 takes the most likely token.
    #[arg(long, value_name = "T", value_parser = temperature)]
    pub temperature: Option<f32>,
    /// Draw from the K most likely tokens; 0: from all.
    #[arg(long, value_name = "K", value_parser = count)]
    pub top_k: Option<u64>,
    /// Draw from the most likely tokens whose probabilities reach P together; 1: from all.
    #[arg(long, value_name = "P", value_parser = share)]
    pub top_p: Option<f32>,
    /// Draw from tokens that are at least P times as likely as the most likely one; 0: from all.
    #[arg(long, value_name = "P", value_parser = share)]
    pub min_p: Option<f32>,
    /// Makes tokens that occurred less likely, above 1; 1: no difference (default: the model's, else 1).
    #[arg(long, value_name = "P", value_parser = penalty)]
    pub repetition_penalty: Option<f32>,
    /// Number that decides what is drawn; the same number gives the same text.
    #[arg(long, value_name = "N", value_parser = count)]
    pub seed: Option<u64>,
}

impl SamplingArguments {
    /// Whether an option was given that means to draw.
    pub fn asks_to_sample(&self) -> bool {
        self.temperature.is_some_and(|value| value > 0.0)
            || self.top_k.is_some()
            || self.top_p.is_some()
            || self.min_p.is_some()
    }

    /// Whether an option was given that needs all logits.
    pub fn needs_logits(&self) -> bool {
        self.asks_to_sample() || self.repetition_penalty.is_some_and(|penalty| penalty != 1.0)
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("take a number from 0 on, such as 0.7".to_owned()),
    }
}

/// A whole number from 0 on.
pub fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "take a whole number from 0 on".to_owned())
}

fn penalty(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("take a number above 0, such as 1.1".to_owned()),
    }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("take a number from 0 to 1".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct GenerateArguments {
    #[command(flatten)]
    pub conversion: ConversionArguments,
    /// Text to continue.
    #[arg(short, long, value_name = "TEXT")]
    pub prompt: String,
    /// Largest number of tokens to generate.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count)]
    pub max_tokens: u64,
    /// Runtime plugin.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Print one JSON object, at the end.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub sampling: SamplingArguments,
}

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the plugins that are found, with what they offer.
    List {
        /// Also list the options that each component takes.
        #[arg(long)]
        options: bool,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn a_model_is_named_with_or_without_its_flag() {
        for line in [
            "anemll convert m -o o",
            "anemll convert -m m -o o",
            "anemll convert --output o --model m",
        ] {
            let Command::Convert(arguments) = parse(&words(line)).unwrap().command else {
                panic!("{line}")
            };
            assert_eq!((&*arguments.model, &*arguments.output), (Path::new("m"), Path::new("o")));
        }
        for line in ["anemll convert -o o", "anemll convert m --model m -o o"] {
            assert!(parse(&words(line)).is_err(), "{line}");
        }
    }

    #[test]
    fn flags_for_every_command_stand_anywhere() {
        for line in ["anemll -q --threads 3 plan m", "anemll plan m --quiet --threads=3"] {
            let cli = parse(&words(line)).unwrap();
            assert!(cli.quiet && cli.threads == Some(3), "{line}");
        }
        assert!(parse(&words("anemll plan m -q -v")).is_err());
        assert_eq!(color(&words("anemll plan --color never m")), When::Never);
        assert_eq!(color(&words("anemll --color=always")), When::Always);
        assert_eq!(color(&words("anemll plan m")), When::Auto);
        assert_eq!(color(&words("anemll -- --color=always")), When::Auto);
    }

    #[test]
    fn negative_numbers_are_values() {
        for line in [
            "anemll generate --meta m --prompt p --temperature -1",
            "anemll generate --meta m --prompt p --top-p -0.5",
            "anemll generate --meta m --prompt p --seed -7",
            "anemll convert m -o o --context -5",
            "anemll plan m --overhead -1",
            "anemll --threads -2 plan m",
        ] {
            let refusal = parse(&words(line)).unwrap_err();
            assert_eq!(
                refusal.kind(),
                clap::error::ErrorKind::ValueValidation,
                "{line}: {refusal}"
            );
            assert!(!refusal.to_string().contains("unexpected argument"), "{refusal}");
        }
    }
}
