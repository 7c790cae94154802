//! What a combiner is asked and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FunctionSpec, StateInfo};

/// How a model is to be laid out, as far as every combiner can be asked. What only some can do,
/// such as cutting the layers, is an option of the component.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
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

builders! {
    impl LayoutRequest {
        with_prefix(prefix: impl Into<Option<String>>);
        with_metadata(metadata: BTreeMap<String, String>);
        with_labels(labels: Map<String, Value>);
    }
}

/// A step of the conversion that makes packages, as `--restart` and `--only` count them. The host's
/// own steps (compiling, small files, testing) follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// Counted from 1.
    pub number: u32,
    /// What is done, in a few words.
    pub title: String,
}

impl Step {
    /// A step with this number, counted from 1.
    pub fn new(number: u32, title: impl Into<String>) -> Self {
        Self { number, title: title.into() }
    }
}

/// One weight file, which all packages of its functions share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WeightFile {
    /// Unique in the layout.
    pub id: String,
    /// Ids of functions; weights are laid out in this order, each once.
    pub functions: Vec<String>,
}

impl WeightFile {
    /// The weights of these functions, in their order.
    pub fn new<I: IntoIterator<Item: Into<String>>>(id: impl Into<String>, functions: I) -> Self {
        Self { id: id.into(), functions: functions.into_iter().map(Into::into).collect() }
    }
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
#[non_exhaustive]
pub struct PackageFunction {
    /// The function's id in the layout.
    pub id: String,
    /// Its name in the package.
    pub name: String,
}

impl PackageFunction {
    /// The function with this id, under this name.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into() }
    }
}

/// One package. With a single function `main` it is written plainly; with several it goes through
/// [`crate::Combiner::combine`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
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

impl PackageSpec {
    /// A package of this name, without functions yet.
    pub fn new(
        stem: impl Into<String>,
        kind: PackageKind,
        step: u32,
        weight_file: impl Into<String>,
    ) -> Self {
        Self {
            stem: stem.into(),
            directory: String::new(),
            kind,
            step,
            weight_file: weight_file.into(),
            functions: Vec::new(),
            default_function: None,
            short_description: String::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// The same package with one more function, given by its id and its name in the package.
    #[must_use]
    pub fn with_function(mut self, id: impl Into<String>, name: impl Into<String>) -> Self {
        self.functions.push(PackageFunction::new(id, name));
        self
    }

    /// The same package with this function used when none is named; for combined packages.
    #[must_use]
    pub fn with_default_function(mut self, name: impl Into<String>) -> Self {
        self.default_function = Some(name.into());
        self
    }

    /// How the [run order](RunStep::package) names it: directory and stem.
    pub fn path(&self) -> String {
        match self.directory.as_str() {
            "" => self.stem.clone(),
            directory => format!("{directory}/{}", self.stem),
        }
    }

    /// A call of one of its functions, by name.
    pub fn call(&self, function: impl Into<String>) -> RunStep {
        RunStep::new(self.path(), function)
    }
}

builders! {
    impl PackageSpec {
        with_directory(directory: impl Into<String>);
        with_weight_file(weight_file: impl Into<String>);
        with_short_description(short_description: impl Into<String>);
        with_metadata(metadata: BTreeMap<String, String>);
    }
}

/// One call when a model is run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunStep {
    /// The package's directory and stem.
    pub package: String,
    /// The function's name in the package.
    pub function: String,
}

impl RunStep {
    /// A call of this package's function of this name.
    pub fn new(package: impl Into<String>, function: impl Into<String>) -> Self {
        Self { package: package.into(), function: function.into() }
    }
}

/// How a model is run: the calls that make up one pass, in order, and what goes from one to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunOrder {
    /// One token.
    pub infer: Vec<RunStep>,
    /// A batch of tokens into the state.
    pub prefill: Vec<RunStep>,
    /// A batch of tokens to all logits.
    pub evaluate: Vec<RunStep>,
    /// A few tokens to all logits, in the state that `infer` has: how guessed tokens are verified. The
    /// tokens behind the first wrong one are then run again from there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<RunStep>,
    /// A batch of tokens to the vector of their text; a model that gives vectors has no other calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embed: Vec<RunStep>,
    /// Outputs by name, each with the input of later calls that takes it. An output that is not
    /// listed is taken by the input of its own name.
    #[serde(default)]
    pub feeds: BTreeMap<String, String>,
}

impl RunOrder {
    /// The same order with an output that is taken by an input of another name.
    #[must_use]
    pub fn with_feed(mut self, output: impl Into<String>, input: impl Into<String>) -> Self {
        self.feeds.insert(output.into(), input.into());
        self
    }
}

builders! {
    impl RunOrder {
        with_infer(infer: Vec<RunStep>);
        with_prefill(prefill: Vec<RunStep>);
        with_evaluate(evaluate: Vec<RunStep>);
        with_verify(verify: Vec<RunStep>);
        with_embed(embed: Vec<RunStep>);
        with_feeds(feeds: BTreeMap<String, String>);
    }
}

/// How a model is laid out in packages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// The states of its functions, where they are not [the model's](super::ModelDescription::states).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateInfo>,
    /// What makes the output directory a bundle, which apps load as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Bundle>,
}

/// What apps that load a whole directory find in it beside what the compiler makes, and beside the
/// tokenizer's files, which are in the folder `tokenizer`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bundle {
    /// Id of the compiler whose output the apps load: no other will do.
    pub compiler: String,
    /// Files of JSON, by their names in the output directory, which end in `.json`.
    pub files: BTreeMap<String, Value>,
}

impl Bundle {
    /// A bundle of what this compiler makes.
    pub fn new(compiler: impl Into<String>) -> Self {
        Self { compiler: compiler.into(), ..Self::default() }
    }

    /// The same bundle with one more file.
    #[must_use]
    pub fn with_file(mut self, name: impl Into<String>, contents: Value) -> Self {
        self.files.insert(name.into(), contents);
        self
    }
}

impl Layout {
    /// A layout of this combiner, with packages of this prefix, which has nothing in it yet.
    pub fn new(combiner: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { combiner: combiner.into(), prefix: prefix.into(), ..Self::default() }
    }

    /// The same layout with these steps, which are counted from 1.
    #[must_use]
    pub fn with_steps<I: IntoIterator<Item: Into<String>>>(mut self, titles: I) -> Self {
        self.steps = (1..).zip(titles).map(|(number, title)| Step::new(number, title)).collect();
        self
    }
}

builders! {
    impl Layout {
        with_functions(functions: Vec<FunctionSpec>);
        with_weight_files(weight_files: Vec<WeightFile>);
        with_packages(packages: Vec<PackageSpec>);
        with_meta(meta: Map<String, Value>);
        with_run(run: RunOrder);
        with_states(states: Vec<StateInfo>);
        with_bundle(bundle: impl Into<Option<Bundle>>);
    }
}

/// A function on its way into a combined package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedFunction<'a> {
    /// Its name in the package.
    pub name: &'a str,
    /// A serialized `CoreML.Specification.Model` with one function.
    pub model: &'a [u8],
}

impl<'a> NamedFunction<'a> {
    /// A function under this name.
    pub fn new(name: &'a str, model: &'a [u8]) -> Self {
        Self { name, model }
    }
}

/// How functions are to be combined.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CombineOptions {
    /// The function that is used when none is named.
    pub default_function: String,
    /// One line that says what the package is.
    pub short_description: String,
    /// The `userDefined` metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl CombineOptions {
    /// A package in which this function is used when none is named.
    pub fn new(default_function: impl Into<String>) -> Self {
        Self { default_function: default_function.into(), ..Self::default() }
    }
}

builders! {
    impl CombineOptions {
        with_short_description(short_description: impl Into<String>);
        with_metadata(metadata: BTreeMap<String, String>);
    }
}
