//! Joining functions into one model, and reading what a model's functions take and give.

use crate::dtype::DataType;
use crate::error::{Error, Result};
use crate::identifier;
use crate::model::{MAIN, block, program, value_type};
use crate::types::{Dimension, Symbols, TensorType, ValueType};
use coreml_proto::array_feature_type::ShapeFlexibility;
use coreml_proto::{
    FeatureDescription, FunctionDescription, Metadata, Model, ModelDescription, feature_type, mil,
    model,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// An input, output or state of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Element type.
    pub data_type: DataType,
    /// Shape in the program, with unknown sizes where several are allowed.
    pub shape: Vec<Dimension>,
    /// Shapes that the description names, the default first. Empty for an output whose size
    /// depends on the inputs.
    pub shapes: Vec<Vec<u64>>,
}

/// What a function takes, gives and keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionInterface {
    /// Name of the function.
    pub name: String,
    /// Inputs in the order of the description.
    pub inputs: Vec<Port>,
    /// Outputs in the order of the description.
    pub outputs: Vec<Port>,
    /// States in the order of the description.
    pub states: Vec<Port>,
}

/// The lists of a function's description, and the names of what a classifier predicts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Features<'a> {
    pub(crate) name: &'a str,
    pub(crate) inputs: &'a [FeatureDescription],
    pub(crate) outputs: &'a [FeatureDescription],
    pub(crate) states: &'a [FeatureDescription],
    pub(crate) predicted: [&'a str; 2],
}

/// The descriptions of all functions, in the order of the model: those of
/// `description.functions`, or the top-level lists for `main`.
pub(crate) fn features(description: &ModelDescription) -> Vec<Features<'_>> {
    if description.functions.is_empty() {
        return vec![Features {
            name: MAIN,
            inputs: &description.input,
            outputs: &description.output,
            states: &description.state,
            predicted: [
                &description.predicted_feature_name,
                &description.predicted_probabilities_name,
            ],
        }];
    }
    description
        .functions
        .iter()
        .map(|function| Features {
            name: &function.name,
            inputs: &function.input,
            outputs: &function.output,
            states: &function.state,
            predicted: [&function.predicted_feature_name, &function.predicted_probabilities_name],
        })
        .collect()
}

/// The same by name; the first of two with one name.
pub(crate) fn features_by_name(description: &ModelDescription) -> HashMap<&str, Features<'_>> {
    features(description).into_iter().rev().map(|features| (features.name, features)).collect()
}

/// What each function of a model takes, gives and keeps, in the order of the description.
///
/// Errors: no program or description, features that are no arrays, names that the program lacks.
pub fn interface(model: &Model) -> Result<Vec<FunctionInterface>> {
    let program = program(model)?;
    let description =
        model.description.as_ref().ok_or_else(|| Error::new("the model has no description"))?;
    features(description)
        .into_iter()
        .map(|features| {
            function_interface(program, features).map_err(|error| error.in_function(features.name))
        })
        .collect()
}

fn function_interface(program: &mil::Program, features: Features<'_>) -> Result<FunctionInterface> {
    let function = program
        .functions
        .get(features.name)
        .ok_or_else(|| Error::new("the program lacks the function"))?;
    let symbols = Symbols::default();
    let outputs = block(function)?.operations.iter().flat_map(|operation| &operation.outputs);
    let types: HashMap<&str, &mil::NamedValueType> =
        function.inputs.iter().chain(outputs).map(|value| (value.name.as_str(), value)).collect();
    let ports = |list: &[FeatureDescription]| -> Result<Vec<Port>> {
        list.iter()
            .map(|feature| {
                let value = types.get(feature.name.as_str()).ok_or_else(|| {
                    Error::new(format!("the program has no value `{}`", feature.name))
                })?;
                match value_type(value, &symbols)? {
                    ValueType::Tensor(tensor) | ValueType::State(tensor) => port(feature, tensor),
                    other => Err(Error::new(format!("`{}` is {other}", feature.name))),
                }
            })
            .collect()
    };
    Ok(FunctionInterface {
        name: features.name.to_owned(),
        inputs: ports(features.inputs)?,
        outputs: ports(features.outputs)?,
        states: ports(features.states)?,
    })
}

fn port(feature: &FeatureDescription, tensor: TensorType) -> Result<Port> {
    let array = array_feature(feature)?;
    let read = |shape: &[i64]| -> Result<Vec<u64>> {
        shape
            .iter()
            .map(|size| u64::try_from(*size))
            .collect::<Result<_, _>>()
            .map_err(|_| Error::new(format!("`{}` has the shape {shape:?}", feature.name)))
    };
    let default = read(&array.shape)?;
    let mut shapes = Vec::new();
    if !default.is_empty() || tensor.rank() == 0 {
        shapes.push(default);
    } else if let Some(fixed) = tensor.fixed_shape() {
        shapes.push(fixed);
    }
    if let Some(ShapeFlexibility::EnumeratedShapes(list)) = &array.shape_flexibility {
        let mut known: HashSet<Vec<u64>> = shapes.iter().cloned().collect();
        for shape in &list.shapes {
            let shape = read(&shape.shape)?;
            if known.insert(shape.clone()) {
                shapes.push(shape);
            }
        }
    }
    Ok(Port {
        name: feature.name.clone(),
        data_type: tensor.data_type,
        shape: tensor.shape,
        shapes,
    })
}

/// The array of an input, output or state.
pub(crate) fn array_feature(
    feature: &FeatureDescription,
) -> Result<&coreml_proto::ArrayFeatureType> {
    use coreml_proto::state_feature_type::Type as StateType;
    let kind = feature.r#type.as_ref().and_then(|kind| kind.r#type.as_ref());
    match kind {
        Some(feature_type::Type::MultiArrayType(array)) => Ok(array),
        Some(feature_type::Type::StateType(state)) => match &state.r#type {
            Some(StateType::ArrayType(array)) => Ok(array),
            None => Err(Error::new(format!("state `{}` has no type", feature.name))),
        },
        Some(_) => Err(Error::new(format!("`{}` is described as no array", feature.name))),
        None => Err(Error::new(format!("`{}` is described without a type", feature.name))),
    }
}

/// First specification version that knows several functions.
const FIRST_WITH_FUNCTIONS: i32 = 9;

/// A function of a model, and the name that it gets in another one.
#[derive(Debug, Clone, Copy)]
pub struct FunctionSource<'a> {
    /// The new name.
    pub name: &'a str,
    /// The model that has the function.
    pub model: &'a Model,
    /// Its name there. `None` takes the only function, or of several the one that has the new name.
    pub function: Option<&'a str>,
}

/// One model of several functions, in the given order, each the only function of its model, or the
/// one of its name: [`combine_sources`] for models in hand.
///
/// Errors: as [`combine_sources`].
pub fn combine_functions(
    functions: &[(&str, Model)],
    default: &str,
    short_description: &str,
    metadata: &BTreeMap<String, String>,
) -> Result<Model> {
    let sources: Vec<FunctionSource<'_>> = functions
        .iter()
        .map(|(name, model)| FunctionSource { name, model, function: None })
        .collect();
    combine_sources(&sources, default, short_description, metadata)
}

/// One model of several functions, in the given order, taken from models of one or several.
///
/// Weights are shared by what the functions already share: equal offsets of one weight file.
/// Author, license and version are those of the first model; `metadata` becomes the user-defined
/// entries. The specification version is the highest of the models, but at least 9, the first with
/// several functions; a function keeps its opset.
///
/// Errors: names that are not legal, equal or missing; a default that is none of them; a model
/// without the function, or with several where none is named; opsets that differ; a state of one
/// name with two types (the message says which); models that can be trained on the device.
pub fn combine_sources(
    functions: &[FunctionSource<'_>],
    default: &str,
    short_description: &str,
    metadata: &BTreeMap<String, String>,
) -> Result<Model> {
    let Some(first) = functions.first() else {
        return Err(Error::new("no function to combine"));
    };
    if !functions.iter().any(|source| source.name == default) {
        return Err(Error::new(format!("the default function `{default}` is not among them")));
    }
    let mut parts = BTreeMap::new();
    let mut descriptions = Vec::new();
    let mut states: BTreeMap<String, (&str, Port)> = BTreeMap::new();
    let mut opset: Option<&str> = None;
    let mut specification_version = FIRST_WITH_FUNCTIONS;
    for FunctionSource { name, model, function } in functions {
        let place = |error: Error| error.in_function(name);
        if !identifier::is_legal(name) {
            return Err(Error::new(format!("{name:?} is not a legal name for a function")));
        }
        specification_version = specification_version.max(model.specification_version);
        let (function, features) = pick(model, name, *function).map_err(place)?;
        let known = opset.get_or_insert(&function.opset);
        if *known != function.opset {
            return Err(Error::new(format!(
                "opsets differ: `{}` has {known}, `{name}` has {}",
                first.name, function.opset
            )));
        }
        let interface =
            function_interface(program(model).map_err(place)?, features).map_err(place)?;
        for state in interface.states {
            let same =
                |other: &Port| other.data_type == state.data_type && other.shapes == state.shapes;
            match states.get(&state.name) {
                Some((_, other)) if same(other) => {}
                Some((owner, other)) => {
                    return Err(Error::new(format!(
                        "state `{}` is {} {:?} in `{owner}`, but {} {:?} in `{name}`",
                        state.name,
                        other.data_type,
                        other.shapes.first().map_or(&[][..], Vec::as_slice),
                        state.data_type,
                        state.shapes.first().map_or(&[][..], Vec::as_slice),
                    )));
                }
                None => {
                    states.insert(state.name.clone(), (name, state));
                }
            }
        }
        if parts.insert((*name).to_owned(), function.clone()).is_some() {
            return Err(Error::new(format!("two functions are named `{name}`")));
        }
        let [predicted_feature_name, predicted_probabilities_name] =
            features.predicted.map(str::to_owned);
        descriptions.push(FunctionDescription {
            name: (*name).to_owned(),
            input: features.inputs.to_vec(),
            output: features.outputs.to_vec(),
            state: features.states.to_vec(),
            predicted_feature_name,
            predicted_probabilities_name,
        });
    }
    let description = ModelDescription {
        functions: descriptions,
        default_function_name: default.to_owned(),
        metadata: Some(Metadata {
            short_description: short_description.to_owned(),
            user_defined: metadata.clone(),
            ..original_metadata(first.model)
        }),
        ..ModelDescription::default()
    };
    Ok(with_functions(first.model, specification_version, description, parts))
}

/// A model with one function of another as `main`, described as models of one function are.
/// Metadata and specification version stay.
///
/// Errors: a model without the function, or that can be trained on the device.
pub fn extract_function(model: &Model, function: &str) -> Result<Model> {
    let (body, features) = pick(model, function, Some(function))?;
    let [predicted_feature_name, predicted_probabilities_name] =
        features.predicted.map(str::to_owned);
    let description = ModelDescription {
        input: features.inputs.to_vec(),
        output: features.outputs.to_vec(),
        state: features.states.to_vec(),
        predicted_feature_name,
        predicted_probabilities_name,
        metadata: Some(original_metadata(model)),
        ..ModelDescription::default()
    };
    let functions = BTreeMap::from([(MAIN.to_owned(), body.clone())]);
    Ok(with_functions(model, model.specification_version, description, functions))
}

fn original_metadata(model: &Model) -> Metadata {
    model.description.as_ref().and_then(|d| d.metadata.clone()).unwrap_or_default()
}

/// A model of these functions, with the program attributes of `origin`.
fn with_functions(
    origin: &Model,
    specification_version: i32,
    description: ModelDescription,
    functions: BTreeMap<String, mil::Function>,
) -> Model {
    let attributes = program(origin).map(|program| program.attributes.clone()).unwrap_or_default();
    let program = mil::Program { version: 1, functions, doc_string: String::new(), attributes };
    Model {
        specification_version,
        description: Some(description),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(program)),
    }
}

/// A function of a model, and its description.
fn pick<'a>(
    model: &'a Model,
    new_name: &str,
    function: Option<&str>,
) -> Result<(&'a mil::Function, Features<'a>)> {
    let program = program(model)?;
    let description =
        model.description.as_ref().ok_or_else(|| Error::new("the model has no description"))?;
    if model.is_updatable || !description.training_input.is_empty() {
        return Err(Error::new("the model can be trained on the device, which would be lost"));
    }
    let all = features(description);
    let names = || all.iter().map(|features| features.name).collect::<Vec<_>>().join("`, `");
    let found = match (function, all.as_slice()) {
        (Some(wanted), _) => {
            all.iter().find(|features| features.name == wanted).ok_or_else(|| {
                Error::new(format!("the model has no function `{wanted}`, only `{}`", names()))
            })?
        }
        (None, [only]) => only,
        (None, _) => all.iter().find(|features| features.name == new_name).ok_or_else(|| {
            Error::new(format!(
                "the model has {} functions, `{}`: say which one",
                all.len(),
                names()
            ))
        })?,
    };
    let body = program.functions.get(found.name).ok_or_else(|| {
        Error::new(format!("the description is of `{}`, the program lacks it", found.name))
    })?;
    Ok((body, *found))
}
