//! Arguments that several commands have.

#![expect(missing_docs, reason = "a doc comment on a type would become help text")]

use anemll_generation::drafting::Draft;
use anemll_generation::settings::Wanted;
use anemll_pipeline::component_options::{FULL, TypedOption, WINDOW_CACHE};
use anemll_pipeline::event::Event;
use anemll_pipeline::goal::Goal;
use anemll_pipeline::model_files::HeadChoice;
use anemll_pipeline::model_source;
use anemll_pipeline::quantizer_choice::QuantizerChoice;
use anemll_pipeline::request::DIVERGENCE;
use anemll_plugin_api::Error;
use clap::{ArgGroup, Args, ValueEnum};
use std::ops::Deref;
use std::path::{Path, PathBuf};

pub const PALETTIZATION: &str = "Palettization";

/// The model of a command, named by `--model` or without it.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("given").required(true).args(["model_path", "model"]))]
pub struct ModelArgument {
    /// Model directory (config.json, safetensors weights, tokenizer files), GGUF file, entry of the
    /// Hugging Face cache, or name of a model to download, such as Qwen/Qwen3-0.6B.
    #[arg(value_name = "MODEL")]
    model_path: Option<PathBuf>,
    /// The same, as an option.
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// LoRA adapter (PEFT directory) to be merged into the model.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
}

impl ModelArgument {
    /// Puts the model with the adapter in place of the two.
    pub fn adapt(&mut self, show: &dyn Fn(&Event<'_>)) -> Result<(), Error> {
        self.model = Some(model_source::adapted(self, self.adapter.as_deref(), show)?);
        Ok(())
    }
}

impl Deref for ModelArgument {
    type Target = Path;

    fn deref(&self) -> &Path {
        // One of the two is there: the group demands it.
        self.model.as_deref().or(self.model_path.as_deref()).unwrap_or(Path::new(""))
    }
}

#[derive(Debug, Clone, Default, Args)]
pub struct LutArguments {
    /// BITS or BITS,GROUP of layers and head (monolithic: of all parts), such as 4, 6,16, 4,tensor,
    /// 4,scale, 2,vector; none for 16-bit floats; auto, the default: the fewest bits that keep the model
    /// close to the original, as measured (from 3 B parameters on only where it is asked for: embeddings and head
    /// 8, layers 4). With a --lut flag, the others are ANEMLL's: layers 4, head 6 (monolithic: 4 for
    /// all).
    #[arg(long, value_name = "LUT", help_heading = PALETTIZATION)]
    pub lut: Option<String>,
    /// Palettization of the embeddings.
    #[arg(long, value_name = "LUT", help_heading = PALETTIZATION, visible_alias = "lut-embeddings")]
    pub lut1: Option<String>,
    /// Palettization of the layers.
    #[arg(long, value_name = "LUT", help_heading = PALETTIZATION)]
    pub lut2: Option<String>,
    /// Palettization of the head.
    #[arg(long, value_name = "LUT", help_heading = PALETTIZATION, visible_alias = "lut-lmhead")]
    pub lut3: Option<String>,
}

impl LutArguments {
    /// The options of the quantizer that the flags stand for.
    fn typed(&self) -> impl Iterator<Item = TypedOption> {
        let flags = [
            ("--lut", "all", &self.lut),
            ("--lut1", "embeddings", &self.lut1),
            ("--lut2", "layers", &self.lut2),
            ("--lut3", "head", &self.lut3),
        ];
        flags
            .into_iter()
            .filter_map(|(flag, name, text)| Some(TypedOption::of_flag(flag, name, text.as_ref()?)))
    }
}

/// How a model is run as it is, to be measured.
#[derive(Debug, Clone, Args)]
pub struct OriginalArguments {
    /// Architecture to use, where several accept the model.
    #[arg(long, value_name = "ID")]
    pub arch: Option<String>,
    /// Which weight the head has, where it is tied to the embedding and another one is stored.
    #[arg(long, value_name = "HEAD", value_enum)]
    pub head: Option<HeadArgument>,
    /// Runtime plugin; for a model as it is, one that computes with activations in f32.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Where temporary packages go, which are as large as the model in 16-bit floats.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

/// What bits by measured damage have to keep to.
#[derive(Debug, Clone, Args)]
pub struct GoalArguments {
    /// Bits by measures: how far the model may be from the original, as the Kullback-Leibler divergence
    /// in nats a token.
    #[arg(long, value_name = "NATS", default_value_t = DIVERGENCE, value_parser = above_zero, help_heading = PALETTIZATION)]
    pub max_kl: f64,
    /// Bits by measures: the best of so many bits a weight.
    #[arg(long, value_name = "BITS", value_parser = above_zero, help_heading = PALETTIZATION, conflicts_with_all = ["max_kl", "budget_mb"])]
    pub target_bits: Option<f64>,
    /// Bits by measures: the best of so many MB of weights.
    #[arg(long, value_name = "MB", value_parser = count, help_heading = PALETTIZATION, conflicts_with = "max_kl")]
    pub budget_mb: Option<u64>,
}

impl From<&GoalArguments> for Goal {
    fn from(typed: &GoalArguments) -> Self {
        match (typed.target_bits, typed.budget_mb) {
            (Some(bits), _) => Self::Bits(bits),
            (None, Some(megabytes)) => Self::Bytes(megabytes.saturating_mul(1_000_000)),
            (None, None) => Self::Divergence(typed.max_kl),
        }
    }
}

/// A number above zero.
fn above_zero(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|number| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "take a number above 0".to_owned())
}

#[derive(Debug, Clone, Default, Args)]
pub struct QuantizerArguments {
    #[command(flatten)]
    pub luts: LutArguments,
    /// Quantizer plugin to use, or none for 16-bit floats; default: lut-aware.
    #[arg(long, value_name = "ID", help_heading = PALETTIZATION)]
    pub quantizer: Option<String>,
    /// Option of the quantizer as NAME=VALUE, or of any component as COMPONENT.NAME=VALUE; may be
    /// given several times. `anemll plugin list --options` shows them.
    #[arg(
        short = 'O',
        long = "option",
        value_name = "NAME=VALUE",
        help_heading = PALETTIZATION,
        visible_alias = "quantizer-option"
    )]
    pub options: Vec<TypedOption>,
}

impl QuantizerArguments {
    /// The choice, and where caches of windows are not what they usually are, that option of the model's
    /// plugin.
    pub fn with_window_cache(&self, cache: &str) -> QuantizerChoice {
        let mut choice = QuantizerChoice::from(self);
        if cache != FULL {
            choice.options.push(TypedOption::of_arch(WINDOW_CACHE, cache));
        }
        choice
    }
}

impl From<&QuantizerArguments> for QuantizerChoice {
    fn from(typed: &QuantizerArguments) -> Self {
        let options = typed.luts.typed().chain(typed.options.iter().cloned()).collect();
        Self { id: typed.quantizer.clone(), options }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeadArgument {
    /// The embedding, as transformers 4 has it.
    Tied,
    /// The stored weight, as transformers 5 has it.
    Stored,
}

impl From<HeadArgument> for HeadChoice {
    fn from(head: HeadArgument) -> Self {
        match head {
            HeadArgument::Tied => Self::Tied,
            HeadArgument::Stored => Self::Stored,
        }
    }
}

#[derive(Debug, Clone, Default, Args)]
pub struct DraftArguments {
    /// Conversion of a smaller model with the same tokens, which guesses tokens for one made with
    /// --verify; without it, what a text repeats is guessed.
    #[arg(long, value_name = "OUT", conflicts_with = "no_draft")]
    pub draft_meta: Option<PathBuf>,
    /// Guess no tokens.
    #[arg(long)]
    pub no_draft: bool,
}

impl From<&DraftArguments> for Draft {
    fn from(typed: &DraftArguments) -> Self {
        match &typed.draft_meta {
            _ if typed.no_draft => Self::None,
            Some(given) => Self::SmallerModel(anemll_conversion::locate(given)),
            None => Self::Repetition,
        }
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
        anemll_conversion::locate(
            given.map_or_else(|| std::path::Path::new(""), |path| path.as_path()),
        )
    }
}

#[derive(Debug, Clone, Default, Args)]
pub struct PromptArguments {
    /// Text that is answered or continued; then the program ends.
    #[arg(short, long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// The same, all of a file; -: all of standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompt_file: Option<PathBuf>,
}

impl PromptArguments {
    /// The text, if one was given.
    pub fn text(&self) -> Result<Option<String>, Error> {
        match &self.prompt_file {
            Some(path) => anemll_talk::prompt_of(path).map(Some),
            None => Ok(self.prompt.clone()),
        }
    }
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
    /// Makes tokens that the answer has already less likely, from -2 to 2; 0: no difference.
    #[arg(long, value_name = "P", value_parser = from_minus_two)]
    pub presence_penalty: Option<f32>,
    /// The same, once for each time that a token occurred in the answer.
    #[arg(long, value_name = "P", value_parser = from_minus_two)]
    pub frequency_penalty: Option<f32>,
    /// End the answer before this text; may be given several times.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub stop: Vec<String>,
    /// Number that decides what is drawn; the same number gives the same text.
    #[arg(long, value_name = "N", value_parser = count)]
    pub seed: Option<u64>,
}

impl SamplingArguments {
    /// What was typed, as those know it who choose tokens.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            temperature: self.temperature,
            top_k: self.top_k.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
        }
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("take a number, 0 or greater, such as 0.7".to_owned()),
    }
}

/// A whole number from 0 on.
pub fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "take a whole number, 0 or greater".to_owned())
}

fn penalty(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("take a number above 0, such as 1.1".to_owned()),
    }
}

fn from_minus_two(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (-2.0..=2.0).contains(&value) => Ok(value),
        _ => Err("take a number from -2 to 2".to_owned()),
    }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("take a number from 0 to 1".to_owned()),
    }
}
