//! All that is found out about a model. `docs/reference/inspect.md` describes its JSON form.

use super::features::{self, FunctionInspection};
use super::findings::FindingInspection;
use super::open::{Form, Opened, Part};
use super::weights::{self, LayerInspection, RecordInspection, WeightInspection};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the JSON form; keys may be added within one.
pub const SCHEMA: u32 = 1;

/// Bytes of a weight file's header, and of a record's metadata.
const RECORD_HEAD: u64 = 64;

/// What is shown of a model.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The path as given.
    pub path: String,
    /// What was opened.
    pub form: Form,
    /// Core ML specification version.
    pub specification_version: i32,
    /// The oldest systems that load it.
    pub minimum_system: &'static str,
    /// The function that runs when none is named.
    pub default_function: Option<String>,
    /// What the model is.
    pub short_description: String,
    /// Author.
    pub author: String,
    /// License.
    pub license: String,
    /// Version of the model, or of the tool that made it.
    pub version: String,
    /// Metadata of the model's author.
    pub metadata: BTreeMap<String, String>,
    /// All files.
    pub files: Vec<Part>,
    /// Bytes of program and description.
    pub model_bytes: u64,
    /// Bytes of all weight files.
    pub weight_file_bytes: u64,
    /// Bytes of the weight files that are neither header nor a record of the program: padding,
    /// and records that nothing uses.
    pub unused_bytes: u64,
    /// Number of values of all weights.
    pub elements: u64,
    /// Bits for each value of all weights.
    pub bits: f64,
    /// Bytes that the weights would take if every function had its own.
    pub unshared_bytes: u64,
    /// Functions in the order of the description.
    pub functions: Vec<FunctionInspection>,
    /// Sums by layer.
    pub layers: Vec<LayerInspection>,
    /// Weights in the order in which functions use them.
    pub weights: Vec<WeightInspection>,
    /// Records of the weight files that the program names, once each.
    pub records: Vec<RecordInspection>,
    /// What the Neural Engine would not like.
    pub findings: Vec<FindingInspection>,
    /// Versions of the tools that made a compiled model.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub build_info: BTreeMap<String, String>,
    /// Parts of a compiled model whose form is guessed; absent for packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guesses: Option<Vec<GuessInspection>>,
}

/// A part of a compiled model that no output of Apple's compiler has shown yet.
#[derive(Debug, Serialize)]
pub struct GuessInspection {
    /// What is guessed.
    pub what: &'static str,
    /// Where the model has it first.
    pub place: String,
    /// What speaks for the guess.
    pub evidence: &'static str,
}

/// What to look at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope<'a> {
    /// Only this function.
    pub function: Option<&'a str>,
    /// Whether to read the values of the weights.
    pub values: bool,
}

impl Inspection {
    /// Looks at a model.
    pub fn of(opened: &Opened, scope: Scope<'_>) -> Result<Self> {
        let model = opened.model();
        let functions = check_function(opened, features::functions(model), scope.function)?;
        let weights = weights::weights(opened, scope.function, scope.values)?;
        let layers = weights::layers(&weights);
        let records = weights::records(&weights);
        let description = model.description.clone().unwrap_or_default();
        let metadata = description.metadata.unwrap_or_default();
        let sum = |of: fn(&WeightInspection) -> u64| {
            weights.iter().fold(0_u64, |sum, weight| sum.saturating_add(of(weight)))
        };
        let (elements, bytes) = (sum(|weight| weight.elements), sum(|weight| weight.bytes));
        let used = records
            .iter()
            .fold(0_u64, |sum, record| sum.saturating_add(record.part.bytes + RECORD_HEAD));
        let heads = RECORD_HEAD * opened.files().len() as u64;
        let all = scope.function.is_none();
        let unused_bytes =
            if all { opened.weight_bytes().saturating_sub(used.saturating_add(heads)) } else { 0 };
        Ok(Self {
            schema: SCHEMA,
            path: opened.path().display().to_string(),
            form: opened.form(),
            specification_version: model.specification_version,
            minimum_system: minimum_system(model.specification_version),
            default_function: Some(description.default_function_name)
                .filter(|name| !name.is_empty()),
            short_description: metadata.short_description,
            author: metadata.author,
            license: metadata.license,
            version: metadata.version_string,
            metadata: metadata.user_defined,
            files: opened.parts(),
            model_bytes: opened.program_bytes(),
            weight_file_bytes: opened.weight_bytes(),
            unused_bytes,
            elements,
            bits: weights::bits(bytes, elements),
            unshared_bytes: sum(|weight| {
                weight.bytes.saturating_mul(weight.functions.len() as u64)
            }),
            functions,
            layers,
            findings: super::findings::of(opened, scope.function),
            build_info: opened.build_info(),
            guesses: (opened.form() == Form::Compiled).then(|| guesses(opened)),
            weights,
            records,
        })
    }

    /// Bytes of everything.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

/// The functions, or the one that is named.
pub fn check_function(
    opened: &Opened,
    functions: Vec<FunctionInspection>,
    name: Option<&str>,
) -> Result<Vec<FunctionInspection>> {
    let Some(name) = name else { return Ok(functions) };
    let names: Vec<String> = functions.iter().map(|function| function.name.clone()).collect();
    let found: Vec<_> = functions.into_iter().filter(|function| function.name == name).collect();
    if found.is_empty() {
        return Err(Error::new(
            codes::FUNCTION_UNKNOWN,
            format!("the model has no function `{name}`"),
        )
        .with_at(opened.path().display().to_string())
        .with_hint(format!("its functions are {}", names.join(", "))));
    }
    Ok(found)
}

/// Of the published table of specification versions.
pub fn minimum_system(version: i32) -> &'static str {
    match version {
        ..=5 => "iOS 14, macOS 11 or older",
        6 => "iOS 15, macOS 12",
        7 => "iOS 16, macOS 13",
        8 => "iOS 17, macOS 14",
        9 => "iOS 18, macOS 15",
        10 => "iOS 26, macOS 26",
        _ => "newer than iOS 26, macOS 26",
    }
}

fn guesses(opened: &Opened) -> Vec<GuessInspection> {
    anemll_mil::text::guesses(opened.model())
        .into_iter()
        .map(|guess| GuessInspection {
            what: guess.what,
            place: guess.place,
            evidence: guess.evidence,
        })
        .collect()
}
