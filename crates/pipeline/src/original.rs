//! A model as it is: converted to 16-bit floats in a temporary folder, and opened to be run.

use crate::component_options::TypedOption;
use crate::convert::{self, weight_names};
use crate::event::Event;
use crate::kept::Kept;
use crate::model_files::HeadChoice;
use crate::plugins::Plugins;
use crate::quantizer_choice::QuantizerChoice;
use crate::request::ConvertRequest;
use crate::scratch;
use anemll_calibration::{Counting, Taps, WeightNames};
use anemll_codes as codes;
use anemll_conversion::{Conversion, META};
use anemll_generation::engine::Engine;
use anemll_plugin_api::{ComponentOptions, Error, Host, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// Tokens that one call of an evaluation function takes: more make better use of the processor.
pub(crate) const BATCH: u64 = 128;

/// Which model, and how it is run.
#[derive(Debug, Clone)]
pub struct OriginalRequest {
    /// A model directory on this machine.
    pub model: PathBuf,
    /// Context length in tokens.
    pub context: u64,
    /// Id of the frontend, where several accept the model.
    pub arch: Option<String>,
    /// Which weight the head has, where two are there.
    pub head: Option<HeadChoice>,
    /// Options of the frontend.
    pub options: Vec<TypedOption>,
    /// SHA-256 of configuration and weights, where it is known.
    pub source_sha256: Option<String>,
    /// Id of the runtime, which must be able to compute with activations in f32.
    pub runtime: String,
    /// Where the temporary folder goes; the system's own place when absent.
    pub scratch: Option<PathBuf>,
}

/// A model in 16-bit floats that can be run.
pub struct Original {
    /// Runs it.
    pub engine: Engine,
    /// SHA-256 of configuration and weights.
    pub source_sha256: String,
    weights: WeightNames,
    // Goes when the engine has closed its files.
    _folder: tempfile::TempDir,
}

impl Original {
    /// Converts a model into a temporary folder, as large as the model in 16-bit floats, and opens
    /// it. Weights beyond float16 are clamped.
    ///
    /// # Errors
    /// Those of a conversion, and of a runtime that rounds activations.
    pub fn open(
        request: &OriginalRequest,
        plugins: &Plugins,
        host: &Host,
        show: &dyn Fn(&Event<'_>),
    ) -> Result<Self> {
        let exact = ComponentOptions::new().with("activations", "float32");
        let runtime = plugins.runtime_with(&request.runtime, &exact)?;
        let folder =
            scratch::folder(&scratch::or_usual(request.scratch.as_deref()), "anemll-original-")?;
        let known = request.source_sha256.clone().map(|sha256| Arc::new(Kept::hash(sha256)));
        let conversion = ConvertRequest {
            context: request.context,
            batch: BATCH.min(request.context),
            arch: request.arch.clone(),
            head: request.head,
            quantizer: QuantizerChoice {
                options: request.options.clone(),
                ..QuantizerChoice::none()
            },
            kept: known,
            ..ConvertRequest::unquantized(&request.model, folder.path())
        };
        let weights = weight_names(&conversion, plugins)?;
        // Bars alone: what the conversion says is of no use here.
        let bars = |event: &Event<'_>| {
            if event.line().is_none() {
                show(event);
            }
        };
        convert::run(&conversion, plugins, "", &bars)?;
        let meta = folder.path().join(META);
        let source_sha256 = Conversion::read(&meta)?
            .source_sha256()
            .ok_or_else(|| Error::new(codes::INTERNAL, "a conversion does not name its model"))?;
        let engine = Engine::open(&meta, runtime.as_ref(), host)?;
        Ok(Self { engine, source_sha256, weights, _folder: folder })
    }

    /// The inputs of its matrices, and how much tokens count.
    ///
    /// # Errors
    /// A package cannot be read.
    pub fn taps(&self, counting: Counting) -> Result<Taps> {
        Taps::new(&self.engine.evaluation_functions(), &self.weights, counting)
    }
}
