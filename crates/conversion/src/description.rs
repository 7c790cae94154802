//! The description of a conversion. Its JSON form is in docs/reference/run.md.

use anemll_layout::anemll;
use anemll_plugin_api::data::{
    Joined, Layout, ModelDescription, PackageKind, PackageSpec, Pooling, RunOrder, RunStep,
    StateInfo, StateKind,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the file in the output directory.
pub const FILE: &str = "anemll-run.json";
/// Version of the schema.
pub const SCHEMA: u32 = 1;

/// What is in a conversion, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Version of this schema.
    pub schema: u32,
    /// The combiner that laid the packages out; empty where it is not known.
    pub combiner: String,
    /// Tokens that the state holds; where it is not known, the mask says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Tokens of one call of prefill; where it is not known, the mask says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// The packages in the order of the layout.
    pub packages: Vec<PackageEntry>,
    /// What the host gives to the functions.
    #[serde(default)]
    pub inputs: InputNames,
    /// What the last function gives.
    #[serde(default)]
    pub head: HeadNames,
    /// The states that functions share, by name; each package has its own.
    #[serde(default)]
    pub states: Vec<String>,
    /// Those of the states that tokens replace, by name: there is no going back in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recurrent: Vec<String>,
    /// Those of the states that hold the last positions alone, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rings: BTreeMap<String, Ring>,
    /// What vectors it gives, and of which texts, where it gives those and no logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Embedding>,
    /// All that ships as one model, as compilers make it that join packages; packages by their paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
    /// The calls that make up a pass, and what goes from one to the next.
    #[serde(flatten)]
    pub run: RunOrder,
}

/// A cache that holds the last positions alone, each at the place that its number leaves when it is
/// divided by their count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// How many positions it holds.
    pub positions: u64,
    /// Tokens that a token sees of them, itself among them.
    pub window: u64,
}

impl Ring {
    /// That of a state, if it is one and says its sizes.
    fn of(state: &StateInfo) -> Option<Self> {
        let (window, positions) = (state.window?, *state.shape.get(2)?);
        (state.kind == StateKind::Ring).then_some(Self { positions, window })
    }
}

/// The vectors of a conversion: what they are, and how texts become tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embedding {
    /// Elements of a vector.
    pub dimension: u64,
    /// Tokens that the model knows.
    pub vocabulary: u64,
    /// How much each token counts.
    pub pooling: Pooling,
    /// Whether vectors have length 1.
    pub normalized: bool,
    /// Whether tokens see those behind them too: the mask then opens all tokens of the text in every
    /// row, and the text goes through in one call.
    #[serde(default)]
    pub bidirectional: bool,
    /// Whether texts are put into lower case first.
    #[serde(default)]
    pub lowercase: bool,
    /// Texts that stand before texts of a kind, by its name.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
    /// The kind of a text of which nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_prompt: Option<String>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageEntry {
    /// Its path below the output directory, without the ending.
    pub path: String,
    /// What it is there for.
    pub kind: PackageKind,
    /// Whether apps load it; the others are parts on the way, or for evaluation.
    pub ships: bool,
    /// Its functions.
    pub functions: Vec<FunctionEntry>,
    /// The function that runs when none is named, of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_function: Option<String>,
}

/// A function of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionEntry {
    /// Its name.
    pub name: String,
    /// The package that has it alone, where this one was combined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<RunStep>,
}

/// Inputs that the host makes, by what they are for. A function takes those that it has use for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputNames {
    /// Token ids, int32 (1, tokens).
    pub tokens: String,
    /// The position of each token, int32 (tokens).
    pub positions: String,
    /// The position of the first token, int32 (1).
    pub position: String,
    /// 0 where a token sees a position, else minus infinity: float16 (1, 1, tokens, context).
    pub mask: String,
}

impl Default for InputNames {
    fn default() -> Self {
        Self {
            tokens: anemll::INPUT_TOKENS.to_owned(),
            positions: anemll::INPUT_POSITIONS.to_owned(),
            position: anemll::INPUT_POSITION.to_owned(),
            mask: anemll::INPUT_MASK.to_owned(),
        }
    }
}

/// Outputs that the host reads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeadNames {
    /// The logits, piece by piece; empty where the functions' outputs are to be looked at.
    #[serde(default)]
    pub logits: Vec<String>,
    /// The largest logit of each piece; where a function gives it, it counts and not the logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<LargestNames>,
    /// Tokens of each piece; empty where the metadata of the last package says it.
    #[serde(default)]
    pub sizes: Vec<u64>,
}

/// The outputs of a head that chooses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargestNames {
    /// Where in its piece the largest logit is, int32 (pieces).
    pub index: String,
    /// The largest logit (pieces).
    pub value: String,
}

impl LargestNames {
    /// As ANEMLL names them.
    pub fn anemll() -> Self {
        Self { index: anemll::LARGEST_INDEX.to_owned(), value: anemll::LARGEST_VALUE.to_owned() }
    }
}

impl Description {
    /// That of a layout of a model; `outputs` are those of all functions that are called last.
    pub fn of_layout<'a>(
        layout: &Layout,
        model: &ModelDescription,
        outputs: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Self {
        let ships: Vec<&str> = shipped(layout).map(|package| package.stem.as_str()).collect();
        let names = LargestNames::anemll();
        let largest = outputs.clone().into_iter().any(|output| output == names.index);
        let entry = |package: &PackageSpec| PackageEntry {
            path: package.path(),
            kind: package.kind,
            ships: ships.contains(&package.stem.as_str()),
            functions: functions(layout, package),
            default_function: package.default_function.clone(),
        };
        let own = if layout.states.is_empty() { &model.states } else { &layout.states };
        let states = || own.iter().filter(|state| !state.name.is_empty());
        let ring = |state: &StateInfo| Some((state.name.clone(), Ring::of(state)?));
        // A ring of which nothing is known is gone through once, as what each token replaces.
        let recurrent = |state: &&StateInfo| match state.kind {
            StateKind::Cache => false,
            _ => Ring::of(state).is_none(),
        };
        Self {
            schema: SCHEMA,
            combiner: layout.combiner.clone(),
            context: Some(model.context),
            batch: Some(model.batch),
            packages: layout.packages.iter().map(entry).collect(),
            inputs: InputNames::default(),
            head: HeadNames {
                logits: anemll::logits(outputs),
                largest: largest.then_some(names),
                sizes: model.head_splits.clone(),
            },
            states: states().map(|state| state.name.clone()).collect(),
            recurrent: states().filter(recurrent).map(|state| state.name.clone()).collect(),
            rings: states().filter_map(ring).collect(),
            embedding: None,
            joined: None,
            run: layout.run.clone(),
        }
    }

    /// Of a conversion of which no more is known than the calls.
    pub(crate) fn of_run(run: RunOrder) -> Self {
        let mut packages: Vec<PackageEntry> = Vec::new();
        for step in run.infer.iter().chain(&run.prefill) {
            let function = FunctionEntry { name: step.function.clone(), part: None };
            match packages.iter_mut().find(|package| package.path == step.package) {
                Some(package) if package.functions.contains(&function) => {}
                Some(package) => package.functions.push(function),
                None => packages.push(PackageEntry {
                    path: step.package.clone(),
                    kind: PackageKind::Part,
                    ships: true,
                    functions: vec![function],
                    default_function: None,
                }),
            }
        }
        for package in packages.iter_mut().filter(|package| package.functions.len() > 1) {
            package.kind = PackageKind::Combined;
        }
        Self {
            schema: SCHEMA,
            combiner: String::new(),
            context: None,
            batch: None,
            packages,
            inputs: InputNames::default(),
            head: HeadNames { largest: Some(LargestNames::anemll()), ..HeadNames::default() },
            states: Vec::new(),
            recurrent: Vec::new(),
            rings: BTreeMap::new(),
            embedding: None,
            joined: None,
            run,
        }
    }

    /// All calls.
    pub fn calls(&self) -> impl Iterator<Item = &RunStep> {
        let run = &self.run;
        let prompts = run.infer.iter().chain(&run.prefill);
        prompts.chain(&run.verify).chain(&run.evaluate).chain(&run.embed)
    }

    /// The models that apps load, without the ending: in the order of their first call, then those
    /// that are not called.
    pub fn models(&self) -> Vec<&str> {
        let ships = |path: &str| self.packages.iter().any(|one| one.ships && one.path == path);
        let run = &self.run;
        let called = run.infer.iter().chain(&run.prefill).chain(&run.verify).chain(&run.embed);
        let called = called.map(|call| &*call.package);
        let all = self.packages.iter().map(|package| &*package.path);
        let mut models: Vec<&str> = Vec::new();
        for path in called.chain(all).filter(|path| ships(path)) {
            if !models.contains(&path) {
                models.push(path);
            }
        }
        models
    }

    /// What of it holds for a copy of what apps load, without the parts and without evaluation.
    #[must_use]
    pub fn shipped(&self) -> Self {
        let mut packages = self.packages.clone();
        packages.retain(|package| package.ships);
        for function in packages.iter_mut().flat_map(|package| &mut package.functions) {
            function.part = None;
        }
        let run = self.run.clone().with_evaluate(Vec::new());
        Self { packages, run, ..self.clone() }
    }
}

/// The packages of a layout that apps load: combined ones, and parts which no combined one replaces.
pub fn shipped(layout: &Layout) -> impl Iterator<Item = &PackageSpec> {
    let combined: Vec<&str> = layout
        .packages
        .iter()
        .filter(|package| package.kind == PackageKind::Combined)
        .map(|package| package.weight_file.as_str())
        .collect();
    layout.packages.iter().filter(move |package| match package.kind {
        PackageKind::Combined => true,
        PackageKind::Part => !combined.contains(&package.weight_file.as_str()),
        _ => false,
    })
}

fn functions(layout: &Layout, package: &PackageSpec) -> Vec<FunctionEntry> {
    let alone = |id: &str| {
        let part = layout.packages.iter().find(|part| {
            part.kind == PackageKind::Part
                && part.functions.len() == 1
                && part.functions[0].id == id
        })?;
        Some(part.call(&part.functions[0].name))
    };
    let combined = package.kind == PackageKind::Combined;
    package
        .functions
        .iter()
        .map(|function| FunctionEntry {
            name: function.name.clone(),
            part: if combined { alone(&function.id) } else { None },
        })
        .collect()
}
