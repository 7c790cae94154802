//! `metadata.json`: the summary that model viewers show.
//!
//! Nothing is computed from it when a model runs. Where no output of Apple's compiler has shown
//! what it writes, the summary says its best, and the guess is told.

mod features;
mod histogram;
mod json;
mod precision;

use anemll_mil::text::Guess;
use coreml_proto::{FeatureDescription, FunctionDescription, Model, ModelDescription, mil};
use serde_json::{Map, Value, json};

pub use json::to_text;

/// The oldest systems for a specification version: macOS, then iOS, tvOS and Mac Catalyst, then
/// watchOS, then visionOS.
const AVAILABILITY: [(i32, [&str; 4]); 4] = [
    (6, ["12.0", "15.0", "8.0", "1.0"]),
    (7, ["13.0", "16.0", "9.0", "1.0"]),
    (8, ["14.0", "17.0", "10.0", "1.0"]),
    (9, ["15.0", "18.0", "11.0", "2.0"]),
];

/// The content of `metadata.json`, and what of it is guessed.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// A list of one object.
    pub value: Value,
    /// Guessed parts, each with the first place that needs it.
    pub guesses: Vec<Guess>,
}

/// Collects guesses, one of each kind.
#[derive(Default)]
pub(crate) struct Guesses(Vec<Guess>);

impl Guesses {
    pub(crate) fn add(&mut self, what: &'static str, place: &str, evidence: &'static str) {
        if self.0.iter().all(|known| known.what != what) {
            self.0.push(Guess { what, place: place.to_owned(), evidence });
        }
    }
}

/// A function as the summary sees it: its description's lists, and its program.
struct Described<'a> {
    inputs: &'a [FeatureDescription],
    outputs: &'a [FeatureDescription],
    states: &'a [FeatureDescription],
    name: &'a str,
    function: &'a mil::Function,
}

/// The summary of a model that comes from a file or package with this stem (its name without the
/// ending).
///
/// # Errors
/// A sentence: no program, a default function or a described one that the program lacks, a function
/// without the block that its opset names, features without a type.
pub fn summary(model: &Model, stem: &str) -> Result<Summary, String> {
    let empty = ModelDescription::default();
    let description = model.description.as_ref().unwrap_or(&empty);
    let program = anemll_mil::model::program(model).map_err(|error| error.to_string())?;
    let described = described(description, program)?;
    let mut guesses = Guesses::default();

    let several = !description.functions.is_empty();
    let default = if several {
        let name = &description.default_function_name;
        described.iter().find(|function| function.name == name).ok_or_else(|| {
            format!("the default function {name:?} is not one of the description's functions")
        })?
    } else {
        described.first().ok_or("the program has no function")?
    };
    // The storage of all functions together, which share their weights.
    let all: Vec<&mil::Function> = described.iter().map(|function| function.function).collect();

    let metadata = description.metadata.clone().unwrap_or_default();
    let mut top = Map::new();
    let text = |top: &mut Map<String, Value>, key: &str, value: String| {
        if !value.is_empty() {
            top.insert(key.to_owned(), value.into());
        }
    };
    text(&mut top, "shortDescription", metadata.short_description);
    top.insert("metadataOutputVersion".to_owned(), "3.0".into());
    if let Some(storage) = precision::storage(&all, &mut guesses)? {
        top.insert("storagePrecision".to_owned(), storage.into());
    }
    top.insert("outputSchema".to_owned(), features::schema(default.outputs, &mut guesses)?);
    text(&mut top, "version", metadata.version_string);
    top.insert("modelParameters".to_owned(), json!([]));
    text(&mut top, "author", metadata.author);
    top.insert("specificationVersion".to_owned(), model.specification_version.into());
    if several {
        let functions: Result<Vec<Value>, String> =
            described.iter().map(|function| of_function(function, &mut guesses)).collect();
        top.insert("functions".to_owned(), functions?.into());
    }
    insert_program(&mut top, default.function, &mut guesses)?;
    text(&mut top, "license", metadata.license);
    top.insert("isUpdatable".to_owned(), flag(model.is_updatable));
    top.insert("stateSchema".to_owned(), features::schema(default.states, &mut guesses)?);
    top.insert("availability".to_owned(), availability(model.specification_version)?);
    top.insert("modelType".to_owned(), json!({ "name": "MLModelType_mlProgram" }));
    top.insert("userDefinedMetadata".to_owned(), json!(metadata.user_defined));
    top.insert("inputSchema".to_owned(), features::schema(default.inputs, &mut guesses)?);
    if several {
        top.insert("defaultFunctionName".to_owned(), default.name.into());
    }
    top.insert("generatedClassName".to_owned(), class_name(stem).into());
    top.insert("method".to_owned(), "predict".into());
    Ok(Summary { value: json!([top]), guesses: guesses.0 })
}

/// The functions in the order of the description, or the only one.
fn described<'a>(
    description: &'a ModelDescription,
    program: &'a mil::Program,
) -> Result<Vec<Described<'a>>, String> {
    let find = |name: &str| {
        program.functions.get_key_value(name).ok_or_else(|| {
            format!("the description has the function {name:?}, which the program lacks")
        })
    };
    if description.functions.is_empty() {
        let only = match program.functions.len() {
            1 => program.functions.iter().next(),
            _ => program.functions.get_key_value(anemll_mil::model::MAIN),
        };
        let (name, function) = only.ok_or_else(|| {
            format!(
                "the program has {} functions, and the description names none of them",
                program.functions.len()
            )
        })?;
        return Ok(vec![Described {
            inputs: &description.input,
            outputs: &description.output,
            states: &description.state,
            name,
            function,
        }]);
    }
    let functions = description.functions.iter().map(|function: &FunctionDescription| {
        let (name, body) = find(&function.name)?;
        Ok(Described {
            inputs: &function.input,
            outputs: &function.output,
            states: &function.state,
            name,
            function: body,
        })
    });
    functions.collect()
}

/// An entry of `functions`.
fn of_function(function: &Described<'_>, guesses: &mut Guesses) -> Result<Value, String> {
    let mut entry = Map::new();
    entry.insert("inputSchema".to_owned(), features::schema(function.inputs, guesses)?);
    if let Some(storage) = precision::storage(&[function.function], guesses)? {
        guesses.add(
            "metadata.json: the storage precision of each function",
            function.name,
            "the summary of one function has it; the published models of several functions have \
             no weights",
        );
        entry.insert("storagePrecision".to_owned(), storage.into());
    }
    entry.insert("stateSchema".to_owned(), features::schema(function.states, guesses)?);
    entry.insert("outputSchema".to_owned(), features::schema(function.outputs, guesses)?);
    entry.insert("name".to_owned(), function.name.into());
    insert_program(&mut entry, function.function, guesses)?;
    Ok(entry.into())
}

/// What the operations of a function say.
fn insert_program(
    entry: &mut Map<String, Value>,
    function: &mil::Function,
    guesses: &mut Guesses,
) -> Result<(), String> {
    let histogram = histogram::histogram(function, guesses)?;
    entry.insert("mlProgramOperationTypeHistogram".to_owned(), json!(histogram));
    if let Some(compute) = precision::compute(function)? {
        entry.insert("computePrecision".to_owned(), compute.into());
    }
    Ok(())
}

fn flag(set: bool) -> Value {
    Value::from(if set { "1" } else { "0" })
}

fn availability(version: i32) -> Result<Value, String> {
    let row = AVAILABILITY.iter().find(|(known, _)| *known == version);
    let (_, [mac, phone, watch, vision]) =
        row.ok_or_else(|| format!("specification version {version} is not written"))?;
    Ok(json!({
        "macOS": mac, "tvOS": phone, "visionOS": vision, "watchOS": watch, "iOS": phone,
        "macCatalyst": phone,
    }))
}

/// Name of the class that Xcode would generate: letters, digits and `_` of the stem.
fn class_name(stem: &str) -> String {
    let legal = |character: char| character.is_ascii_alphanumeric() || character == '_';
    stem.chars().map(|character| if legal(character) { character } else { '_' }).collect()
}

/// All operations of a block, those of blocks inside it after their own operation. The nesting of
/// a decoded message is bounded, and so is the recursion here.
pub(crate) fn visit<'a>(block: &'a mil::Block, see: &mut dyn FnMut(&'a mil::Operation)) {
    for operation in &block.operations {
        see(operation);
        for inner in &operation.blocks {
            visit(inner, see);
        }
    }
}

#[cfg(test)]
mod tests;
