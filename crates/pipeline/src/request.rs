//! What is to be converted, into what, and how.

use crate::component_options;
use crate::goal::Goal;
pub use crate::kept::Kept;
use crate::model_files::HeadChoice;
pub use crate::plugins::NONE;
use crate::plugins::Plugins;
use crate::quantization::Decisions;
pub use crate::quantizer_choice::QUANTIZER;
use crate::quantizer_choice::QuantizerChoice;
pub use crate::task::ModelTask;
use anemll_plugin_api::ComponentOptions;
use anemll_plugin_api::data::Stage;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How far a model may be from the original where bits are chosen by measures: nats a token. Texts unlike
/// the one that the bits are chosen by can lose half as much again (SmolLM2), and shall stay below 0.1.
pub const DIVERGENCE: f64 = 0.065;

/// Combiner and chunks are chosen by size.
pub const AUTO: &str = "auto";
/// Our own runtime, which is the same on every system.
pub const CPU: &str = "cpu";

/// A conversion as it is asked for.
///
/// What is serialized of it is what decides the output, and by which a later run knows the conversion:
/// a field that only says how a run goes is skipped, and any other is a part of it.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertRequest {
    /// The model: a directory, an entry of a hub's cache, or a name on the hub.
    #[serde(skip)]
    pub model: PathBuf,
    /// Directory for the packages.
    #[serde(skip)]
    pub output: PathBuf,
    /// What the model is converted for; what its directory says, when absent.
    #[serde(skip)]
    pub task: Option<ModelTask>,
    /// Context length in tokens.
    pub context: u64,
    /// Tokens that one call of `prefill` takes.
    pub batch: u64,
    /// Contexts that there are functions for, the largest of which is `context`; none leaves it to the
    /// combiner.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<u64>,
    /// Numbers of tokens that functions take, the largest of which is `batch`; none leaves it to the
    /// combiner.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<u64>,
    /// Id of the combiner, or [`AUTO`].
    pub combiner: String,
    /// Chunks of the layers; none leaves it to the combiner.
    pub chunk: Option<ChunkCount>,
    /// Largest weight file in MB of 1000000 bytes, where size decides.
    #[serde(skip)]
    pub max_chunk_mb: u32,
    /// First part of the file names; the model's own when absent.
    pub prefix: Option<String>,
    /// Whether the head gives indices and values in place of logits.
    pub argmax: bool,
    /// Tokens of the function that verifies guesses, where one is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<u64>,
    /// Pieces of the head; the frontend's choice when absent.
    pub split_lm_head: Option<u64>,
    /// Which weight the head has, where two are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadChoice>,
    /// The quantizer, and the options of all components.
    #[serde(flatten)]
    pub quantizer: QuantizerChoice,
    /// Where statistics of the weights' inputs come from.
    #[serde(skip)]
    pub calibration: CalibrationChoice,
    /// What a plan by measured damage has to keep to.
    #[serde(skip)]
    pub goal: Goal,
    /// What becomes of weights, where that was decided before.
    #[serde(skip)]
    pub decided: Option<Arc<Decisions>>,
    /// What is known of the model from other conversions of it.
    #[serde(skip)]
    pub kept: Option<Arc<Kept>>,
    /// Id of the frontend, where several accept the model.
    #[serde(skip)]
    pub arch: Option<String>,
    /// Id of the compiler, or [`NONE`]; the first that can run when absent.
    #[serde(skip)]
    pub compiler: Option<String>,
    /// Id of the runtime of the test step, or [`NONE`].
    #[serde(skip)]
    pub runtime: String,
    /// Whether the test step does not compare with the original model.
    #[serde(skip)]
    pub skip_quality: bool,
    /// Whether finite weights beyond float16 are clamped.
    pub clamp: bool,
    /// Whether missing weights become zeros.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing_weights: bool,
    /// Whether it goes without a tokenizer.
    #[serde(skip)]
    pub no_tokenizer: bool,
    /// The step from which on all is done again.
    #[serde(skip)]
    pub restart: Option<u32>,
    /// The only step that is done.
    #[serde(skip)]
    pub only: Option<u32>,
    /// Whether the disk is not asked for room.
    #[serde(skip)]
    pub skip_check: bool,
    /// Whether another conversion is replaced, and all done again.
    #[serde(skip)]
    pub force: bool,
}

impl ConvertRequest {
    /// The usual conversion of a model: 512 tokens of context, 64 a batch, all else by the plugins.
    pub fn new(model: &Path, output: &Path) -> Self {
        Self {
            model: model.to_owned(),
            output: output.to_owned(),
            task: None,
            context: 512,
            batch: 64,
            contexts: Vec::new(),
            queries: Vec::new(),
            combiner: AUTO.to_owned(),
            chunk: None,
            max_chunk_mb: 950,
            prefix: None,
            argmax: false,
            verify: None,
            split_lm_head: None,
            head: None,
            quantizer: QuantizerChoice::default(),
            calibration: CalibrationChoice::Auto,
            goal: Goal::Divergence(DIVERGENCE),
            decided: None,
            kept: None,
            arch: None,
            compiler: None,
            runtime: CPU.to_owned(),
            skip_quality: false,
            clamp: false,
            allow_missing_weights: false,
            no_tokenizer: false,
            restart: None,
            only: None,
            skip_check: false,
            force: false,
        }
    }

    /// What was typed for a component.
    pub(crate) fn options_of(&self, plugins: &Plugins, stage: Stage, id: &str) -> ComponentOptions {
        let mut options = ComponentOptions::new();
        component_options::add(&mut options, &self.quantizer.options, plugins, (stage, id));
        options
    }

    /// The model as it is, in 16-bit floats, to be measured and thrown away: in one
    /// chunk, with weights beyond float16 clamped, and not run.
    pub fn unquantized(model: &Path, output: &Path) -> Self {
        Self {
            chunk: Some(ChunkCount::Count(1)),
            quantizer: QuantizerChoice::none(),
            calibration: CalibrationChoice::None,
            compiler: Some(NONE.to_owned()),
            runtime: NONE.to_owned(),
            clamp: true,
            no_tokenizer: true,
            force: true,
            ..Self::new(model, output)
        }
    }
}

/// Where statistics of the weights' inputs come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CalibrationChoice {
    /// The model runs the built-in text, where its quantizer asks for statistics.
    #[default]
    Auto,
    /// There are none.
    None,
    /// A file that `calibrate` has made.
    File(PathBuf),
}

impl std::str::FromStr for CalibrationChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            AUTO => Self::Auto,
            NONE => Self::None,
            path => Self::File(PathBuf::from(path)),
        })
    }
}

/// A number of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
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
