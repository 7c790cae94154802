//! The five stages of a conversion as traits. A component of a plugin implements one of them.
//!
//! The host calls the `&self` methods from several threads at once. Components start no threads of
//! their own: they use [`Host::parallel`].

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::data::{
    Availability, CombineOptions, Encoded, FunctionSpec, Layout, LayoutRequest, ModelDescription,
    ModelInput, NamedFunction, Outline, Plan, PlanRequest, Scheme, SessionDescription, Verdict,
};
use crate::{Host, Result, Sink, TensorView};

/// Stage 1: turns a Hugging Face configuration into ML Program functions.
pub trait ArchFrontend: Send + Sync {
    /// Whether this frontend is the one for a `config.json`, given as text; it looks at nothing
    /// else. A configuration of another architecture is [`crate::data::MatchRank::None`]. One of this
    /// architecture that cannot be expressed has its rank, and a refusal for every key in the way
    /// ([`crate::codes::CONFIG_KEY_UNSUPPORTED`] and its neighbours).
    ///
    /// # Errors
    /// A text that is no configuration.
    fn accepts(&self, config_json: &str) -> Result<Verdict>;

    /// Reads a model, once for all that is asked of it.
    ///
    /// # Errors
    /// The refusals of [`Self::accepts`], and [`crate::codes::WEIGHT_SHAPE`] or
    /// [`crate::codes::WEIGHT_MISSING`] when the tensors are known and do not suit.
    fn open(&self, model: &ModelInput, host: &Host) -> Result<Box<dyn ArchModel>>;
}

/// A model that a frontend has read.
pub trait ArchModel: Send + Sync {
    /// The model's sizes, names and state, as the combiner and the report need them.
    fn describe(&self) -> ModelDescription;

    /// One function as a serialized `CoreML.Specification.Model`: specification version 9, its
    /// description with inputs, outputs, states and enumerated shapes, and an ML Program with the
    /// single function `main`, opset `CoreML8`. Weights are
    /// [references](crate::data::WeightReference), tables are immediate.
    ///
    /// # Errors
    /// Functions whose pieces do not go together.
    fn lower(&self, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>>;
}

/// Stage 2: decides how each weight is stored, and stores it.
pub trait Quantizer: Send + Sync {
    /// What this quantizer, with its options, is going to do with a model. A quantizer that says
    /// nothing of it needs no method of its own.
    ///
    /// # Errors
    /// Options that do not suit.
    fn scheme(&self, outline: &Outline) -> Result<Scheme> {
        let _ = outline;
        Ok(Scheme::default())
    }

    /// A decision for each weight that is not to stay float16, with the operation that will stand in
    /// its place, and transforms of weights that keep the function. Sizes are known from it: it is
    /// asked for before a weight is read, and also of conversions that are only talked of.
    ///
    /// # Errors
    /// Options or weights that do not suit.
    fn plan(&self, request: &PlanRequest<'_>, host: &Host) -> Result<Plan>;

    /// Writes one weight to the sink in its new form: a tensor for each argument of the operation
    /// that was planned, under the argument's name and of the type that was planned, and none else.
    /// `tensor` is float16 with all transforms applied; `parameters` are those of the decision;
    /// `statistics` those of [`PlanRequest::statistics`], if there are any for this weight.
    ///
    /// # Errors
    /// Whatever keeps the weight from being encoded; those of the sink.
    fn encode(
        &self,
        tensor: TensorView<'_>,
        parameters: &Value,
        statistics: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        host: &Host,
    ) -> Result<Encoded>;
}

/// Stage 3: says which packages there are, and joins functions into one model.
pub trait Combiner: Send + Sync {
    /// The packages, their functions and names, the steps that make them, and the order in which
    /// they are run. Compiling, the small files and the test are the host's.
    ///
    /// # Errors
    /// [`crate::codes::LAYOUT_OPTION_INVALID`] for options that do not suit the model.
    fn layout(&self, model: &ModelDescription, request: &LayoutRequest) -> Result<Layout>;

    /// Joins single functions into a serialized multifunction `CoreML.Specification.Model`.
    ///
    /// # Errors
    /// [`crate::codes::GRAPH_COMBINE`] for functions that cannot stand together.
    fn combine(
        &self,
        functions: &[NamedFunction<'_>],
        options: &CombineOptions,
        host: &Host,
    ) -> Result<Vec<u8>>;
}

/// Stage 4: compiles a package for deployment.
pub trait Compiler: Send + Sync {
    /// Whether this compiler can run here.
    ///
    /// # Errors
    /// Only when even that cannot be found out.
    fn check(&self) -> Result<Availability>;

    /// Compiles `package` into `output_directory`, which is made where it is missing, and gives the
    /// path of what it made.
    ///
    /// # Errors
    /// [`crate::codes::COMPILER_UNAVAILABLE`], [`crate::codes::COMPILE_FAILED`].
    fn compile(&self, package: &Path, output_directory: &Path, host: &Host) -> Result<PathBuf>;
}

/// Stage 5: executes packages.
pub trait Runtime: Send + Sync {
    /// Whether this runtime can run here.
    ///
    /// # Errors
    /// Only when even that cannot be found out.
    fn check(&self) -> Result<Availability>;

    /// Opens a package for execution.
    ///
    /// # Errors
    /// [`crate::codes::PACKAGE_UNREADABLE`] and its neighbours,
    /// [`crate::codes::OPERATION_UNSUPPORTED`], [`crate::codes::RUNTIME_UNAVAILABLE`].
    fn open(&self, package: &Path, host: &Host) -> Result<Box<dyn Session>>;
}

/// An open package with its states, which are zero at first and after [`Self::reset`].
pub trait Session: Send {
    /// The functions of the package with their inputs, outputs and states.
    fn describe(&self) -> SessionDescription;

    /// Makes all states zero.
    ///
    /// # Errors
    /// Those of the runtime underneath.
    fn reset(&mut self) -> Result<()>;

    /// Runs a function with inputs by name; writes the outputs and the values named in `taps` to the
    /// sink under their names, each once, in any order.
    ///
    /// # Errors
    /// [`crate::codes::FUNCTION_UNKNOWN`], [`crate::codes::INPUT_INVALID`],
    /// [`crate::codes::VALUE_UNKNOWN`], [`crate::codes::RUN_FAILED`], those of the sink.
    fn run(
        &mut self,
        function: &str,
        inputs: &[TensorView<'_>],
        taps: &[&str],
        outputs: &mut dyn Sink,
    ) -> Result<()>;
}
