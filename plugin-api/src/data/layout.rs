//! What a combiner is asked and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::FunctionSpec;

/// How a model is to be laid out, as far as every combiner can be asked. What only some can do,
/// such as cutting the layers, is an option of the component.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayoutRequest {
    /// The prefix of package names; the model's own when absent.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Metadata that is added to every package.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// What the quantizer says of its work, for names and metadata; the host hands it on unread.
    /// Bits per weight are the integers `bits.embeddings`, `bits.layers` and `bits.head`, rows that
    /// share one table `group.embeddings` and so on (0: all rows); a part that stays float16 has
    /// none.
    #[serde(default)]
    pub labels: Map<String, Value>,
}

/// A step of the conversion that makes packages, as `--restart` and `--only` count them. The host's
/// own steps (compiling, small files, testing) follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// Counted from 1.
    pub number: u32,
    /// What is done, in a few words.
    pub title: String,
}

/// One weight file, which all packages of its functions share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WeightFile {
    /// Unique in the layout.
    pub id: String,
    /// Ids of functions; weights are laid out in this order, each once.
    pub functions: Vec<String>,
}

/// What a package is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PackageKind {
    /// A part with one function.
    Part,
    /// Several functions in one package.
    Combined,
    /// For evaluation only; it is not shipped.
    Evaluate,
    /// One that this version does not know. Hosts refuse such a layout.
    #[serde(other)]
    Unknown,
}

/// A function of a package.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PackageFunction {
    /// The function's id in the layout.
    pub id: String,
    /// Its name in the package.
    pub name: String,
}

/// One package. With a single function `main` it is written plainly; with several it goes through
/// [`crate::Combiner::combine`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PackageSpec {
    /// The file name without `.mlpackage`.
    pub stem: String,
    /// The directory below the output; empty for the output itself.
    #[serde(default)]
    pub directory: String,
    /// What it is there for.
    pub kind: PackageKind,
    /// The number of the step that makes it; 0 for packages for evaluation, which the host's test
    /// makes.
    pub step: u32,
    /// The id of its weight file.
    pub weight_file: String,
    /// Its functions.
    pub functions: Vec<PackageFunction>,
    /// The function that is used when none is named; for combined packages.
    #[serde(default)]
    pub default_function: Option<String>,
    /// One line that says what it is.
    pub short_description: String,
    /// The `userDefined` metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// One call when a model is run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunStep {
    /// The package's directory and stem.
    pub package: String,
    /// The function's name in the package.
    pub function: String,
}

/// How a model is run: the calls that make up one pass, in order, and what goes from one to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunOrder {
    /// One token.
    pub infer: Vec<RunStep>,
    /// A batch of tokens into the state.
    pub prefill: Vec<RunStep>,
    /// A batch of tokens to all logits.
    pub evaluate: Vec<RunStep>,
    /// Outputs by name, each with the input of later calls that takes it. An output that is not
    /// listed is taken by the input of its own name.
    #[serde(default)]
    pub feeds: BTreeMap<String, String>,
}

/// How a model is laid out in packages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layout {
    /// The combiner's id.
    pub combiner: String,
    /// The prefix of package names.
    pub prefix: String,
    /// The steps that make packages, in order, counted from 1.
    pub steps: Vec<Step>,
    /// All functions that the frontend has to lower.
    pub functions: Vec<FunctionSpec>,
    /// The weight files.
    pub weight_files: Vec<WeightFile>,
    /// The packages.
    pub packages: Vec<PackageSpec>,
    /// The keys of `model_info.parameters` in `meta.yaml` that the combiner knows.
    #[serde(default)]
    pub meta: Map<String, Value>,
    /// How the model is run.
    #[serde(default)]
    pub run: RunOrder,
}

/// A function on its way into a combined package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedFunction<'a> {
    /// Its name in the package.
    pub name: &'a str,
    /// A serialized `CoreML.Specification.Model` with one function.
    pub model: &'a [u8],
}

/// How functions are to be combined.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CombineOptions {
    /// The function that is used when none is named.
    pub default_function: String,
    /// One line that says what the package is.
    pub short_description: String,
    /// The `userDefined` metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}
